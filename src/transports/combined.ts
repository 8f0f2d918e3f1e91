import { isWeirError } from '../errors.js'
import type { Closable, Handler, Message, Subject, Transport } from '../ports/index.js'

/**
 * A transport for a process that plays both roles and serves others as well: what is served is served on both, and a
 * request goes to this process first, to the network only when nobody here serves it. Closes both.
 */
export function combineTransports(local: Transport, remote: Transport): Transport {
  return new CombinedTransport(local, remote)
}

class CombinedTransport implements Transport {
  readonly #local: Transport
  readonly #remote: Transport

  constructor(local: Transport, remote: Transport) {
    this.#local = local
    this.#remote = remote
  }

  async request(subject: Subject, body: Message, timeoutMs: number): Promise<Message> {
    try {
      return await this.#local.request(subject, body, timeoutMs)
    } catch (error) {
      if (!isWeirError(error, 'transport.no_responder')) throw error
      return this.#remote.request(subject, body, timeoutMs)
    }
  }

  async serve(subject: Subject, handler: Handler): Promise<Closable> {
    const here = await this.#local.serve(subject, handler)
    try {
      const there = await this.#remote.serve(subject, handler)
      return {
        close: async () => {
          await Promise.all([here.close(), there.close()])
        },
      }
    } catch (error) {
      await here.close()
      throw error
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#local.close(), this.#remote.close()])
  }
}
