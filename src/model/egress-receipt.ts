import { isSignedBy, type KeyPair } from './key-pair.js'
import { sortedJson } from './sorted-json.js'
import type { EgressDestination, ExecutionId, JobId, NodeId, TimeMs } from './state.js'

/** In every receipt, and in front of what is signed: a signature over something else can never pass for one. */
export const RECEIPT_TYPE = 'weir.egress-receipt/1'

/** Name of the receipt among downloaded results; those of several executions are lines of one file. */
export const RECEIPT_FILE = 'egress-receipt.json'

/**
 * What a node says, over its signature, about everything that left one execution. Without network it says that nothing could
 * leave; with `full` network it says that nothing was recorded, because that does not pass the gateway.
 */
export interface EgressReceipt {
  type: typeof RECEIPT_TYPE
  nodeId: NodeId
  /** Of the node: `U` and 55 letters and digits. Only worth something compared with what the network knows of the node. */
  publicKey: string
  jobId: JobId
  executionId: ExecutionId
  network: 'none' | 'http' | 'full'
  /** True when every public host was open to the execution, to learn what it needs. Absent: its list held. */
  learning?: true
  /** When the program began and ended, by the node's clock. */
  startTimeMs: TimeMs
  endTimeMs: TimeMs
  /** Audit records of the execution; the last one's hash, empty without records. */
  records: number
  chainHead: string
  allowed: number
  refused: number
  bytesUp: number
  bytesDown: number
  /** How many attempts ended with each code of the catalogue. */
  codes: Record<string, number>
  /** First and last generation of the node's rules under which something was tried; empty without records. */
  policyGenerations: number[]
  /** At most 100, most bytes first; refused ones are kept in preference. */
  destinations: ReceiptDestination[]
  destinationsTruncated: boolean
  /** The same in one sentence. */
  statement: string
  /** Ed25519, base64url. */
  signature: string
}

export type ReceiptDestination = Omit<EgressDestination, 'code' | 'advice'>

/** Who signs: the node's own key. */
export type ReceiptSigner = Pick<KeyPair, 'publicKey' | 'sign'>

export function signReceipt(
  facts: Omit<EgressReceipt, 'type' | 'publicKey' | 'statement' | 'signature'>,
  signer: ReceiptSigner,
): EgressReceipt {
  const unsigned = {
    type: RECEIPT_TYPE,
    ...facts,
    publicKey: signer.publicKey,
    statement: statementOf(facts),
    signature: '',
  } as const
  return { ...unsigned, signature: signer.sign(signedText(unsigned)) }
}

/** True when the owner of `publicKey` signed exactly this receipt. */
export function isReceiptOf(publicKey: string, receipt: EgressReceipt): boolean {
  return isSignedBy(publicKey, signedText(receipt), receipt.signature)
}

/** True for anything that looks like a receipt, whether it is genuine or not. */
export function isReceipt(value: unknown): value is EgressReceipt {
  if (typeof value !== 'object' || value === null) return false
  const { type, nodeId, publicKey, jobId, executionId, chainHead, records, signature } =
    value as Partial<EgressReceipt>
  const texts = [nodeId, publicKey, jobId, executionId, chainHead, signature]
  return (
    type === RECEIPT_TYPE && texts.every((text) => typeof text === 'string') && Number.isSafeInteger(records)
  )
}

/** Everything but the signature, in one spelling however the receipt was stored or sent: keys sorted, no blanks. */
function signedText({ signature: _signature, ...rest }: EgressReceipt): string {
  return `${RECEIPT_TYPE}\n${sortedJson(rest)}`
}

function statementOf({
  network,
  learning,
  records,
  allowed,
  refused,
  bytesUp,
  bytesDown,
}: Pick<
  EgressReceipt,
  'network' | 'learning' | 'records' | 'allowed' | 'refused' | 'bytesUp' | 'bytesDown'
>): string {
  if (network === 'none') return 'The execution had no network: nothing left it.'
  if (network === 'full') return 'The execution had the whole internet; what left it was not recorded.'
  if (records === 0) return 'The execution tried to reach nothing: nothing left it.'
  const open =
    learning === true ? 'Every public host was open to the execution, which was a learning one. ' : ''
  const attempts = allowed + refused
  const counted = `${allowed} of ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'} ${allowed === 1 ? 'was' : 'were'} allowed`
  return `${open}${counted}; ${bytesUp} bytes left and ${bytesDown} came in.`
}
