import { Failure } from '../component/faults.js'
import { isHeader, isWrittenForProgram } from '../http/request-head.js'
import type { HostFunction } from './host-interface.js'

type Pair = readonly [name: string, value: string]

/** `fields` of `wasi:http`: header lines, values with one character per byte. */
export class Fields {
  readonly #pairs: Pair[]
  readonly #isImmutable: boolean

  constructor(pairs: Pair[] = [], isImmutable = false) {
    this.#pairs = pairs
    this.#isImmutable = isImmutable
  }

  get pairs(): readonly Pair[] {
    return this.#pairs
  }

  /** The same lines, for those who may only look. */
  get view(): Fields {
    return new Fields(this.#pairs, true)
  }

  get copy(): Fields {
    return new Fields([...this.#pairs])
  }

  values(name: string): string[] {
    return this.#pairs.filter(([one]) => isSame(one, name)).map(([, value]) => value)
  }

  /** @throws Failure `immutable`, `forbidden`, `invalid-syntax`. */
  append(name: string, value: Uint8Array): void {
    this.#checkMutable()
    const text = Buffer.from(value).toString('latin1')
    if (!isHeader(name, text)) throw new Failure({ tag: 'invalid-syntax' })
    // How long the body is may be said; whoever sends it holds the program to it.
    if (isWrittenForProgram(name) && !isSame(name, 'content-length')) throw new Failure({ tag: 'forbidden' })
    this.#pairs.push([name, text])
  }

  remove(name: string): void {
    this.#checkMutable()
    if (!isHeader(name, '')) throw new Failure({ tag: 'invalid-syntax' })
    for (let index = this.#pairs.length - 1; index >= 0; index--) {
      if (isSame(this.#pairs[index]?.[0] ?? '', name)) this.#pairs.splice(index, 1)
    }
  }

  #checkMutable(): void {
    if (this.#isImmutable) throw new Failure({ tag: 'immutable' })
  }
}

export function fieldsFunctions(): Record<string, HostFunction> {
  return {
    '[constructor]fields': () => new Fields(),
    '[static]fields.from-list': (entries: [string, Uint8Array][]) => {
      const fields = new Fields()
      for (const [name, value] of entries) fields.append(name, value)
      return fields
    },
    '[method]fields.get': (fields: Fields, name: string) => fields.values(name).map(bytesOf),
    '[method]fields.has': (fields: Fields, name: string) => fields.values(name).length > 0,
    '[method]fields.set': (fields: Fields, name: string, values: Uint8Array[]) => {
      const added = new Fields()
      for (const value of values) added.append(name, value)
      fields.remove(name)
      for (const value of values) fields.append(name, value)
    },
    '[method]fields.delete': (fields: Fields, name: string) => fields.remove(name),
    '[method]fields.append': (fields: Fields, name: string, value: Uint8Array) => fields.append(name, value),
    '[method]fields.entries': (fields: Fields) => fields.pairs.map(([name, value]) => [name, bytesOf(value)]),
    '[method]fields.clone': (fields: Fields) => fields.copy,
  }
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase()
}

function bytesOf(value: string): Uint8Array {
  return Buffer.from(value, 'latin1')
}
