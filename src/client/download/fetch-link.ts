import { createHash, type Hash } from 'node:crypto'
import { constants, createReadStream } from 'node:fs'
import { open, rm, stat, type FileHandle } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { isWeirError, WeirError } from '../../errors.js'
import { describeLink, type ResultLink } from './result-link.js'
import { writeAll } from '../../write-all.js'

export interface FetchLimits {
  /** Of the file that is downloaded. */
  bytesMax: number
  /** Attempts after the first one. */
  retries: number
  /** Before the first retry; doubles. */
  backoffMs: number
  /** Without a byte for so long, an attempt is given up. */
  idleTimeoutMs: number
}

const RETRYABLE_STATUS = [408, 425, 429, 500, 502, 503, 504]

/**
 * Downloads into `partPath`. What is there from an earlier, broken download is continued when the link has a checksum
 * that will prove the whole. Resolves when the file is complete and verified. Rejects with `results.unavailable` (the part
 * stays, for the next time) or `results.corrupt` (the part is gone).
 */
export async function fetchLink(
  link: ResultLink,
  partPath: string,
  limits: FetchLimits,
  onBytes: (received: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const fresh = link.sha256 === undefined ? constants.O_TRUNC : 0
  const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0) | fresh
  const file = await open(partPath, flags, 0o600)
  const part = new Part(link, file, limits, onBytes)
  try {
    await part.adopt(partPath, signal)
    await complete(part, limits, signal)
  } catch (error) {
    if (signal.aborted) throw signal.reason
    if (isWeirError(error, 'results.corrupt')) await rm(partPath, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

/** Attempts until the part is whole; a wrong checksum after a resume gets one fresh start. */
async function complete(part: Part, { retries, backoffMs }: FetchLimits, signal: AbortSignal): Promise<void> {
  let failures = 0
  for (;;) {
    try {
      if (!part.isWhole()) await part.attempt(signal)
      if (part.isGenuine()) return
      if (!part.resumed) throw part.corrupt()
      await part.reset()
    } catch (error) {
      signal.throwIfAborted()
      if (!isWeirError(error) || !error.retryable || failures >= retries) throw error
      await sleep(Math.min(backoffMs * 2 ** failures, 10_000), undefined, { signal })
      failures += 1
    }
  }
}

class Part {
  /** True when bytes of different attempts, or of an earlier download, are put together. */
  resumed = false
  private received = 0
  private hash: Hash = createHash('sha256')
  private validator: string | undefined
  private readonly link: ResultLink
  private readonly file: FileHandle
  private readonly limits: FetchLimits
  private readonly onBytes: (received: number) => void

  constructor(link: ResultLink, file: FileHandle, limits: FetchLimits, onBytes: (received: number) => void) {
    this.link = link
    this.file = file
    this.limits = limits
    this.onBytes = onBytes
  }

  /** Takes over what is in the file already. */
  async adopt(path: string, signal: AbortSignal): Promise<void> {
    const { size } = await stat(path)
    if (size === 0) return
    if (size > (this.link.bytes ?? this.limits.bytesMax)) return this.reset()
    for await (const chunk of createReadStream(path, { signal }) as AsyncIterable<Uint8Array>) {
      this.hash.update(chunk)
      this.received += chunk.byteLength
    }
    this.resumed = true
    this.onBytes(this.received)
  }

  isWhole(): boolean {
    return this.received > 0 && this.received === this.link.bytes
  }

  isGenuine(): boolean {
    return this.link.sha256 === undefined || this.hash.copy().digest('hex') === this.link.sha256
  }

  async reset(): Promise<void> {
    await this.file.truncate(0)
    this.received = 0
    this.resumed = false
    this.validator = undefined
    this.hash = createHash('sha256')
    this.onBytes(0)
  }

  corrupt(): WeirError {
    return new WeirError(
      'results.corrupt',
      `Cannot use the result ${describeLink(this.link)}: its SHA256 differs from the published one`,
      { hint: 'Try again; if it stays so, the node or the way to it damages data' },
    )
  }

  async attempt(signal: AbortSignal): Promise<void> {
    const idle = new AbortController()
    const timer = setTimeout(() => idle.abort(), this.limits.idleTimeoutMs)
    try {
      const response = await fetch(this.link.url, {
        headers: { 'Accept-Encoding': 'identity', 'User-Agent': 'weir', ...this.rangeHeaders() },
        signal: AbortSignal.any([signal, idle.signal]),
      })
      try {
        const total = await this.begin(response)
        await this.receive(response, total, timer)
      } finally {
        await response.body?.cancel().catch(() => undefined) // it may have ended or broken already
      }
    } catch (error) {
      if (isWeirError(error)) throw error
      if (idle.signal.aborted)
        throw this.unavailable(`nothing arrived for ${this.limits.idleTimeoutMs / 1000} s`, true)
      throw this.attemptError(error)
    } finally {
      clearTimeout(timer)
    }
  }

  private rangeHeaders(): Record<string, string> {
    if (this.received === 0 || (this.validator === undefined && this.link.sha256 === undefined)) return {}
    const range = { Range: `bytes=${this.received}-` }
    return this.validator === undefined ? range : { ...range, 'If-Range': this.validator }
  }

  private async begin(response: Response): Promise<number | undefined> {
    const { status, headers } = response
    if (status === 206) {
      const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
      if (range !== null && Number(range[1]) === this.received) {
        this.resumed = this.received > 0
        return this.checked(range[2] === '*' ? undefined : Number(range[2]))
      }
    }
    if (status === 206 || status === 416) {
      await this.reset()
      throw this.unavailable('the server sent another part than asked for', true)
    }
    if (status !== 200) throw this.statusError(status)
    await this.reset()
    const etag = headers.get('etag')
    this.validator = etag?.startsWith('"') === true ? etag : (headers.get('last-modified') ?? undefined)
    const length = headers.get('content-length')
    return this.checked(length === null ? undefined : Number(length))
  }

  /** What was published with its size must not bring more than that onto this disk. */
  private get bytesMax(): number {
    return Math.min(this.limits.bytesMax, this.link.bytes ?? Number.POSITIVE_INFINITY)
  }

  private checked(total: number | undefined): number | undefined {
    if (total !== undefined && total > this.bytesMax) throw this.tooLarge()
    return total
  }

  private async receive(response: Response, total: number | undefined, timer: NodeJS.Timeout): Promise<void> {
    for await (const chunk of response.body ?? []) {
      timer.refresh()
      if (this.received + chunk.byteLength > this.bytesMax) throw this.tooLarge()
      await writeAll(this.file, chunk, this.received)
      this.hash.update(chunk)
      this.received += chunk.byteLength
      this.onBytes(this.received)
    }
    if (total !== undefined && this.received !== total) throw this.unavailable('the transfer broke off', true)
  }

  private statusError(status: number): WeirError {
    const gone = status === 404 || status === 410
    return new WeirError(
      'results.unavailable',
      `Cannot download the result ${describeLink(this.link)}: the server answered ${status}`,
      {
        hint: gone
          ? 'Results are kept for a limited time; run the job again'
          : 'Check that the node that published it is up and can be reached from here',
        retryable: RETRYABLE_STATUS.includes(status),
        details: { status },
      },
    )
  }

  private attemptError(error: unknown): WeirError {
    const cause = (error as { cause?: NodeJS.ErrnoException }).cause ?? (error as NodeJS.ErrnoException)
    const local = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EIO'].includes(cause.code ?? '')
    return this.unavailable(cause.message, !local, error)
  }

  private tooLarge(): WeirError {
    const { bytes } = this.link
    if (bytes !== undefined && bytes <= this.limits.bytesMax) {
      return new WeirError(
        'results.corrupt',
        `Cannot use the result ${describeLink(this.link)}: it has more than the ${bytes} bytes that were published`,
        { hint: 'Do not trust this copy; run the job again, on another node if it stays so' },
      )
    }
    return new WeirError(
      'results.unavailable',
      `Cannot download the result ${describeLink(this.link)}: it has more than ${this.limits.bytesMax} bytes`,
      { hint: 'Leave less in the results, or fetch the link with another tool' },
    )
  }

  private unavailable(why: string, retryable: boolean, cause?: unknown): WeirError {
    return new WeirError(
      'results.unavailable',
      `Cannot download the result ${describeLink(this.link)}: ${why}`,
      {
        hint: 'Check that the node that published it is up and can be reached from here, and try again: the download continues where it broke off',
        retryable,
        cause,
      },
    )
  }
}
