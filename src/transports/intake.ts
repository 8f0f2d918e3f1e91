import type { Clock } from '../ports/index.js'

/** What one sender may send. */
export interface IntakeLimits {
  /** Messages in a second, on average. 100. */
  messagesPerSecond: number
  /** Bytes in a second, on average. 16 MiB. */
  bytesPerSecond: number
  /** Requests of one sender that are being answered at the same time. 8. */
  underWayMax: number
  /** More refused messages than this within ten seconds are a flood. 20,000. */
  floodMessages: number
}

export const INTAKE_LIMITS: IntakeLimits = Object.freeze({
  messagesPerSecond: 100,
  bytesPerSecond: 16 * 1024 ** 2,
  underWayMax: 8,
  floodMessages: 20_000,
})

interface Sender {
  messages: number
  bytes: number
  refilledMs: number
  underWay: number
  refused: number
  refusedSinceMs: number
}

/**
 * Decides which messages of whom are read at all. What is not taken costs no parsing: one sender that shouts must not
 * keep the others from being heard.
 */
export class Intake {
  readonly #senders = new Map<string, Sender>()
  readonly #limits: IntakeLimits
  readonly #clock: Clock
  readonly #onFlood: (sender: string) => void

  constructor(clock: Clock, limits: IntakeLimits, onFlood: (sender: string) => void) {
    this.#clock = clock
    this.#limits = limits
    this.#onFlood = onFlood
  }

  /** Undefined: drop it. Otherwise call the function when the message is answered. */
  take(from: string, bytes: number): (() => void) | undefined {
    const now = this.#clock.now()
    const sender = this.#senders.get(from) ?? this.#enter(from, now)
    const { messagesPerSecond, bytesPerSecond, underWayMax } = this.#limits
    const share = Math.max(0, now - sender.refilledMs) / 1_000
    sender.refilledMs = now
    sender.messages = Math.min(2 * messagesPerSecond, sender.messages + share * messagesPerSecond)
    sender.bytes = Math.min(2 * bytesPerSecond, sender.bytes + share * bytesPerSecond)
    if (sender.messages < 1 || sender.bytes < bytes || sender.underWay >= underWayMax) {
      this.#refuse(from, sender, now)
      return undefined
    }
    sender.messages -= 1
    sender.bytes -= bytes
    sender.underWay += 1
    return () => {
      sender.underWay -= 1
    }
  }

  #enter(from: string, now: number): Sender {
    if (this.#senders.size >= SENDERS_MAX) this.#forgetQuiet(now)
    const { messagesPerSecond, bytesPerSecond } = this.#limits
    const sender = {
      messages: 2 * messagesPerSecond,
      bytes: 2 * bytesPerSecond,
      refilledMs: now,
      underWay: 0,
      refused: 0,
      refusedSinceMs: now,
    }
    this.#senders.set(from, sender)
    return sender
  }

  #refuse(from: string, sender: Sender, now: number): void {
    if (now - sender.refusedSinceMs > FLOOD_MS) {
      sender.refused = 0
      sender.refusedSinceMs = now
    }
    sender.refused += 1
    if (sender.refused === this.#limits.floodMessages) this.#onFlood(from)
  }

  /** Who was silent for a while has a full allowance again, which is what a newcomer gets. */
  #forgetQuiet(now: number): void {
    for (const [from, sender] of this.#senders)
      if (sender.underWay === 0 && now - sender.refilledMs > FLOOD_MS) this.#senders.delete(from)
  }
}

const SENDERS_MAX = 20_000
const FLOOD_MS = 10_000
