import { WeirError } from '../errors.js'
import { coversNamespace, isBlobCid, quoted } from '../model/index.js'
import type { BlobStore } from '../ports/index.js'
import type { CallerScope } from './caller.js'
import { foreignNamespace } from './scoped-jobs.js'

/** What routes may do with blobs: in the namespaces of the caller, as with jobs. */
export type ScopedBlobs = Pick<BlobStore, 'find' | 'put' | 'open' | 'list'>

/** The blobs as the caller of the request may see them. Rejects with `api.forbidden` for other namespaces. */
export function scopedBlobs(blobs: BlobStore, scope: CallerScope): ScopedBlobs {
  const check = (namespace: string): void => {
    const { principal, ended } = scope.current()
    if (ended.aborted || !coversNamespace(principal.namespaces, namespace)) throw foreignNamespace(namespace)
  }
  const checkCid = (namespace: string, cid: string): void => {
    check(namespace)
    if (isBlobCid(cid)) return
    throw new WeirError('api.bad_request', `Cannot use ${quoted(cid)}: it is no CID of a blob`, {
      hint: 'A CID of version 1, raw, sha2-256, in base32: bafkrei and 52 more characters.',
    })
  }
  return {
    find: async (namespace, cid) => {
      checkCid(namespace, cid)
      return blobs.find(namespace, cid)
    },
    put: async (namespace, cid, content) => {
      checkCid(namespace, cid)
      return blobs.put(namespace, cid, content, scope.current().ended)
    },
    open: async (namespace, cid) => {
      checkCid(namespace, cid)
      return blobs.open(namespace, cid)
    },
    list: (namespace) => {
      check(namespace)
      return blobs.list(namespace)
    },
  }
}
