import type { BigIntStats } from 'node:fs'

const ENTRIES_MAX = 100_000

/**
 * Remembers the exact times that the program set on files.
 *
 * Node sets times as floating point seconds, which loses nanoseconds; a program that reads back what it set would see
 * another number. What was set is answered as long as the file still has the rounded time.
 */
export class ExactTimes {
  readonly #set = new Map<
    string,
    { atim: [rounded: bigint, exact: bigint]; mtim: [rounded: bigint, exact: bigint] }
  >()

  /** `stat` is taken after the times were set. */
  remember(stat: BigIntStats, atimNs: bigint, mtimNs: bigint): void {
    if (this.#set.size >= ENTRIES_MAX) this.#set.clear()
    this.#set.set(`${stat.dev}:${stat.ino}`, { atim: [stat.atimeNs, atimNs], mtim: [stat.mtimeNs, mtimNs] })
  }

  of(stat: BigIntStats): { atim: bigint; mtim: bigint; ctim: bigint } {
    const set = this.#set.size === 0 ? undefined : this.#set.get(`${stat.dev}:${stat.ino}`)
    const atim = set?.atim[0] === stat.atimeNs ? set.atim[1] : stat.atimeNs
    const mtim = set?.mtim[0] === stat.mtimeNs ? set.mtim[1] : stat.mtimeNs
    return { atim, mtim, ctim: stat.ctimeNs }
  }
}
