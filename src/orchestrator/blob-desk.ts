import { WeirError } from '../errors.js'
import { namedBlobs } from '../model/index.js'
import type { JobSpec } from '../model/index.js'
import type { BlobReadResponse, BlobStore, Handler, JobStore, Snapshot } from '../ports/index.js'

const PIECE_BYTES_MAX = 512 * 1024

/**
 * Hands content to nodes, piece by piece (`BlobReadRequest`). A node gets what a job names that has an execution there, and
 * nothing else: for everything else, whether it exists or not, the answer is `blob.not_found`.
 */
export function createBlobDesk({ blobs, store }: { blobs: BlobStore; store: JobStore }): Handler {
  return async (body): Promise<BlobReadResponse> => {
    const { nodeId, cid, offset, bytesMax } = readRequest(body)
    const isNeeded = isNeededOn(await store.snapshot(), nodeId, cid)
    const piece = isNeeded
      ? await blobs.readPiece(cid, offset, Math.min(bytesMax, PIECE_BYTES_MAX))
      : undefined
    if (piece === undefined) {
      throw new WeirError('blob.not_found', `No execution on node "${nodeId}" needs the blob ${cid}`)
    }
    return { data: piece.data.toString('base64'), bytes: piece.bytes }
  }
}

/** Rejects with `blob.not_found` when the namespace does not hold what the job names. Counts as use. */
export async function requireBlobs(spec: JobSpec, blobs: BlobStore | undefined): Promise<void> {
  const { Namespace: namespace } = spec
  for (const cid of namedBlobs(spec)) {
    if ((await blobs?.find(namespace === '' ? 'default' : namespace, cid)) !== undefined) continue
    throw new WeirError('blob.not_found', `The namespace "${namespace}" holds no content ${cid}`, {
      hint: 'Upload the file it was made of: `weir wasm upload FILE`, with --namespace for another namespace.',
      details: { cid },
    })
  }
}

/** CIDs that jobs which have not ended name. */
export function neededBlobs(snapshot: Snapshot): Set<string> {
  const needed = new Set<string>()
  for (const { spec } of snapshot.activeJobs()) for (const cid of namedBlobs(spec)) needed.add(cid)
  return needed
}

function isNeededOn(snapshot: Snapshot, nodeId: string, cid: string): boolean {
  return snapshot.activeExecutionsOnNode(nodeId).some(({ jobId }) => {
    const job = snapshot.job(jobId)
    return job !== undefined && namedBlobs(job.spec).includes(cid)
  })
}

function readRequest(body: unknown): { nodeId: string; cid: string; offset: number; bytesMax: number } {
  const { nodeId, cid, offset, bytesMax } = (body ?? {}) as Record<string, unknown>
  const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= 256
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0
  if (isText(nodeId) && isText(cid) && isCount(offset) && isCount(bytesMax))
    return { nodeId, cid, offset, bytesMax }
  throw new WeirError('api.bad_request', 'Cannot read a request for a blob')
}
