import { createHash, type Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { isWeirError, WeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import { describeUrl } from './describe-url.js'
import { requestFollowing, type FollowContext } from './follow-redirects.js'
import { writeAll } from '../write-all.js'

export interface TransferContext extends FollowContext {
  bytesMax: number
  progress?: (bytes: number, total: number | undefined) => void
}

const RETRYABLE_STATUS = [408, 425, 429, 500, 502, 503, 504]

/**
 * One file that arrives in one or more attempts. After a broken attempt the next one asks for the rest only, when the
 * server gave a validator that proves the rest belongs to the same content; otherwise it starts anew.
 */
export class ResumableTransfer {
  received = 0
  /** Where the last attempt ended up. */
  finalUrl: URL
  contentDisposition: string | undefined
  private readonly url: URL
  private readonly file: FileHandle
  private readonly context: TransferContext
  private hash: Hash = createHash('sha256')
  private validator: string | undefined

  constructor(url: URL, file: FileHandle, context: TransferContext) {
    this.url = url
    this.finalUrl = url
    this.file = file
    this.context = context
  }

  /** Hex, of what was received. Call once, at the end. */
  sha256(): string {
    return this.hash.digest('hex')
  }

  /** Resolves when the file is complete. Rejects with `source.*`; `retryable` says whether another attempt may help. */
  async attempt(signal: AbortSignal): Promise<void> {
    const { response, url } = await requestFollowing(
      this.url,
      { method: 'GET', headers: this.rangeHeaders() },
      this.context,
      signal,
    )
    try {
      this.finalUrl = url
      const total = await this.begin(response)
      this.contentDisposition = response.headers['content-disposition']
      await this.receive(response, total, signal)
    } catch (error) {
      if (signal.aborted) throw signal.reason
      throw this.attemptError(error)
    } finally {
      response.destroy()
    }
  }

  private rangeHeaders(): Record<string, string> {
    if (this.received === 0 || this.validator === undefined) return {}
    return { Range: `bytes=${this.received}-`, 'If-Range': this.validator }
  }

  /** Judges status and headers, makes the file ready; returns the whole size when the server says it. */
  private async begin(response: IncomingMessage): Promise<number | undefined> {
    const status = response.statusCode ?? 0
    if (status === 206 && this.received > 0) return this.resume(response)
    if (status === 200) return this.restart(response)
    if (status === 206 || status === 416) {
      await this.reset()
      throw this.unavailable('the server sent a part that was not asked for', status === 416)
    }
    throw new WeirError(
      'source.unavailable',
      `Cannot fetch "${describeUrl(this.url)}": the server answered ${status} ${printable(response.statusMessage ?? '', 80)}`.trim(),
      {
        hint: statusHint(status),
        retryable: RETRYABLE_STATUS.includes(status),
        details: { status, retryAfterMs: retryAfterMs(response) },
      },
    )
  }

  private async resume(response: IncomingMessage): Promise<number | undefined> {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers['content-range'] ?? '')
    const etag = response.headers.etag
    const changed = etag !== undefined && this.validator?.startsWith('"') === true && etag !== this.validator
    if (range === null || Number(range[1]) !== this.received || changed) {
      await this.reset()
      throw this.unavailable('the rest that the server sent belongs to something else', true)
    }
    return this.checkedTotal(range[2] === '*' ? undefined : Number(range[2]))
  }

  private async restart(response: IncomingMessage): Promise<number | undefined> {
    await this.reset()
    this.validator = validatorOf(response)
    const length = response.headers['content-length']
    return this.checkedTotal(length === undefined ? undefined : Number(length))
  }

  private async reset(): Promise<void> {
    await this.file.truncate(0)
    this.received = 0
    this.validator = undefined
    this.hash = createHash('sha256')
  }

  private checkedTotal(total: number | undefined): number | undefined {
    if (total !== undefined && total > this.context.bytesMax) throw this.tooLarge(`it has ${total} bytes`)
    return total
  }

  private async receive(
    response: IncomingMessage,
    total: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    for await (const chunk of response as AsyncIterable<Uint8Array>) {
      signal.throwIfAborted()
      if (this.received + chunk.byteLength > this.context.bytesMax) throw this.tooLarge('it has more')
      await writeAll(this.file, chunk, this.received)
      this.hash.update(chunk)
      this.received += chunk.byteLength
      this.context.progress?.(this.received, total)
    }
    if (!response.complete || (total !== undefined && this.received !== total))
      throw this.unavailable('the transfer broke off', true)
  }

  private tooLarge(what: string): WeirError {
    return new WeirError(
      'source.too_large',
      `Cannot fetch "${describeUrl(this.url)}": ${what}, and ${this.context.bytesMax} bytes are allowed`,
      {
        hint: 'Ask for more disk (Resources.Disk), a higher MaxBytes of the input, or a node with a higher InputSources.MaxBytes',
      },
    )
  }

  private attemptError(error: unknown): WeirError {
    if (isWeirError(error)) return error
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG')
      return new WeirError(
        'source.too_large',
        `Cannot store "${describeUrl(this.url)}": the disk of the node is full`,
        {
          cause: error,
        },
      )
    const what = code === 'ECONNRESET' ? 'the transfer broke off' : message
    return this.unavailable(what, true, error)
  }

  private unavailable(what: string, retryable: boolean, cause?: unknown): WeirError {
    return new WeirError('source.unavailable', `Cannot fetch "${describeUrl(this.url)}": ${what}`, {
      hint: 'Try again later, or use another server',
      retryable,
      cause,
    })
  }
}

/** RFC 9110 §13.1.5: a strong entity tag, else the date. */
function validatorOf({ headers }: IncomingMessage): string | undefined {
  if (headers.etag?.startsWith('"') === true) return headers.etag
  return headers['last-modified']
}

function retryAfterMs({ headers }: IncomingMessage): number {
  const seconds = Number(headers['retry-after'])
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 30) * 1000 : 0
}

function statusHint(status: number): string {
  if (status === 404 || status === 410) return 'Check the URL: the server has nothing there'
  if (status === 401 || status === 403)
    return 'The server wants a credential; use a URL that is open or signed'
  return RETRYABLE_STATUS.includes(status)
    ? 'The server has trouble; try again later'
    : 'Check the URL with another client'
}
