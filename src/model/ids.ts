import { WeirError } from '../errors.js'
import type { EvaluationId, ExecutionId, JobId, NodeId } from './state.js'

/** Where fresh ids come from: `Chance` of the ports, or a seeded twin in tests. */
export interface IdSource {
  /** UUID v4. */
  uuid(): string
}

/** `j-` + UUID. */
export function newJobId(chance: IdSource): JobId {
  return `j-${chance.uuid()}`
}

/** `e-` + UUID. */
export function newExecutionId(chance: IdSource): ExecutionId {
  return `e-${chance.uuid()}`
}

/** `n-` + UUID: for nodes that were given no name. */
export function newNodeId(chance: IdSource): NodeId {
  return `n-${chance.uuid()}`
}

/** `r-` + UUID: for requests for access. */
export function newAccessRequestId(chance: IdSource): string {
  return `r-${chance.uuid()}`
}

/** A bare UUID. */
export function newEvaluationId(chance: IdSource): EvaluationId {
  return chance.uuid()
}

/**
 * What people see: `j-` + the first 8 digits of the UUID; a bare UUID gives its first 8 digits; anything else (node
 * names) stays whole.
 */
export function shortId(id: string): string {
  const match = PREFIXED_UUID.exec(id)
  if (match === null) return id
  return `${match[1] ?? ''}${(match[2] ?? '').slice(0, 8)}`
}

/** True for `<letter>-<UUID>` and for a bare UUID: such an id is looked up as it is, never as a prefix. */
export function isFullId(id: string): boolean {
  return PREFIXED_UUID.test(id)
}

/**
 * Checks a node's name: 1 to 128 letters, digits, `-` and `_`. It becomes part of transport subjects and directory
 * names. Throws `config.invalid`.
 */
export function checkNodeId(id: string): NodeId {
  if (NODE_NAME.test(id)) return id
  throw new WeirError(
    'config.invalid',
    `Cannot use ${JSON.stringify(id.slice(0, 140))} as the name of a node`,
    {
      hint: 'Use 1 to 128 letters, digits, "-" and "_".',
    },
  )
}

const PREFIXED_UUID = /^([a-z]-)?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/
const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/
