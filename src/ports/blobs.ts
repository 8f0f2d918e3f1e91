import type { Readable } from 'node:stream'

/** Content that a namespace holds. */
export interface Blob {
  /** CIDv1, raw, sha2-256, base32: see `isBlobCid`. */
  cid: string
  bytes: number
  /** When a job of the namespace, or somebody who asked, last named it. */
  usedMs: number
}

/**
 * Content by its hash, for the programs of jobs. A namespace holds what was uploaded into it, and sees nothing else: whoever
 * guesses the CID of what another namespace holds learns nothing. The bytes themselves are stored once.
 */
export interface BlobStore {
  /** Counts as use. Undefined when the namespace does not hold it, whoever else does. */
  find(namespace: string, cid: string): Promise<Blob | undefined>
  /**
   * Stores content under its CID, whole or not at all; durable when it resolves. Rejects with `blob.mismatch` when the
   * bytes are not what the CID names, `blob.too_large`, `blob.full` when there is no room that could be made, or
   * `api.overload` when too many uploads are under way.
   */
  put(namespace: string, cid: string, content: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<Blob>
  /** The bytes, as a file that stays readable while it is read. Undefined when the namespace does not hold it. */
  open(namespace: string, cid: string): Promise<{ bytes: number; stream: Readable } | undefined>
  /** Newest use first. */
  list(namespace: string): readonly Blob[]
  /** A piece of content, whichever namespace holds it: for those whose right to it was checked. Undefined: nobody does. */
  readPiece(
    cid: string,
    offset: number,
    bytesMax: number,
  ): Promise<{ data: Buffer; bytes: number } | undefined>
}

/** Asks the orchestrator for a piece of content that an execution on this node needs. */
export interface BlobReadRequest {
  nodeId: string
  cid: string
  offset: number
  /** At most 512 KiB. */
  bytesMax: number
}

export interface BlobReadResponse {
  /** Base64. */
  data: string
  /** Of the whole content. */
  bytes: number
}

/**
 * Reads the content of a source where the orchestrator has it at hand. Undefined when it has not, or when there is more
 * than `bytesMax`. Rejects with `blob.not_found`, or `source.*` for an inline source that cannot be unpacked.
 */
export type ReadContent = (
  source: import('../model/job-spec.js').SpecConfig,
  namespace: string,
  bytesMax: number,
) => Promise<Uint8Array | undefined>
