import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { isWeirError, WeirError } from '../errors.js'
import { packDirectory, type WeirClient } from '../client/index.js'
import { blobCid } from '../model/content-id.js'
import { printable, quoted } from '../model/printable.js'
import { formatBytes } from '../model/resources.js'
import type { JobSpec, SpecConfig } from '../model/job-spec.js'

/** A file of this machine that a job names by its content. */
export interface LocalBlob {
  cid: string
  bytes: number
  path: string
  /** As the user wrote it. */
  shown: string
  isProgram: boolean
}

/** How a job names it. */
export function blobSource({ cid }: Pick<LocalBlob, 'cid'>): SpecConfig {
  return { Type: 'blob', Params: { CID: cid } }
}

/** Throws `cli.usage` when the file cannot be read. */
export async function readLocalBlob(path: string, shown: string, isProgram: boolean): Promise<LocalBlob> {
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      hash.update(chunk)
      bytes += chunk.length
    }
  } catch (error) {
    const { message } = error as Error
    throw new WeirError('cli.usage', `Cannot read ${quoted(shown, 200)}: ${message}`, { cause: error })
  }
  return { cid: blobCid(hash.digest()), bytes, path, shown, isProgram }
}

/** Sends what the namespace does not hold yet. `say` is told what is done. */
export async function sendBlob(
  client: WeirClient,
  namespace: string,
  blob: LocalBlob,
  say: (line: string) => void,
): Promise<void> {
  const name = printable(blob.shown, 80)
  try {
    await client.blob(blob.cid, { namespace })
    say(`${name} is on the server already: ${blob.cid}`)
    return
  } catch (error) {
    if (!isWeirError(error, 'blob.not_found')) throw error
  }
  if (blob.bytes >= SLOW_BYTES) say(`Uploading ${name} (${formatBytes(blob.bytes)})…`)
  const stream = createReadStream(blob.path)
  try {
    await client.storeBlob(blob.cid, { stream, bytes: blob.bytes }, { namespace })
  } finally {
    stream.destroy()
  }
  say(`Uploaded ${name} (${formatBytes(blob.bytes)}): ${blob.cid}`)
}

/**
 * Sends what the job needs. A server that keeps no content (Bacalhau's) gets it inside the job instead, which is what the
 * answer then holds.
 */
export async function sendBlobs(
  client: WeirClient,
  spec: JobSpec,
  blobs: readonly LocalBlob[],
  say: (line: string) => void,
): Promise<JobSpec> {
  try {
    for (const blob of blobs) await sendBlob(client, spec.Namespace, blob, say)
    return spec
  } catch (error) {
    if (!isWeirError(error, 'api.not_found')) throw error
    return withInlineBlobs(spec, blobs)
  }
}

/** From here on it takes long enough that people want to know what is going on. */
const SLOW_BYTES = 8 * 1024 * 1024

async function withInlineBlobs(spec: JobSpec, blobs: readonly LocalBlob[]): Promise<JobSpec> {
  const urls = new Map<string, string>()
  for (const { cid, path, isProgram } of blobs)
    urls.set(cid, await packDirectory(path, { compressFile: isProgram }))
  // Sources stand at several places of a specification, always in this shape.
  return JSON.parse(JSON.stringify(spec), (_key, value: unknown) => {
    const { Type, Params } = (value ?? {}) as Partial<SpecConfig>
    const url = Type === 'blob' && typeof Params?.CID === 'string' ? urls.get(Params.CID) : undefined
    return url === undefined ? value : { Type: 'inline', Params: { URL: url } }
  }) as JobSpec
}
