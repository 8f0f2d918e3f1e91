import type { Config } from '../config/index.js'
import { toWeirError, type WeirError } from '../errors.js'
import { grantsInForce, readTime, type TrustedKey } from '../model/index.js'
import type { Clock, NodeEgressPolicy } from '../ports/index.js'
import { readEgressPolicy } from './egress-policy.js'
import { readTrustedKeys } from './trusted-keys.js'

export interface OwnEgressParts {
  config: Pick<Config, 'values' | 'dataDir'>
  /** Names and addresses that are the network itself, beside those of the configuration. */
  self: readonly string[]
  /** See {@link readEgressPolicy}. */
  reading: Parameters<typeof readEgressPolicy>[2]
  clock: Pick<Clock, 'now'>
  warn: (error: WeirError) => void
}

/** The rules of a node's operator: lists and trusted keys, of configuration and files. */
export interface OwnEgress {
  /** Reads everything again. Rejects with `config.invalid`, naming every mistake. */
  read(): Promise<NodeEgressPolicy>
  /** True when trust in a key has expired since the last reading. */
  isDue(): boolean
}

/** Trust that has expired ends at the next reading also when a file cannot be read then: all else stays as it was. */
export function ownEgress({ config, self, reading, clock, warn }: OwnEgressParts): OwnEgress {
  let known: { lists: NodeEgressPolicy; keys: TrustedKey[] } | undefined
  let nextExpiryMs = Infinity
  const isDue = (): boolean => clock.now() >= nextExpiryMs
  return {
    isDue,
    async read() {
      try {
        const lists = await readEgressPolicy(config.values, self, reading)
        known = { lists, keys: await readTrustedKeys(config) }
      } catch (error) {
        if (known === undefined || !isDue()) throw error
        warn(toWeirError(error, 'config.invalid'))
      }
      const nowMs = clock.now()
      const { lists, keys } = known
      nextExpiryMs = Math.min(Infinity, ...expiriesOf(keys).filter((ms) => ms > nowMs))
      return { ...lists, keys: grantsInForce(keys, nowMs) }
    },
  }
}

function expiriesOf(keys: readonly TrustedKey[]): number[] {
  return keys.flatMap(({ expires }) => (expires === undefined ? [] : [readTime(expires)]))
}
