import { WeirError } from '../errors.js'
import type { Revision } from '../ports/index.js'

/** Throws `store.stale` when a change was decided on another revision than the current one; undefined = on none. */
export function checkRevision(ifRevision: Revision | undefined, revision: Revision): void {
  if (ifRevision === undefined || ifRevision === revision) return
  throw new WeirError('store.stale', `Cannot commit on revision ${ifRevision}: the store is at another one`, {
    retryable: true,
    details: { revision },
  })
}
