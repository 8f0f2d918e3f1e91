import { WeirError, toWeirError } from '../errors.js'
import { shortId, type NodeId } from '../model/index.js'
import type {
  EgressExplanation,
  EgressQuestion,
  EgressReadResponse,
  EgressVerdict,
  OutputReadResponse,
} from '../ports/index.js'
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

/** What a node's gateway says of requests. Throws `transport.unavailable` for what cannot be such an answer. */
export function readExplanation(
  answer: unknown,
  { services }: EgressQuestion,
  nodeId: NodeId,
): EgressExplanation {
  if (!isRecord(answer) || !Array.isArray(answer.verdicts) || !isCount(answer.policyGeneration))
    throw senseless(nodeId)
  const verdicts = answer.verdicts as unknown[]
  if (verdicts.length !== services.length || !verdicts.every(isVerdict)) throw senseless(nodeId)
  return { policyGeneration: answer.policyGeneration, verdicts }
}

function isVerdict(verdict: unknown): verdict is EgressVerdict {
  if (!isRecord(verdict) || typeof verdict.allowed !== 'boolean' || !isCount(verdict.port)) return false
  if (verdict.scheme !== 'http' && verdict.scheme !== 'https') return false
  return hasTexts(verdict, ['owner', 'rule', 'code']) && isObjections(verdict.objections)
}

function isObjections(objections: unknown): boolean {
  if (!Array.isArray(objections) || objections.length > OBJECTIONS_MAX) return false
  return objections.every((one) => isRecord(one) && hasTexts(one, ['code', 'owner', 'rule', 'change']))
}

function hasTexts(of: Record<string, unknown>, names: readonly string[]): boolean {
  return names.every((name) => typeof of[name] === 'string' && of[name].length <= TEXT_LENGTH_MAX)
}

const OBJECTIONS_MAX = 32
const TEXT_LENGTH_MAX = 1_024

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
