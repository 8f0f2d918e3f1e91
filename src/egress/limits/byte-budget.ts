import { WeirError } from '../../errors.js'
import {
  type EgressLimits,
  formatBytes,
  type HostPattern,
  HostPatternSet,
  parseHostPattern,
} from '../../model/index.js'

export type Direction = 'up' | 'down'

/** Payload that may still pass in each direction. Never goes below zero. */
export class ByteBudget {
  /** The domain it is for; empty for everything. */
  readonly domain: string
  readonly #maxima: Readonly<Record<Direction, number>>
  readonly #used: Record<Direction, number> = { up: 0, down: 0 }

  /** 0 = no bound. */
  constructor(domain: string, bytesUpMax: number, bytesDownMax: number) {
    this.domain = domain
    this.#maxima = { up: bytesUpMax || Infinity, down: bytesDownMax || Infinity }
  }

  left(direction: Direction): number {
    return this.#maxima[direction] - this.#used[direction]
  }

  /** What passed without asking, before a restart, may be more than was left. */
  spend(direction: Direction, bytes: number): void {
    this.#used[direction] = Math.min(this.#maxima[direction], this.#used[direction] + bytes)
  }

  /** The refusal of one byte more. */
  exhausted(direction: Direction): WeirError {
    const what = this.domain === '' ? 'of the execution' : `for ${this.domain}`
    const word = direction === 'up' ? 'upload' : 'download'
    return new WeirError(
      direction === 'up' ? 'egress.quota_up' : 'egress.quota_down',
      `the ${word} budget ${what}, ${formatBytes(this.#maxima[direction])}, is used up`,
    )
  }
}

/** All budgets of one execution: one for everything, and those of single domains inside it. */
export class ByteBudgets {
  readonly #whole: ByteAccount
  readonly #budget: ByteBudget
  readonly #domains: readonly { budget: ByteBudget; pattern: HostPattern; set: HostPatternSet }[]

  constructor({ bytesUpMax, bytesDownMax, budgets }: EgressLimits) {
    this.#budget = new ByteBudget('', bytesUpMax, bytesDownMax)
    this.#whole = new ByteAccount([this.#budget])
    this.#domains = budgets.map(({ domain, bytesUpMax: up, bytesDownMax: down }) => {
      const pattern = parseHostPattern(domain, { allowPublicSuffix: true, allowPrivate: true })
      return { budget: new ByteBudget(domain, up, down), pattern, set: new HostPatternSet([pattern]) }
    })
  }

  /** What traffic with this host is charged to. */
  account(host: string, port: number): ByteAccount {
    if (this.#domains.length === 0) return this.#whole
    const domains = this.#domains.filter(({ pattern, set }) =>
      pattern.port === undefined ? set.matchHost(host) !== undefined : set.match(host, port) !== undefined,
    )
    return new ByteAccount([...domains.map(({ budget }) => budget), this.#budget])
  }
}

/** The budgets that one attempt is charged to. */
export class ByteAccount {
  readonly #budgets: readonly ByteBudget[]

  constructor(budgets: readonly ByteBudget[]) {
    this.#budgets = budgets
  }

  /** How many of `bytes` may pass, which are taken from every budget. Throws `egress.quota_*` when it is none of them. */
  draw(direction: Direction, bytes: number): number {
    this.check(direction)
    let granted = bytes
    for (const budget of this.#budgets) granted = Math.min(granted, budget.left(direction))
    for (const budget of this.#budgets) budget.spend(direction, granted)
    return granted
  }

  /** Throws `egress.quota_*` when not a single byte may pass. */
  check(direction: Direction): void {
    for (const budget of this.#budgets) if (budget.left(direction) <= 0) throw budget.exhausted(direction)
  }

  spend(direction: Direction, bytes: number): void {
    for (const budget of this.#budgets) budget.spend(direction, bytes)
  }
}
