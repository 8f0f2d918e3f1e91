import type { IncomingMessage, Server } from 'node:http'
import type { Readable } from 'node:stream'

/**
 * How long a request may take to arrive. Node knows one limit for all requests; an upload needs another one, and gets it
 * only when its route has been reached: by a caller that may send it.
 */
export class BodyDeadlines {
  readonly #server: Server
  readonly #readTimeoutMs: number
  readonly #uploadTimeoutMs: number
  readonly #waiting = new WeakMap<IncomingMessage, { timer: NodeJS.Timeout; sinceMs: number }>()

  /** `readTimeoutMs`: for a whole body, or between two pieces of an upload; `uploadTimeoutMs`: for a whole upload. */
  constructor(server: Server, readTimeoutMs: number, uploadTimeoutMs: number) {
    this.#server = server
    this.#readTimeoutMs = readTimeoutMs
    this.#uploadTimeoutMs = uploadTimeoutMs
    for (const event of ['request', 'checkContinue'] as const)
      server.prependListener(event, (request: IncomingMessage) => this.#watch(request))
  }

  /** The body, which may now take the time of an upload as long as it comes steadily. */
  async *upload(request: IncomingMessage, body: Readable): AsyncGenerator<Uint8Array> {
    const waiting = this.#waiting.get(request)
    // Who refuses an upload half-way still wants to say so: the connection is not cut, and what still comes is thrown away.
    try {
      for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
        if (waiting !== undefined && performance.now() - waiting.sinceMs < this.#uploadTimeoutMs)
          waiting.timer.refresh()
        yield chunk
      }
    } finally {
      body.resume()
    }
  }

  #watch(request: IncomingMessage): void {
    const { headers } = request
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
    if (!hasBody || this.#waiting.has(request)) return
    const timer = setTimeout(() => {
      const error = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
      this.#server.emit('clientError', error, request.socket)
    }, this.#readTimeoutMs)
    this.#waiting.set(request, { timer, sinceMs: performance.now() })
    const stop = (): void => clearTimeout(timer)
    request.once('end', stop)
    request.once('close', stop)
  }
}
