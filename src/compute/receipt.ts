import { type EgressReceipt, signReceipt } from '../model/egress-receipt.js'
import { isLearning } from '../model/learning.js'
import type { EgressSummary, TimeMs } from '../model/state.js'
import { task } from '../model/task-accessors.js'
import type { Run } from './run.js'

/**
 * The signed receipt of an execution whose program is gone and whose lease is closed. Undefined when the node does not sign,
 * or when it does not know what left: a receipt never guesses.
 */
export function receiptOf(
  { parts, desired }: Run,
  startTimeMs: TimeMs,
  egress: EgressSummary | undefined,
): EgressReceipt | undefined {
  const { signer, nodeId, clock } = parts
  const { jobId, executionId, jobSpec } = desired
  const network = NETWORKS[task(jobSpec).Network.Type]
  if (signer === undefined || (network === 'http' && egress === undefined)) return undefined
  const { destinations, codes = {}, policyGenerations = [], ...counted } = egress ?? NOTHING_LEFT
  const facts = {
    nodeId,
    jobId,
    executionId,
    network,
    ...(isLearning(jobSpec) && { learning: true as const }),
    startTimeMs: Math.floor(startTimeMs),
    endTimeMs: Math.floor(clock.now()),
    records: counted.records,
    chainHead: counted.chainHead,
    allowed: counted.allowed,
    refused: counted.refused,
    bytesUp: counted.bytesUp,
    bytesDown: counted.bytesDown,
    codes,
    policyGenerations,
    destinations: destinations.map(({ host, port, allowed, refused, bytesUp, bytesDown }) => ({
      host,
      port,
      allowed,
      refused,
      bytesUp,
      bytesDown,
    })),
    destinationsTruncated: counted.destinationsTruncated,
  }
  return signReceipt(facts, signer)
}

const NETWORKS = { None: 'none', HTTP: 'http', Full: 'full' } as const

const NOTHING_LEFT: EgressSummary = Object.freeze({
  records: 0,
  allowed: 0,
  refused: 0,
  bytesUp: 0,
  bytesDown: 0,
  destinations: [],
  destinationsTruncated: false,
  chainHead: '',
})
