import { Buffer } from 'node:buffer'
import { readFile, realpath, stat } from 'node:fs/promises'
import { createGzip } from 'node:zlib'
import { packTar } from '../archive/index.js'
import { toWeirError, WeirError } from '../errors.js'
import { printable } from '../model/printable.js'

export interface PackOptions {
  /** Length of the URL. Default 9,500,000: a job specification may have 10 MB. */
  lengthMax?: number
  /**
   * Pack a single file as an archive too. The node then sees a directory with the file in it instead of the file, which
   * suits modules: they compress well. Directories are always archives.
   */
  compressFile?: boolean
  signal?: AbortSignal
}

const LENGTH_MAX = 9_500_000
const ENTRIES_MAX = 100_000

/**
 * A `data:` URL with a local file or directory, for the `URL` of an `inline` input source: base64 for a file, a gzipped
 * tar (`application/gzip`) for a directory. A link at the path itself is followed, links inside a directory are refused.
 * Rejects with `input.invalid` when it cannot be read or packed, `spec.too_large` when it does not fit into a job.
 */
export async function packDirectory(path: string, options: PackOptions = {}): Promise<string> {
  const { lengthMax = LENGTH_MAX, compressFile = false, signal = new AbortController().signal } = options
  try {
    const real = await realpath(path)
    const stats = await stat(real)
    if (!stats.isFile() && !stats.isDirectory())
      throw new WeirError(
        'input.invalid',
        `Cannot upload "${shown(path)}": it is neither a file nor a directory`,
      )
    if (stats.isFile() && !compressFile) {
      if (base64Length(stats.size) > lengthMax) throw tooLarge(path, lengthMax)
      return dataUrl('application/octet-stream', await readFile(real, { signal }), path, lengthMax)
    }
    return dataUrl('application/gzip', await archive(real, path, lengthMax, signal), path, lengthMax)
  } catch (error) {
    signal.throwIfAborted()
    throw toWeirError(error, 'input.invalid', `Cannot upload "${shown(path)}"`)
  }
}

async function archive(real: string, path: string, lengthMax: number, signal: AbortSignal): Promise<Buffer> {
  const tar = await packTar({
    path: real,
    // What compresses better than a thousandfold is no program and no data.
    bytesMax: lengthMax * 1000,
    entriesMax: ENTRIES_MAX,
    what: `"${shown(path)}"`,
    codes: { failed: 'input.invalid', tooLarge: 'spec.too_large' },
    signal,
  })
  const gzip = createGzip({ level: 9 })
  tar.once('error', (error) => gzip.destroy(error))
  tar.pipe(gzip)
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of gzip as AsyncIterable<Buffer>) {
      chunks.push(chunk)
      bytes += chunk.length
      if (base64Length(bytes) > lengthMax) throw tooLarge(path, lengthMax)
    }
  } finally {
    tar.destroy()
  }
  return Buffer.concat(chunks)
}

function dataUrl(mediaType: string, content: Buffer, path: string, lengthMax: number): string {
  const url = `data:${mediaType};base64,${content.toString('base64')}`
  if (url.length > lengthMax) throw tooLarge(path, lengthMax)
  return url
}

function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4
}

function tooLarge(path: string, lengthMax: number): WeirError {
  return new WeirError(
    'spec.too_large',
    `Cannot upload "${shown(path)}": packed, it has more than ${lengthMax} characters`,
    { hint: 'Put it on a server and use its URL, or on the node and use file://' },
  )
}

function shown(path: string): string {
  return printable(path, 200)
}
