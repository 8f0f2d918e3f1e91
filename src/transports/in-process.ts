import { setMaxListeners } from 'node:events'
import { type WeirError, toWeirError } from '../errors.js'
import type { Chance, Closable, Handler, Message, Subject, TimerClock, Transport } from '../ports/index.js'
import {
  decodeError,
  encodeError,
  encodeMessage,
  noAnswer,
  noResponder,
  servedAlready,
  transportClosed,
} from './message.js'

/** How the network misbehaves. All default to 0: a perfect network. */
export interface Faults {
  /** Share of requests, and of answers, that never arrive: 0 to 1. */
  loss: number
  /** Share of requests that arrive twice; the first answer counts. */
  repeat: number
  /** Each direction takes a random time between these, so messages overtake each other. */
  delayMsMin: number
  delayMsMax: number
}

export interface InProcessTransportOptions {
  clock: TimerClock
  /** Needed for faults only. */
  chance?: Pick<Chance, 'random'>
  /** Asked once for each request and once for each answer, so a test can cut one node off, in one direction too. */
  faults?: (subject: Subject, message: TravellingMessage) => Partial<Faults>
}

/** A message that is about to leave. */
export interface TravellingMessage {
  direction: 'request' | 'answer'
  /** What was asked, also when the answer travels. */
  body: Message
}

/**
 * The {@link Transport} inside one process: all roles share the one object. Messages are copied as JSON, so no two
 * roles ever hold the same value.
 */
export function createInProcessTransport(options: InProcessTransportOptions): Transport {
  return new InProcessTransport(options)
}

class InProcessTransport implements Transport {
  readonly #clock: TimerClock
  readonly #random: () => number
  readonly #faults: ((subject: Subject, message: TravellingMessage) => Faults) | undefined
  readonly #handlers = new Map<Subject, Handler>()
  /** What ends requests that wait for an answer, with an error. */
  readonly #waiting = new Set<(error: WeirError) => void>()
  readonly #closing = new AbortController()

  constructor({ clock, chance, faults }: InProcessTransportOptions) {
    this.#clock = clock
    // Each message that is under way listens.
    setMaxListeners(0, this.#closing.signal)
    this.#random = () => chance?.random() ?? 1
    this.#faults = faults && ((subject, message) => ({ ...NO_FAULTS, ...faults(subject, message) }))
  }

  async request(subject: Subject, body: Message, timeoutMs: number): Promise<Message> {
    if (this.#closing.signal.aborted) throw transportClosed()
    const text = encodeMessage(subject, body)
    let end = (_error: WeirError): void => {}
    const unanswered = new Promise<never>((_resolve, reject) => {
      end = reject
    })
    this.#waiting.add(end)
    const callOff = this.#clock.schedule(timeoutMs, () => end(noAnswer(subject, timeoutMs)))
    try {
      return await Promise.race([this.#exchange(subject, body, text), unanswered])
    } finally {
      this.#waiting.delete(end)
      callOff()
    }
  }

  async serve(subject: Subject, handler: Handler): Promise<Closable> {
    if (this.#handlers.has(subject)) {
      throw servedAlready(subject)
    }
    this.#handlers.set(subject, handler)
    return {
      close: async () => {
        if (this.#handlers.get(subject) === handler) this.#handlers.delete(subject)
      },
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    for (const end of this.#waiting) end(transportClosed())
    this.#handlers.clear()
  }

  /** There and back; pending for ever when a message is lost. */
  async #exchange(subject: Subject, body: Message, text: string): Promise<Message> {
    const answer = await (this.#faults === undefined
      ? this.#handle(subject, text)
      : this.#travel(subject, body, text, this.#faults))
    if ('error' in answer) throw answer.error
    return JSON.parse(answer.text) as Message
  }

  async #travel(
    subject: Subject,
    body: Message,
    text: string,
    faultsOf: (subject: Subject, message: TravellingMessage) => Faults,
  ): Promise<Answer> {
    const faults = faultsOf(subject, { direction: 'request', body })
    const arrivals = this.#happens(faults.repeat) ? 2 : 1
    const answers = Array.from({ length: arrivals }, async () => {
      if (!(await this.#travels(faults))) return pending()
      const answer = await this.#handle(subject, text)
      return (await this.#travels(faultsOf(subject, { direction: 'answer', body }))) ? answer : pending()
    })
    return Promise.race(answers)
  }

  async #handle(subject: Subject, text: string): Promise<Answer> {
    const handler = this.#handlers.get(subject)
    if (handler === undefined) {
      return { error: noResponder(subject) }
    }
    try {
      return {
        text: encodeMessage(subject, await handler(JSON.parse(text) as Message, this.#closing.signal)),
      }
    } catch (error) {
      return { error: decodeError(encodeError(toWeirError(error))) }
    }
  }

  /** Resolves on arrival; false when the message was lost on the way. */
  async #travels(faults: Faults): Promise<boolean> {
    if (this.#happens(faults.loss)) return false
    if (faults.delayMsMax > 0) {
      const delayMs = faults.delayMsMin + this.#random() * (faults.delayMsMax - faults.delayMsMin)
      // A message that is under way arrives even when its sender no longer waits for the answer.
      await this.#clock.sleep(delayMs, this.#closing.signal).catch(() => undefined)
    }
    return !this.#closing.signal.aborted
  }

  #happens(share: number): boolean {
    return share > 0 && this.#random() < share
  }
}

type Answer = { text: string } | { error: WeirError }

const NO_FAULTS: Faults = { loss: 0, repeat: 0, delayMsMin: 0, delayMsMax: 0 }

function pending(): Promise<never> {
  return new Promise(() => undefined)
}
