import { WeirError, toWeirError } from '../errors.js'
import { shortId, type NodeId } from '../model/index.js'
import type { EgressReadResponse, OutputReadResponse } from '../ports/index.js'
import { isRecord } from './node-info-shape.js'

/** What a node says of an execution's output. Throws `transport.unavailable` for what cannot be such an answer. */
export function readOutputAnswer(answer: unknown, nodeId: NodeId): OutputReadResponse {
  if (!isRecord(answer) || !Array.isArray(answer.chunks) || !answer.chunks.every(isChunk))
    throw senseless(nodeId)
  if (!isCount(answer.cursor)) throw senseless(nodeId)
  return {
    chunks: answer.chunks,
    cursor: answer.cursor,
    done: answer.done === true,
    truncated: answer.truncated === true,
  }
}

/**
 * What a node says of an execution's egress records: later ones than `after`, in order, so that reading them ends.
 * Throws `transport.unavailable` for what cannot be such an answer.
 */
export function readEgressAnswer(answer: unknown, after: number, nodeId: NodeId): EgressReadResponse {
  if (!isRecord(answer) || !Array.isArray(answer.records)) throw senseless(nodeId)
  let last = after
  for (const record of answer.records as unknown[]) {
    if (!isRecord(record) || !isCount(record.sequence) || record.sequence <= last) throw senseless(nodeId)
    last = record.sequence
  }
  return { records: answer.records as EgressReadResponse['records'], done: answer.done === true }
}

/**
 * The error that a node answered with, as it may reach users: about the execution, never about their own credentials,
 * their configuration or how to log in.
 */
export function nodeError(error: unknown, nodeId: NodeId): WeirError {
  const said = toWeirError(error)
  if (said.code === 'api.overload' || !/^(?:api|access|credentials|tls|cli|config|port)\./.test(said.code))
    return said
  return senseless(nodeId, said)
}

function isChunk(chunk: unknown): chunk is OutputReadResponse['chunks'][number] {
  if (!isRecord(chunk) || typeof chunk.data !== 'string') return false
  return (chunk.stream === 'stdout' || chunk.stream === 'stderr') && isCount(chunk.timeMs)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function senseless(nodeId: NodeId, cause?: unknown): WeirError {
  return new WeirError('transport.unavailable', `Cannot read what ${shortId(nodeId)} answers`, {
    hint: 'Look at that node: it may run another version, or be broken',
    cause,
  })
}
