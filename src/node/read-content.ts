import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WeirError } from '../errors.js'
import { isBlobType, type SpecConfig } from '../model/index.js'
import type { BlobStore, ReadContent } from '../ports/index.js'
import { inlineSource } from '../sources/index.js'

const PIECE_BYTES = 4 * 1024 * 1024

/** Reads what was uploaded or travels inside the job; everything else is somewhere else. */
export function contentReader(blobs: BlobStore): ReadContent {
  return async (source, namespace, bytesMax) => {
    if (isBlobType(source.Type)) return readBlob(blobs, source, namespace, bytesMax)
    return source.Type.toLowerCase() === 'inline' ? readInline(source, bytesMax) : undefined
  }
}

async function readBlob(
  blobs: BlobStore,
  { Params }: SpecConfig,
  namespace: string,
  bytesMax: number,
): Promise<Uint8Array | undefined> {
  const cid = typeof Params?.CID === 'string' ? Params.CID : ''
  const found = await blobs.find(namespace, cid)
  if (found === undefined)
    throw new WeirError('blob.not_found', `The namespace "${namespace}" holds no ${cid}`)
  if (found.bytes > bytesMax) return undefined
  const content = Buffer.alloc(found.bytes)
  for (let offset = 0; offset < content.length; ) {
    const piece = await blobs.readPiece(cid, offset, PIECE_BYTES)
    if (piece === undefined || piece.data.length === 0) return undefined
    offset += piece.data.copy(content, offset)
  }
  return content
}

/** An archive counts as its one file, as it does for the engine. */
async function readInline(source: SpecConfig, bytesMax: number): Promise<Uint8Array | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'weir-inline-'))
  try {
    const input = { Source: source, Alias: '', Target: '/module' }
    const [volume] = await inlineSource().fetch(input, directory, { bytesMax }, new AbortController().signal)
    if (volume === undefined) return undefined
    const { hostPath } = volume
    if ((await stat(hostPath)).isFile()) return await readFile(hostPath)
    const [only, ...others] = await readdir(hostPath)
    const isOne = only !== undefined && others.length === 0 && (await stat(join(hostPath, only))).isFile()
    return isOne ? await readFile(join(hostPath, only)) : undefined
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
