import type { ErrorCode } from '../../errors.js'
import type { ProxyRequest } from '../http/request.js'
import type { Refusal } from '../policy/refusal.js'

/** What another part of a request says against its host. */
export interface Contradiction {
  readonly code: ErrorCode
  readonly owner: Refusal['owner']
  readonly reason: string
}

/** A Host header (or a dialled name) that names another host than the request. */
export function hostContradictionOf({ hostContradiction: reason }: ProxyRequest): Contradiction | undefined {
  return reason === undefined ? undefined : { code: 'request.host_mismatch', owner: '', reason }
}
