/** A JSON value that still knows how it was written: numbers as text, objects with repeated keys in order. */
export type JsonText =
  | { kind: 'null' }
  | { kind: 'bool'; value: boolean }
  | { kind: 'number'; text: string }
  | { kind: 'string'; value: string }
  | { kind: 'array'; items: JsonText[] }
  | { kind: 'object'; entries: [key: string, value: JsonText][] }

/** Reads one JSON document strictly, keeping what `JSON.parse` throws away. Throws a SyntaxError. */
export function readJsonText(text: string): JsonText {
  const reader = new Reader(text)
  const value = reader.value()
  reader.end()
  return value
}

/** The value as JavaScript sees it. */
export function plain(value: JsonText): unknown {
  switch (value.kind) {
    case 'null':
      return null
    case 'number':
      return Number(value.text)
    case 'array':
      return value.items.map(plain)
    case 'object':
      return Object.fromEntries(value.entries.map(([key, item]) => [key, plain(item)]))
    default:
      return value.value
  }
}

class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  value(): JsonText {
    this.#blank()
    const character = this.#text[this.#at]
    if (character === '{') return this.#object()
    if (character === '[') return this.#array()
    if (character === '"') return { kind: 'string', value: this.#string() }
    const word = this.#match(/true|false|null/y)
    if (word === 'null') return { kind: 'null' }
    if (word !== undefined) return { kind: 'bool', value: word === 'true' }
    const number = this.#match(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y)
    if (number !== undefined) return { kind: 'number', text: number }
    throw this.#error('a value')
  }

  end(): void {
    this.#blank()
    if (this.#at !== this.#text.length) throw this.#error('the end')
  }

  #object(): JsonText {
    const entries: [string, JsonText][] = []
    this.#expect('{')
    if (this.#take('}')) return { kind: 'object', entries }
    do {
      this.#blank()
      const key = this.#string()
      this.#expect(':')
      entries.push([key, this.value()])
    } while (this.#take(','))
    this.#expect('}')
    return { kind: 'object', entries }
  }

  #array(): JsonText {
    const items: JsonText[] = []
    this.#expect('[')
    if (this.#take(']')) return { kind: 'array', items }
    do items.push(this.value())
    while (this.#take(','))
    this.#expect(']')
    return { kind: 'array', items }
  }

  #string(): string {
    const text = this.#match(/"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y)
    if (text === undefined) throw this.#error('a string')
    return JSON.parse(text) as string
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    this.#at += found?.length ?? 0
    return found
  }

  #blank(): void {
    this.#match(/[ \t\r\n]*/y)
  }

  #take(character: string): boolean {
    this.#blank()
    if (this.#text[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  #expect(character: string): void {
    if (!this.#take(character)) throw this.#error(JSON.stringify(character))
  }

  #error(wanted: string): SyntaxError {
    return new SyntaxError(
      `Expected ${wanted} at ${this.#at}: ${this.#text.slice(Math.max(0, this.#at - 20), this.#at + 40)}`,
    )
  }
}
