/**
 * The arithmetic of a token bucket, without timers: `perMs` units flow in each millisecond, at most `burst` are kept. In
 * any span of time no more than `burst + perMs × span` units are taken. Time may stand still but never counts backwards.
 */
export class Level {
  readonly #perMs: number
  readonly #burst: number
  #units: number
  #atMs: number

  /** Full at first. */
  constructor(perMs: number, burst: number, nowMs: number) {
    this.#perMs = perMs
    this.#burst = burst
    this.#units = burst
    this.#atMs = nowMs
  }

  /** True when the units were there, and are taken. */
  take(units: number, nowMs: number): boolean {
    this.#fill(nowMs)
    if (this.#units < units) return false
    this.#units -= units
    return true
  }

  /** Units that were taken and not used. */
  giveBack(units: number): void {
    this.#units = Math.min(this.#burst, this.#units + units)
  }

  /**
   * Takes units that may not be there yet, and says when they will be: milliseconds from now, 0 for at once. Undefined, and
   * nothing is taken, when that would be later than `patienceMs`.
   */
  reserve(units: number, nowMs: number, patienceMs: number): number | undefined {
    const waitMs = this.msUntil(units, nowMs)
    if (waitMs > patienceMs) return undefined
    this.#units -= units
    return waitMs
  }

  /** How long until so many units are there; 0 when they are. */
  msUntil(units: number, nowMs: number): number {
    this.#fill(nowMs)
    return this.#units >= units ? 0 : (units - this.#units) / this.#perMs
  }

  #fill(nowMs: number): void {
    const elapsedMs = Math.max(0, nowMs - this.#atMs)
    this.#atMs = Math.max(this.#atMs, nowMs)
    this.#units = Math.min(this.#burst, this.#units + elapsedMs * this.#perMs)
  }
}
