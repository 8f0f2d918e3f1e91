import { open, rename } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { isWeirError, WeirError } from '../errors.js'
import type { InputSourceSpec } from '../model/job-spec.js'
import type { Chance, Clock } from '../ports/clock.js'
import type { StorageSource } from '../ports/data.js'
import type { GuardedDialer } from '../ports/egress-gateway.js'
import { readSha256 } from './checksum.js'
import { describeUrl } from './describe-url.js'
import { fetchedFileName } from './file-name.js'
import { requestFollowing, type FollowContext } from './follow-redirects.js'
import { parameter } from './parameter.js'
import { ResumableTransfer } from './resumable-transfer.js'

export interface UrlSourceOptions {
  /** Every connection is made by it, also for each redirect. */
  dialer: GuardedDialer
  clock: Clock
  chance: Chance
  limits?: {
    /** Largest input, whatever the run's own limit. Default 100 GiB. */
    bytesMax?: number
    /** For one input with all its attempts. Default 5 minutes. */
    totalTimeoutMs?: number
    /** Without a byte for so long, an attempt is given up. Default 30 s. */
    idleTimeoutMs?: number
    /** For the size before the run: a server that does not answer HEAD costs so much. Default 3 s, at most `totalTimeoutMs`. */
    measureTimeoutMs?: number
  }
  /** Attempts after the first one; progress of 1 MiB counts as a new start. Default 3. */
  retries?: number
  /** Wait before the first retry, doubling up to 10 s, with jitter. Default 500. */
  backoffMs?: number
  /** Default 10. */
  redirectsMax?: number
  /** Certificates to trust instead of the built-in ones (PEM). */
  ca?: string[]
}

interface UrlInput {
  url: URL
  sha256: string | undefined
  /** The job's own limit; Infinity when it names none. */
  bytesMax: number
}

const PROGRESS_BYTES = 1024 * 1024
const BACKOFF_MAX_MS = 10_000
/** A longer timer would fire at once. */
const TIMER_MS_MAX = 2 ** 31 - 1

/**
 * Inputs by URL (`urlDownload`, parameter `URL`, optionally `SHA256` or `Checksum`, and `MaxBytes`), http and https.
 *
 * One GET is all a server must answer: no HEAD, no Content-Length needed. The content is stored as it was sent, never
 * decoded. It lands read-only at `Target/<name>`, see {@link fetchedFileName}. Rejects with `source.refused` (address,
 * redirect), `source.too_large` (announced or counted), `source.checksum`, `source.unavailable` (all else).
 */
export function urlSource(options: UrlSourceOptions): StorageSource {
  return {
    type: 'urldownload',
    async admit(input) {
      const read = readInput(input)
      return 'problem' in read ? [read.problem] : []
    },
    measure: (input, signal) => measure(input, options, signal),
    async fetch(input, intoDir, { bytesMax, progress }, signal) {
      const { url, sha256, bytesMax: asked } = inputOf(input)
      const totalTimeoutMs = Math.min(options.limits?.totalTimeoutMs ?? 300_000, TIMER_MS_MAX)
      const deadline = AbortSignal.timeout(totalTimeoutMs)
      const partPath = join(intoDir, '.part')
      const file = await open(partPath, 'wx', 0o644)
      try {
        const transfer = new ResumableTransfer(url, file, {
          ...followContext(options, sha256 !== undefined),
          bytesMax: Math.min(bytesMax, asked, options.limits?.bytesMax ?? 100 * 1024 ** 3),
          ...(progress === undefined ? {} : { progress }),
        })
        await attempts(transfer, options, AbortSignal.any([signal, deadline]))
        checkSum(url, sha256, transfer)
        const name = fetchedFileName(url, transfer.finalUrl, transfer.contentDisposition)
        const hostPath = join(intoDir, name)
        await rename(partPath, hostPath)
        return [{ hostPath, target: posix.join(input.Target, name), writable: false }]
      } catch (error) {
        if (deadline.aborted && !signal.aborted) throw tooSlow(url, totalTimeoutMs)
        throw error
      } finally {
        await file.close()
      }
    },
  }
}

async function attempts(
  transfer: ResumableTransfer,
  { clock, chance, retries = 3, backoffMs = 500 }: UrlSourceOptions,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0
  for (;;) {
    const before = transfer.received
    try {
      return await transfer.attempt(signal)
    } catch (error) {
      if (!isWeirError(error) || !error.retryable) throw error
      if (transfer.received - before >= PROGRESS_BYTES) failures = 0
      if (failures >= retries) throw error
      const wait = Math.min(backoffMs * 2 ** failures, BACKOFF_MAX_MS) * (0.5 + chance.random() / 2)
      failures += 1
      await clock.sleep(Math.max(wait, Number(error.details.retryAfterMs ?? 0)), signal)
    }
  }
}

/** What HEAD says, if it says so soon; a server need not answer it. */
async function measure(
  input: InputSourceSpec,
  options: UrlSourceOptions,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { url, sha256 } = inputOf(input)
  const { measureTimeoutMs = 3000, totalTimeoutMs = Infinity } = options.limits ?? {}
  const soon = AbortSignal.any([signal, AbortSignal.timeout(Math.min(measureTimeoutMs, totalTimeoutMs))])
  try {
    const { response } = await requestFollowing(
      url,
      { method: 'HEAD', headers: {} },
      followContext(options, sha256 !== undefined),
      soon,
    )
    response.destroy()
    const length = response.headers['content-length']
    return response.statusCode === 200 && length !== undefined ? Number(length) : undefined
  } catch {
    return undefined // the fetch will say what is wrong, if anything is
  }
}

function followContext(options: UrlSourceOptions, verified: boolean): FollowContext {
  return {
    dialer: options.dialer,
    idleTimeoutMs: options.limits?.idleTimeoutMs ?? 30_000,
    redirectsMax: options.redirectsMax ?? 10,
    verified,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  }
}

function inputOf(input: InputSourceSpec): UrlInput {
  const read = readInput(input)
  if ('problem' in read)
    throw new WeirError('source.refused', read.problem.message, { hint: read.problem.hint })
  return read
}

function readInput({ Source }: InputSourceSpec): UrlInput | { problem: { message: string; hint: string } } {
  const text = parameter(Source, 'URL')
  if (typeof text !== 'string' || !URL.canParse(text))
    return bad(
      'the URL is missing or malformed',
      'Give an absolute URL, for example https://example.com/data.csv',
    )
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    return bad(`the scheme "${url.protocol.slice(0, -1)}" is not fetched`, 'Use http or https')
  url.hash = ''
  const most = parameter(Source, 'MaxBytes')
  const bytesMax = typeof most === 'number' && most > 0 ? most : Infinity
  const sum = parameter(Source, 'SHA256', 'Checksum')
  if (sum === undefined || sum === '') return { url, sha256: undefined, bytesMax }
  const sha256 = typeof sum === 'string' ? readSha256(sum) : undefined
  if (sha256 === undefined) return bad('its SHA256 is malformed', 'Give 64 hexadecimal digits')
  return { url, sha256, bytesMax }
}

function bad(what: string, hint: string): { problem: { message: string; hint: string } } {
  return { problem: { message: `Cannot fetch a urlDownload input: ${what}`, hint } }
}

function checkSum(url: URL, expected: string | undefined, transfer: ResumableTransfer): void {
  if (expected === undefined) return
  const actual = transfer.sha256()
  if (actual === expected) return
  throw new WeirError(
    'source.checksum',
    `Cannot use "${describeUrl(url)}": its SHA256 is ${actual}, expected ${expected}`,
    { hint: 'The file changed or was damaged; check it and correct the SHA256' },
  )
}

function tooSlow(url: URL, totalTimeoutMs: number): WeirError {
  return new WeirError(
    'source.unavailable',
    `Cannot fetch "${describeUrl(url)}" within ${totalTimeoutMs / 1000} s`,
    {
      hint: 'Use a faster server, or a node with a longer InputSources.ReadTimeout',
      retryable: true,
    },
  )
}
