import type { Chance } from '../../../src/ports/index.js'
import { seededChance } from '../virtual-time.js'

/** Chance for one purpose, told apart by name: what one purpose draws changes nothing for another. */
export class Dice {
  readonly chance: Chance

  constructor(seed: number, ...purpose: (string | number)[]) {
    this.chance = seededChance(hashOf(`${seed} ${purpose.join(' ')}`))
  }

  /** True in `share` of all cases. */
  happens(share: number): boolean {
    return this.chance.random() < share
  }

  /** Whole, from `min` to `max`, both possible. */
  whole(min: number, max: number): number {
    return min + Math.floor(this.chance.random() * (max - min + 1))
  }

  between(min: number, max: number): number {
    return min + this.chance.random() * (max - min)
  }

  pick<T>(from: readonly T[]): T {
    const one = from[Math.floor(this.chance.random() * from.length)]
    if (from.length === 0) throw new Error('there is nothing to pick from')
    return one as T
  }

  /** One of the words, as often as its weight says. */
  weighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][]
    let at = this.chance.random() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [word, weight] of entries) if ((at -= weight) < 0) return word
    return (entries.at(-1) as [K, number])[0]
  }
}

/** FNV-1a, 32 bits, then mixed. */
export function hashOf(text: string, start = 0x811c9dc5): number {
  let value = start
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  }
  value ^= value >>> 16
  value = Math.imul(value, 0x85ebca6b)
  return (value ^ (value >>> 13)) >>> 0
}
