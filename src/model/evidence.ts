import { AuditChain } from './audit-chain.js'
import type { AuditRecord } from './audit.js'
import { type EgressReceipt, isReceipt, isReceiptOf } from './egress-receipt.js'
import type { ExecutionId, NodeId } from './state.js'

/** What is known about what left some executions: records and receipts, in any order, from anywhere. */
export interface Evidence {
  records: AuditRecord[]
  receipts: EgressReceipt[]
}

/** The verdict on one execution. */
export interface EvidenceVerdict {
  executionId: ExecutionId
  /** No problem was found in what is there; `unproven` says what could not be checked. */
  intact: boolean
  records: number
  /** Empty when there is no receipt. */
  statement: string
  /** Empty when nothing names it. */
  nodeId: NodeId
  /** What is wrong, one sentence each; a record is named by its number. */
  problems: string[]
  /** What is missing for a full proof, one sentence each. */
  unproven: string[]
}

/**
 * Checks the chain of records and the receipt of every execution that the evidence speaks of. `keyOf` knows the public keys
 * of nodes; undefined: the node is not known, and a signature then proves only that the receipt is of one piece.
 */
export function judgeEvidence(
  { records, receipts }: Evidence,
  keyOf: (nodeId: NodeId) => string | undefined,
): EvidenceVerdict[] {
  const ids = new Set([...receipts, ...records].map(({ executionId }) => executionId))
  return [...ids].map((executionId) => {
    const own = receipts.filter((receipt) => receipt.executionId === executionId)
    const chain = records.filter((record) => record.executionId === executionId)
    return judgeExecution(executionId, own, chain, keyOf)
  })
}

/**
 * Reads records and receipts out of JSON: single ones, lists, pages of the API (`Items`), executions with a receipt.
 * Everything else is counted, not believed.
 */
export function collectEvidence(values: Iterable<unknown>): Evidence & { unread: number } {
  const evidence = { records: [] as AuditRecord[], receipts: [] as EgressReceipt[], unread: 0 }
  const take = (value: unknown, depth: number): void => {
    if (isReceipt(value)) evidence.receipts.push(value)
    else if (isAuditRecord(value)) evidence.records.push(value)
    else if (depth < 4 && Array.isArray(value)) for (const item of value) take(item, depth + 1)
    else if (depth < 4 && isPlain(value) && Array.isArray(value.Items)) take(value.Items, depth + 1)
    else if (isPlain(value) && isReceipt(value.EgressReceipt)) evidence.receipts.push(value.EgressReceipt)
    else evidence.unread++
  }
  for (const value of values) take(value, 0)
  return evidence
}

function judgeExecution(
  executionId: ExecutionId,
  [receipt, ...others]: readonly EgressReceipt[],
  records: readonly AuditRecord[],
  keyOf: (nodeId: NodeId) => string | undefined,
): EvidenceVerdict {
  const problems: string[] = []
  const unproven: string[] = []
  const chain = new AuditChain()
  for (const [index, record] of records.entries()) {
    const reason = chain.add(record)
    if (reason === undefined) continue
    problems.push(`record ${index + 1} is broken: ${reason}`)
    break
  }
  if (others.some((other) => other.signature !== receipt?.signature))
    problems.push('there are several receipts that differ')
  if (receipt === undefined) {
    unproven.push(
      'there is no receipt: records at the end may be missing, and all of them may have been replaced',
    )
  } else {
    problems.push(...judgeSignature(receipt, keyOf, unproven))
    if (records.length === 0 && receipt.records > 0)
      unproven.push(`the ${receipt.records} records that the receipt counts are not here`)
    else if (problems.length === 0) problems.push(...compare(receipt, records, chain))
  }
  return {
    executionId,
    intact: problems.length === 0,
    records: records.length,
    statement: receipt?.statement ?? '',
    nodeId: receipt?.nodeId ?? records[0]?.nodeId ?? '',
    problems,
    unproven,
  }
}

function judgeSignature(
  receipt: EgressReceipt,
  keyOf: (nodeId: NodeId) => string | undefined,
  unproven: string[],
): string[] {
  const key = keyOf(receipt.nodeId)
  if (!isReceiptOf(receipt.publicKey, receipt))
    return ['the receipt was changed: its signature does not match']
  if (key === undefined)
    unproven.push(`the key of node ${receipt.nodeId} is not known here: anybody could have signed`)
  else if (key !== receipt.publicKey)
    return [`the receipt was signed with another key than that of node ${receipt.nodeId}`]
  return []
}

function compare(receipt: EgressReceipt, records: readonly AuditRecord[], chain: AuditChain): string[] {
  const strange = records.findIndex(
    ({ jobId, nodeId }) => jobId !== receipt.jobId || nodeId !== receipt.nodeId,
  )
  if (strange >= 0) return [`record ${strange + 1} belongs to another job or node than the receipt`]
  if (chain.records < receipt.records)
    return [`record ${chain.records + 1} is missing: the receipt counts ${receipt.records}`]
  if (chain.records > receipt.records)
    return [`record ${receipt.records + 1} was added: the receipt counts ${receipt.records}`]
  return chain.head === receipt.chainHead
    ? []
    : [`record ${chain.records} is not the one that the receipt was signed over: records were replaced`]
}

function isAuditRecord(value: unknown): value is AuditRecord {
  if (!isPlain(value)) return false
  const { executionId, sequence, hash, previousHash } = value
  return (
    [executionId, hash, previousHash].every((text) => typeof text === 'string') &&
    Number.isSafeInteger(sequence)
  )
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
