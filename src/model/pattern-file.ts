import { isWeirError, WeirError } from '../errors.js'
import { HostPatternSet } from './host-pattern-set.js'
import { type HostPattern, type HostPatternOptions, PATTERNS_MAX, parseHostPattern } from './host-pattern.js'
import { expandPresets, NO_PRESETS, presetNameOf, presetReader, type Presets } from './presets.js'
import { quoted } from './printable.js'

/**
 * The text of a list file: one pattern per line, comments from `#`. A file without any pattern is a mistake, because it may
 * be half-written; the line `(nothing)` says that a list is empty on purpose.
 */

/** Stands for "this list is empty, and that is meant". */
export const NOTHING = '(nothing)'

/** A line that holds something. */
export interface PatternLine {
  /** From 1. */
  line: number
  /** Without comment and blanks around it. */
  text: string
  /** Behind `#`; empty without. */
  comment: string
}

/** The lines that hold a pattern, a preset or `(nothing)`. */
export function patternLines(text: string): PatternLine[] {
  return text.split(/\r?\n/).flatMap((whole, index) => {
    // A carriage return alone ends a line for some editors: it is refused as part of a pattern, so that no comment hides one.
    if (/\r(?!$)/.test(whole)) return [{ line: index + 1, text: whole.trim(), comment: '' }]
    const [, held = '', comment = ''] = /^(.*?)(?:(?<=^|\s)#(.*))?$/s.exec(whole) ?? []
    return held.trim() === '' ? [] : [{ line: index + 1, text: held.trim(), comment: comment.trim() }]
  })
}

/** Where a pattern stands. */
export interface ListedPattern {
  /** `@name` for a preset, otherwise canonical. */
  text: string
  /** `allowed-hosts:3`, `Egress.Allow[0]`. */
  where: string
  comment: string
}

export interface ListEdit {
  add?: readonly string[]
  remove?: readonly string[]
  /** Goes behind each line that is added, as a comment. */
  comment?: string
}

/** What an edit does, or would do. Patterns are canonical. */
export interface ListChange {
  added: string[]
  removed: string[]
  /** Asked to be added, and there already. */
  present: { pattern: string; where: string }[]
  /** Asked to be added, and left out because another pattern allows all of it. */
  covered: { pattern: string; by: string; where: string }[]
  /** In the list before, and now also allowed by one that was added. */
  redundant: { pattern: string; by: string; where: string }[]
  /** Asked to be removed, and not there. */
  absent: string[]
  /** Asked to be removed, and still allowed, in whole or in part, by what stays. */
  stillAllowed: { pattern: string; by: string; where: string }[]
}

/** How the texts of a list are read. */
export interface ListRules extends HostPatternOptions {
  /** The name of the file in messages. */
  file: string
  /** Patterns of the same list that stand in other places and are not changed here. */
  elsewhere?: readonly ListedPattern[]
  presets?: Presets
}

/**
 * Edits the text of a list file: comments and order stay, what is added comes last. Doing the same again changes nothing.
 * Throws `pattern.invalid` with every mistake of the file, by line, and of the edit.
 */
export function editPatternFile(
  text: string,
  edit: ListEdit,
  rules: ListRules,
): { text: string; change: ListChange } {
  const problems: string[] = []
  const lines = readLines(text, rules, problems)
  const add = readAll(edit.add ?? [], rules, problems)
  const remove = readAll(edit.remove ?? [], rules, problems)
  const isRemoved = new Set(remove)
  for (const both of add.filter((one) => isRemoved.has(one)))
    problems.push(`${quoted(both)} is to be added and removed at once`)
  const elsewhere = rules.elsewhere ?? []
  const fixed = new Map(elsewhere.map((one) => [one.text, one]))
  for (const one of remove.filter((pattern) => fixed.has(pattern)))
    problems.push(
      `${quoted(one)} stands in ${fixed.get(one)?.where}, not in ${rules.file}: take it out there`,
    )
  refuse(problems)

  const isGone = new Set(lines.filter((line) => isRemoved.has(line.text)))
  const kept = [...elsewhere, ...lines.filter((line) => !isGone.has(line))]
  const index = new LineIndex(kept, rules)
  const there = new Map(kept.map((line) => [line.text, line]))
  const inFile = new Set(lines.map((line) => line.text))
  const change: ListChange = {
    added: [],
    removed: [...new Set([...isGone].map((line) => line.text))],
    present: [],
    covered: [],
    redundant: [],
    absent: remove.filter((one) => !inFile.has(one)),
    stillAllowed: remove.flatMap((pattern) => touchedBy(pattern, index)),
  }
  const fresh = add.flatMap((text) => {
    const known = there.get(text)
    if (known !== undefined) change.present.push({ pattern: text, where: known.where })
    return known === undefined ? [{ text, where: 'this command', comment: '' }] : []
  })
  const asked = new LineIndex(fresh, rules)
  const order = new Map(fresh.map((one, at) => [one, at]))
  fresh.forEach((one, at) => {
    const by =
      index.covering(one) ??
      // Two spellings of one set: the first of them is added.
      asked.covering(
        one,
        (other) => (order.get(other) ?? 0) < at || asked.covering(other, only(one)) === undefined,
      )
    if (by === undefined) change.added.push(one.text)
    else change.covered.push({ pattern: one.text, by: by.text, where: by.where })
  })
  change.redundant = change.added.flatMap((text) => redundantBy(text, index))
  const count = kept.length + change.added.length
  if (count > PATTERNS_MAX)
    refuse([`a list of ${count} patterns is too long, at most ${PATTERNS_MAX} are allowed`])
  return { text: rewritten(text, isGone, change, edit.comment ?? '', lines.length), change }
}

/** What the file lists, with its places; throws `pattern.invalid` with every mistake by line. */
export function listedPatterns(text: string, rules: ListRules): ListedPattern[] {
  const problems: string[] = []
  const lines = readLines(text, rules, problems)
  refuse(problems)
  return lines.map(({ text: pattern, where, comment }) => ({ text: pattern, where, comment }))
}

interface FileLine extends ListedPattern {
  line: number
}

function readLines(text: string, rules: ListRules, problems: string[]): FileLine[] {
  const lines = patternLines(text).filter((line) => line.text !== NOTHING)
  const expand = presetReader(rules.presets ?? NO_PRESETS)
  return lines.flatMap(({ line, text: raw, comment }) => {
    const where = `${rules.file}:${line}`
    const [pattern] = readAll([raw], rules, problems, where, expand)
    return pattern === undefined ? [] : [{ line, text: pattern, where, comment }]
  })
}

function readAll(
  texts: readonly string[],
  rules: ListRules,
  problems: string[],
  where?: string,
  expand = presetReader(rules.presets ?? NO_PRESETS),
): string[] {
  const found = texts.flatMap((text) => {
    try {
      if (presetNameOf(text) === undefined) return [parseHostPattern(text.trim(), rules).text]
      expand(text)
      return [text.trim()]
    } catch (error) {
      if (!isWeirError(error)) throw error
      const said = `${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}`
      problems.push(where === undefined ? said : `${where}: ${said}`)
      return []
    }
  })
  return [...new Set(found)]
}

const OPEN = { allowPrivate: true, allowPublicSuffix: true } as const

function setOf(text: string, { presets = NO_PRESETS }: ListRules): HostPattern[] {
  return [...HostPatternSet.parse(expandPresets([text], presets).domains, OPEN).patterns]
}

/** Finds lines by their hosts: a list of 10,000 is compared with another one in milliseconds. */
class LineIndex {
  readonly #rules: ListRules
  readonly #at = new Map<string, ListedPattern[]>()
  readonly #atOrBelow = new Map<string, ListedPattern[]>()

  constructor(lines: readonly ListedPattern[], rules: ListRules) {
    this.#rules = rules
    for (const line of lines) {
      for (const { host } of setOf(line.text, rules)) {
        push(this.#at, host, line)
        for (const suffix of suffixes(host)) push(this.#atOrBelow, suffix, line)
      }
    }
  }

  /**
   * The first line that allows all of another one, or where only several together do so, the first of these. The line
   * itself never counts.
   */
  covering(
    line: ListedPattern,
    counts: (other: ListedPattern) => boolean = () => true,
  ): ListedPattern | undefined {
    const wanted = setOf(line.text, this.#rules)
    const above = wanted.flatMap(({ host }) => suffixes(host).flatMap((suffix) => this.#at.get(suffix) ?? []))
    const others = [...new Set(above)].filter((other) => other !== line)
    const covers = (lines: readonly ListedPattern[]): boolean => {
      const set = new HostPatternSet(lines.flatMap(({ text }) => setOf(text, this.#rules)))
      return wanted.every((pattern) => set.covers(pattern))
    }
    if (others.length === 0 || !covers(others)) return undefined
    const counting = others.filter(counts)
    return counting.find((other) => covers([other])) ?? (covers(counting) ? counting[0] : undefined)
  }

  /** Lines that allow something of what another one does. */
  touching(text: string): ListedPattern[] {
    const wanted = setOf(text, this.#rules)
    const set = new HostPatternSet(wanted)
    const near = wanted.flatMap(({ host }) => [
      ...suffixes(host).flatMap((suffix) => this.#at.get(suffix) ?? []),
      ...(this.#atOrBelow.get(host) ?? []),
    ])
    return [...new Set(near)].filter(
      (line) => !set.intersect(new HostPatternSet(setOf(line.text, this.#rules))).isEmpty,
    )
  }

  /** Lines of which another one allows everything. */
  coveredBy(text: string): ListedPattern[] {
    const set = new HostPatternSet(setOf(text, this.#rules))
    const near = set.patterns.flatMap(({ host }) => this.#atOrBelow.get(host) ?? [])
    return [...new Set(near)].filter((line) =>
      setOf(line.text, this.#rules).every((pattern) => set.covers(pattern)),
    )
  }
}

/** `a.b.c`: itself, `b.c` and `c`. */
function suffixes(host: string): string[] {
  const found = [host]
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1))
    found.push(host.slice(dot + 1))
  return found
}

function push<Key, Value>(map: Map<Key, Value[]>, key: Key, value: Value): void {
  const known = map.get(key)
  if (known === undefined) map.set(key, [value])
  else known.push(value)
}

function only(line: ListedPattern): (other: ListedPattern) => boolean {
  return (other) => other === line
}

function touchedBy(pattern: string, kept: LineIndex): ListChange['stillAllowed'] {
  return kept
    .touching(pattern)
    .map((line) => ({ pattern, by: line.text, where: line.where }))
    .slice(0, SHOWN_MAX)
}

function redundantBy(by: string, kept: LineIndex): ListChange['redundant'] {
  return kept.coveredBy(by).map(({ text, where }) => ({ pattern: text, by, where }))
}

const SHOWN_MAX = 100

function rewritten(
  text: string,
  isGone: ReadonlySet<FileLine>,
  { added }: ListChange,
  comment: string,
  before: number,
): string {
  if (isGone.size === 0 && added.length === 0) return text
  const gone = new Set([...isGone].map(({ line }) => line))
  const isEmpty = before - isGone.size + added.length === 0
  const lines = text.replace(/\r?\n$/, '').split(/\r?\n/)
  const kept = lines.filter((whole, index) => {
    const isNothing = patternLines(whole)[0]?.text === NOTHING
    return !gone.has(index + 1) && !isNothing
  })
  if (kept.length === 1 && kept[0] === '') kept.pop()
  const behind = comment === '' ? '' : `  # ${comment.replace(/[\r\n]+/g, ' ')}`
  const fresh = isEmpty ? [NOTHING] : added.map((pattern) => `${pattern}${behind}`)
  return `${[...kept, ...fresh].join('\n')}\n`
}

function refuse(problems: readonly string[]): void {
  const [first] = problems
  if (first === undefined) return
  const shown = problems.slice(0, SHOWN_MAX)
  const more = problems.length > SHOWN_MAX ? [`and ${problems.length - SHOWN_MAX} more`] : []
  throw new WeirError(
    'pattern.invalid',
    problems.length === 1 ? first : ['Nothing is changed:', ...shown, ...more].join('\n  '),
    { details: { problems: shown } },
  )
}
