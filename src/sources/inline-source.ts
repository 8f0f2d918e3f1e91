import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { unpackTarGz } from '../archive/index.js'
import { WeirError } from '../errors.js'
import type { InputSourceSpec } from '../model/job-spec.js'
import type { StorageSource } from '../ports/data.js'
import { readDataUrl, type DataUrl } from './data-url.js'
import { parameter } from './parameter.js'

export interface InlineSourceOptions {
  limits?: {
    /** Content after decoding and unpacking, whatever the run's own limit. Default 1 GiB. */
    bytesMax?: number
    /** Files and directories in an archive. Default 100,000. */
    entriesMax?: number
  }
}

const ARCHIVE_TYPES = ['application/gzip', 'application/x-gzip', 'application/tar+gzip']

/**
 * Data inside the job itself (`inline`, parameter `URL` a `data:` URL). A gzipped tar (`application/gzip`) becomes a
 * directory at the target, unpacked by code that trusts nothing in it; anything else becomes a file at the target.
 * Rejects with `source.refused` (not a data URL, an archive with links or escapes), `source.too_large`,
 * `source.unavailable` (a damaged archive).
 */
export function inlineSource({ limits }: InlineSourceOptions = {}): StorageSource {
  return {
    type: 'inline',
    async admit(input) {
      const read = readInput(input)
      return 'problem' in read ? [{ message: read.problem, hint: HINT }] : []
    },
    async measure(input) {
      const data = inputOf(input)
      return ARCHIVE_TYPES.includes(data.mediaType) ? undefined : data.bytesMax
    },
    async fetch(input, intoDir, { bytesMax: runBytesMax, progress }, signal) {
      signal.throwIfAborted()
      const data = inputOf(input)
      const bytesMax = Math.min(runBytesMax, limits?.bytesMax ?? 1024 ** 3)
      if (!ARCHIVE_TYPES.includes(data.mediaType)) {
        const hostPath = await writePlain(data, intoDir, bytesMax)
        progress?.(data.bytesMax, data.bytesMax)
        return [{ hostPath, target: input.Target, writable: false }]
      }
      const hostPath = join(intoDir, 'unpacked')
      await mkdir(hostPath, 0o755)
      const { bytes } = await unpackTarGz(Readable.from([data.decode()]), {
        into: hostPath,
        bytesMax,
        entriesMax: limits?.entriesMax ?? 100_000,
        what: `the inline input for ${input.Target}`,
        codes: { unsafe: 'source.refused', corrupt: 'source.unavailable', tooLarge: 'source.too_large' },
        signal,
      })
      progress?.(bytes, bytes)
      return [{ hostPath, target: input.Target, writable: false }]
    },
  }
}

const HINT = 'Write data:text/plain,hello or data:;base64,aGVsbG8= or let the command line pack local files'

async function writePlain(data: DataUrl, intoDir: string, bytesMax: number): Promise<string> {
  const content = data.bytesMax <= bytesMax * 3 ? data.decode() : undefined
  if (content === undefined || content.length > bytesMax)
    throw new WeirError(
      'source.too_large',
      `Cannot use an inline input: it has more than ${bytesMax} bytes`,
      {
        hint: 'Ask for more disk (Resources.Disk), or put the data on a server and use its URL',
      },
    )
  const hostPath = join(intoDir, 'content')
  await writeFile(hostPath, content, { flag: 'wx', mode: 0o644 })
  return hostPath
}

function inputOf(input: InputSourceSpec): DataUrl {
  const read = readInput(input)
  if ('problem' in read) throw new WeirError('source.refused', read.problem, { hint: HINT })
  return read
}

function readInput({ Source }: InputSourceSpec): DataUrl | { problem: string } {
  const text = parameter(Source, 'URL')
  if (typeof text !== 'string') return { problem: 'Cannot use an inline input: it has no URL' }
  const read = readDataUrl(text)
  if (!('problem' in read)) return read
  return { problem: `Cannot use the inline input "${text.slice(0, 40)}": ${read.problem}` }
}
