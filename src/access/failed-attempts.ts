import { isIPv6 } from 'node:net'
import type { Clock } from '../ports/index.js'

export interface FailedAttemptLimits {
  /** Failures that one source may have at once. Default 10. */
  perSource: number
  /** One failure is forgiven after so long. Default 6,000. */
  forgiveAfterMs: number
  /** Sources that are remembered; the one that failed longest ago is forgotten first. Default 10,000. */
  sourcesMax: number
}

const DEFAULT_LIMITS: FailedAttemptLimits = { perSource: 10, forgiveAfterMs: 6_000, sourcesMax: 10_000 }

/** Counts failures per source (a leaking bucket each), so that guessing is slow and nobody else is held up. */
export class FailedAttempts {
  readonly #clock: Pick<Clock, 'now'>
  readonly #limits: FailedAttemptLimits
  /** In the order of their last failure. */
  readonly #sources = new Map<string, { failures: number; atMs: number }>()

  constructor(clock: Pick<Clock, 'now'>, limits: Partial<FailedAttemptLimits> = {}) {
    this.#clock = clock
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
  }

  /** Seconds until the source may try again; 0 when it may now. */
  waitSeconds(source: string): number {
    // There must be room for one whole failure.
    const over = this.#failuresOf(source) + 1 - this.#limits.perSource
    return over <= 0 ? 0 : Math.max(1, Math.ceil((over * this.#limits.forgiveAfterMs) / 1000))
  }

  add(source: string): void {
    // More than the bucket holds would lock a source out for longer the more it tries.
    const failures = Math.min(this.#failuresOf(source) + 1, this.#limits.perSource)
    this.#sources.delete(source)
    this.#sources.set(source, { failures, atMs: this.#clock.now() })
    if (this.#sources.size <= this.#limits.sourcesMax) return
    const oldest = this.#sources.keys().next().value
    if (oldest !== undefined) this.#sources.delete(oldest)
  }

  #failuresOf(source: string): number {
    const found = this.#sources.get(source)
    if (found === undefined) return 0
    const forgiven = Math.max(0, this.#clock.now() - found.atMs) / this.#limits.forgiveAfterMs
    const failures = found.failures - forgiven
    if (failures > 0) return failures
    this.#sources.delete(source)
    return 0
  }
}

/** The network a caller comes from: an IPv4 address, or the first 64 bits of an IPv6 one, which one host can vary. */
export function sourceOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
  if (!isIPv6(plain)) return plain
  const [head = '', tail] = plain.toLowerCase().split('::')
  const groups = head.split(':').filter((group) => group !== '')
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(':').filter(Boolean).length
  const all = [...groups, ...Array.from({ length: missing }, () => '0')]
  return `${[...all, '0', '0', '0', '0']
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}
