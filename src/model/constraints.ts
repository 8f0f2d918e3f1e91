import { WeirError } from '../errors.js'
import { checkLabelKey, checkLabelValue } from './labels.js'
import type { Constraint, ConstraintOperator } from './job-spec.js'

/** A constraint with this prefix only ranks nodes; the rest of the key names the label. */
export const FAVOUR_PREFIX = 'favour_'

/** The verdict on one set of labels. */
export interface ConstraintMatch {
  /** True when no hard constraint is violated. */
  matches: boolean
  /** One line per violated hard constraint, for example `label region is "us", wanted region in (eu,uk)`. */
  reasons: string[]
  /** How many `favour_` constraints hold; 0 when there are none. */
  favoured: number
}

/**
 * Reads Kubernetes selector grammar: `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k>1`, `k<1`,
 * joined by commas. Empty text gives an empty list. Throws `spec.invalid` naming the position.
 */
export function parseConstraints(text: string): Constraint[] {
  if (text.length > TEXT_MAX) throw selectorError(text, TEXT_MAX, 'it is too long')
  const reader = new SelectorReader(text)
  const constraints: Constraint[] = []
  if (reader.atEnd()) return constraints
  for (;;) {
    constraints.push(readConstraint(reader))
    if (reader.atEnd()) return constraints
    reader.expect(',')
  }
}

/** Prints in the grammar that {@link parseConstraints} reads. */
export function formatConstraints(constraints: readonly Constraint[]): string {
  return constraints.map(formatConstraint).join(',')
}

export function formatConstraint({ Key, Operator, Values }: Constraint): string {
  switch (Operator) {
    case 'exists':
      return Key
    case '!':
      return `!${Key}`
    case 'in':
    case 'notin':
      return `${Key} ${Operator} (${Values.join(',')})`
    case 'gt':
      return `${Key}>${Values[0] ?? ''}`
    case 'lt':
      return `${Key}<${Values[0] ?? ''}`
    case '=':
    case '==':
    case '!=':
      return `${Key}${Operator}${Values[0] ?? ''}`
  }
}

/**
 * Judges labels. `!=` and `notin` also hold when the label is absent; `gt` and `lt` compare integers and never hold
 * for other values.
 */
export function matchConstraints(
  constraints: readonly Constraint[],
  labels: Readonly<Record<string, string>>,
): ConstraintMatch {
  const reasons: string[] = []
  let favoured = 0
  for (const constraint of constraints) {
    if (constraint.Key.startsWith(FAVOUR_PREFIX)) {
      const wish = { ...constraint, Key: constraint.Key.slice(FAVOUR_PREFIX.length) }
      if (holds(wish, labels)) favoured += 1
    } else if (!holds(constraint, labels)) {
      reasons.push(violation(constraint, labels))
    }
  }
  return { matches: reasons.length === 0, reasons, favoured }
}

/** What is wrong with a constraint's operator and values, in Bacalhau's words; undefined when nothing is. */
export function checkConstraint(constraint: Constraint): { message: string; hint?: string } | undefined {
  const { Key, Operator, Values } = constraint
  const key = checkLabelKey(Key)
  if (Key === '') return { message: 'key cannot be blank' }
  if (key !== undefined) return { message: `key ${JSON.stringify(Key)} ${key.message}`, hint: key.hint }
  if (Operator === 'in' || Operator === 'notin') {
    if (Values.length === 0)
      return { message: `In/NotIn needs values: operator ${Operator} of key ${Key} has none` }
  } else if (Operator === 'exists' || Operator === '!') {
    if (Values.length > 0)
      return { message: `Exists takes none: operator ${Operator} of key ${Key} has values` }
  } else if (Values.length !== 1) {
    return { message: `operator ${Operator} of key ${Key} needs exactly one value, found ${Values.length}` }
  }
  const wrong = Values.find((value) => checkLabelValue(value) !== undefined)
  if (wrong !== undefined) {
    return {
      message: `value ${JSON.stringify(wrong)} ${checkLabelValue(wrong)?.message}`,
      hint: checkLabelValue(wrong)?.hint,
    }
  }
  if ((Operator === 'gt' || Operator === 'lt') && integer(Values[0]) === undefined) {
    return { message: `operator ${Operator} of key ${Key} needs exactly one value that is an integer` }
  }
  return undefined
}

const TEXT_MAX = 64 * 1024

function holds({ Key, Operator, Values }: Constraint, labels: Readonly<Record<string, string>>): boolean {
  const value = Object.hasOwn(labels, Key) ? labels[Key] : undefined
  switch (Operator) {
    case '=':
    case '==':
    case 'in':
      return value !== undefined && Values.includes(value)
    case '!=':
    case 'notin':
      return value === undefined || !Values.includes(value)
    case 'exists':
      return value !== undefined
    case '!':
      return value === undefined
    case 'gt':
    case 'lt': {
      const [actual, limit] = [integer(value), integer(Values[0])]
      if (actual === undefined || limit === undefined) return false
      return Operator === 'gt' ? actual > limit : actual < limit
    }
  }
}

function violation(constraint: Constraint, labels: Readonly<Record<string, string>>): string {
  const value = Object.hasOwn(labels, constraint.Key) ? labels[constraint.Key] : undefined
  const actual = value === undefined ? 'is missing' : `is ${JSON.stringify(value)}`
  return `label ${constraint.Key} ${actual}, wanted ${formatConstraint(constraint)}`
}

function integer(text: string | undefined): bigint | undefined {
  return text !== undefined && /^-?\d{1,63}$/.test(text) ? BigInt(text) : undefined
}

function readConstraint(reader: SelectorReader): Constraint {
  if (reader.accept('!')) return finished(reader, reader.word('a label key'), '!', [])
  const key = reader.word('a label key')
  const operator = readOperator(reader)
  if (operator === 'exists') return finished(reader, key, operator, [])
  if (operator !== 'in' && operator !== 'notin')
    return finished(reader, key, operator, [reader.optionalWord()])
  reader.expect('(')
  const values = [reader.optionalWord()]
  while (reader.accept(',')) values.push(reader.optionalWord())
  reader.expect(')')
  return finished(reader, key, operator, values)
}

function readOperator(reader: SelectorReader): ConstraintOperator {
  for (const symbol of ['!=', '==', '='] as const) if (reader.accept(symbol)) return symbol
  if (reader.accept('>')) return 'gt'
  if (reader.accept('<')) return 'lt'
  for (const word of ['in', 'notin'] as const) if (reader.acceptWord(word)) return word
  return 'exists'
}

function finished(
  reader: SelectorReader,
  Key: string,
  Operator: ConstraintOperator,
  Values: string[],
): Constraint {
  const constraint = { Key, Operator, Values }
  const wrong = checkConstraint(constraint)
  if (wrong !== undefined) throw selectorError(reader.text, reader.position, wrong.message, wrong.hint)
  return constraint
}

/** Reads symbols and words; blanks between them mean nothing. */
class SelectorReader {
  readonly text: string
  position = 0

  constructor(text: string) {
    this.text = text
    this.skipBlanks()
  }

  atEnd(): boolean {
    return this.position >= this.text.length
  }

  accept(symbol: string): boolean {
    if (!this.text.startsWith(symbol, this.position)) return false
    this.position += symbol.length
    this.skipBlanks()
    return true
  }

  acceptWord(word: string): boolean {
    if (this.peekWord() !== word) return false
    return this.accept(word)
  }

  expect(symbol: string): void {
    if (this.accept(symbol)) return
    const found = this.atEnd()
      ? 'the end'
      : JSON.stringify(this.text.slice(this.position, this.position + 20))
    throw selectorError(this.text, this.position, `expected "${symbol}", found ${found}`)
  }

  word(what: string): string {
    const word = this.optionalWord()
    if (word === '') throw selectorError(this.text, this.position, `expected ${what}`)
    return word
  }

  optionalWord(): string {
    const word = this.peekWord()
    this.position += word.length
    this.skipBlanks()
    return word
  }

  private peekWord(): string {
    const sticky = /[^\s,()=!<>]*/y
    sticky.lastIndex = this.position
    return sticky.exec(this.text)?.[0] ?? ''
  }

  private skipBlanks(): void {
    while (/\s/.test(this.text.charAt(this.position))) this.position += 1
  }
}

function selectorError(text: string, position: number, reason: string, hint?: string): WeirError {
  const shown = JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)
  return new WeirError(
    'spec.invalid',
    `Cannot parse constraints ${shown} at character ${position + 1}: ${reason}`,
    {
      hint: hint ?? 'Write for example region=eu, region in (eu,us), !gpu or cores>4, joined by commas.',
    },
  )
}
