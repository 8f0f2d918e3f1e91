import { createRequire } from 'node:module'
import { isWeirError, WeirError } from '../errors.js'
import { PATTERNS_MAX, parseHostPattern } from './host-pattern.js'
import { patternLines } from './pattern-file.js'
import { quoted } from './printable.js'

/** An allowlist of another system, or a plain one, entry by entry. */
export interface ImportedList {
  /** `text`: one host per line, as Bacalhau's. `golem`: JSON with strict and regular-expression entries. */
  format: 'text' | 'golem'
  taken: ImportedEntry[]
  refused: RefusedEntry[]
}

export interface ImportedEntry {
  /** From 1. */
  line: number
  /** As it stands in the file. */
  text: string
  /** Canonical. */
  pattern: string
}

export interface RefusedEntry {
  line: number
  text: string
  reason: string
  /** What to do about it. */
  advice: string
}

/**
 * Reads a foreign allowlist; what it is shows its content. Of regular expressions only those are taken that are anchored at both
 * ends and mean exactly one of our patterns: nothing is widened, and nothing that was open by mistake is taken over. Throws
 * `pattern.invalid` when the text is no such list at all. `name` is what messages call the list.
 */
export function readForeignAllowlist(text: string, name = 'the list'): ImportedList {
  const plain = text.replace(/^\ufeff/, '')
  const list = /^\s*[[{]/.test(plain) ? readGolem(plain, name) : readText(plain)
  const count = list.taken.length + list.refused.length
  if (count === 0) throw unreadable(name, 'it holds no entry')
  if (count > PATTERNS_MAX)
    throw unreadable(name, `it has ${count} entries, at most ${PATTERNS_MAX} are read`)
  return list
}

function readText(text: string): ImportedList {
  const list: ImportedList = { format: 'text', taken: [], refused: [] }
  for (const { line, text: entry } of patternLines(text)) {
    const isExpression = /[\^$\\()[\]{}|+?]/.test(entry) && !/^(?:[a-z]+:\/\/)?\[/i.test(entry)
    note(list, line, entry, isExpression ? 'regex' : 'strict')
  }
  return list
}

/** `{"patterns": [{"domain": TEXT, "match": "strict" or "regex"}]}`; also the list alone. */
function readGolem(text: string, name: string): ImportedList {
  const entries = entriesOf(text, name)
  const lineOf = linesOf(text)
  const list: ImportedList = { format: 'golem', taken: [], refused: [] }
  entries.forEach((entry, index) => {
    const line = lineOf(index)
    const { domain, match = 'strict' } = (typeof entry === 'object' && entry !== null ? entry : {}) as Record<
      string,
      unknown
    >
    if (typeof domain !== 'string') {
      const shown = JSON.stringify(entry)?.slice(0, 80) ?? ''
      list.refused.push({
        line,
        text: shown,
        reason: 'it is no entry with a "domain"',
        advice: 'Write {"domain": "example.com", "match": "strict"}',
      })
    } else if (match === 'strict' || match === 'regex') note(list, line, domain, match, true)
    else
      list.refused.push({
        line,
        text: domain,
        reason: `it is matched by ${quoted(String(match))}, which nobody knows`,
        advice: 'Use "strict" or "regex"',
      })
  })
  return list
}

function note(
  list: ImportedList,
  line: number,
  text: string,
  match: 'strict' | 'regex',
  isLiteral = false,
): void {
  const reading = match === 'regex' ? readExpression(text) : isLiteral ? readLiteral(text) : readStrict(text)
  if (typeof reading === 'string') list.taken.push({ line, text, pattern: reading })
  else list.refused.push({ line, text, ...reading })
}

type Refusal = Pick<RefusedEntry, 'reason' | 'advice'>

function readStrict(text: string): string | Refusal {
  try {
    return parseHostPattern(text.trim()).text
  } catch (error) {
    if (!isWeirError(error)) throw error
    const reason = error.message.replace(/^Cannot use host pattern "[^"]*": /, '')
    return { reason, advice: error.hint ?? 'Write a host name' }
  }
}

/** An entry that is compared as a whole with names of hosts: a wildcard or a port in it opened nothing there. */
function readLiteral(text: string): string | Refusal {
  const reading = readStrict(text)
  if (
    typeof reading !== 'string' ||
    (parseHostPattern(reading).reach === 'exact' && !/:\d+$|:\/\//.test(reading))
  )
    return reading
  return {
    reason:
      'a strict entry is compared with names of hosts, and no host is called that: it opens nothing there',
    advice: `Add ${quoted(reading)} by itself if that is what is meant`,
  }
}

/**
 * A regular expression as Golem reads it: a search, in small or capital letters, in which blanks do not count. A name that
 * is written with `\.` means itself, and `(.*\.)?`, `.*\.` and `.+\.` in front of it what `.name` and `*.name` mean here.
 */
function readExpression(raw: string): string | Refusal {
  const text = raw.replace(/\s+/g, '')
  const [, start, rest, end] = /^(\^?)(.*?)(\$?)$/s.exec(text) ?? []
  const body = rest ?? ''
  const safe = patternOf(body) ?? patternOf(body.replace(/(?<!\\)\.(?![*+?])/g, '\\.'))
  const advice =
    safe === undefined
      ? `List the hosts that are meant one by one${widerThan(body)}`
      : `Write ${quoted(safe)} if that is what is meant`
  if (start !== '^' || end !== '$') {
    const sides = [start === '^' ? '' : 'in front', end === '$' ? '' : 'behind'].filter((side) => side !== '')
    return {
      reason: `the regular expression is open ${sides.join(' and ')}: ${example(body, start, end)}`,
      advice,
    }
  }
  const pattern = patternOf(body)
  if (pattern !== undefined) return pattern
  const isDot = safe !== undefined
  return {
    reason: isDot
      ? 'a "." without "\\" stands for any character'
      : 'no pattern means exactly the same as this regular expression',
    advice,
  }
}

/** Hosts that nobody meant, for people who do not believe it. */
function example(body: string, start: string | undefined, end: string | undefined): string {
  const host = lettersOf(body)
  if (host === undefined) return 'it also holds other hosts that contain what it says'
  const hostile = `${start === '^' || body.startsWith('.*') ? '' : 'evil'}${host}${end === '$' ? '' : '.evil.example'}`
  return hostile === host ? 'what stands in front of it is not fixed' : `it also holds ${quoted(hostile)}`
}

function lettersOf(body: string): string | undefined {
  const host = body.replace(/^(?:\(\.[*+]\\?\.\)\?|\.[*+](?:\\?\.)?)/, '').replace(/\\\./g, '.')
  return /^[a-z0-9.-]+$/i.test(host) ? host.replace(/^\./, '').toLowerCase() : undefined
}

/** The pattern that means exactly what `^body$` does; undefined when none does, or when it is one that we refuse. */
function patternOf(body: string): string | undefined {
  const [, before = '', name = ''] =
    /^(\((?:\?:)?\.[*+]\\\.\)\?|\.[*+]\\\.)?((?:[a-z0-9_-]+\\\.)*[a-z0-9_-]+)$/i.exec(body) ?? []
  if (name === '') return undefined
  const prefix = before === '' ? '' : before.startsWith('(') ? '.' : '*.'
  const reading = readStrict(`${prefix}${name.replaceAll('\\.', '.')}`)
  return typeof reading === 'string' ? reading : undefined
}

/** What holds all of it and more, so that somebody who wants that can decide to. */
function widerThan(body: string): string {
  const tail = /\\\.((?:[a-z0-9_-]+\\\.)+[a-z0-9_-]+)$/i.exec(body)?.[1]
  const wider = tail === undefined ? undefined : readStrict(`*.${tail.replaceAll('\\.', '.')}`)
  return typeof wider === 'string' ? `; ${quoted(wider)} would hold every name below as well` : ''
}

function entriesOf(text: string, name: string): unknown[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw unreadable(name, `it begins like JSON and is none (${(error as Error).message.slice(0, 200)})`)
  }
  const patterns = Array.isArray(value) ? value : (value as { patterns?: unknown }).patterns
  if (Array.isArray(patterns)) return patterns
  throw unreadable(name, 'it is JSON without a list of "patterns"')
}

/** The line on which each entry begins. JSON that was read is YAML as well, and the reader of YAML knows places. */
function linesOf(text: string): (index: number) => number {
  const { LineCounter, parseDocument, isSeq } = createRequire(import.meta.url)(
    'yaml',
  ) as typeof import('yaml')
  const lineCounter = new LineCounter()
  try {
    const document = parseDocument(text, { lineCounter, schema: 'json' })
    const patterns = isSeq(document.contents) ? document.contents : document.get('patterns')
    const items = isSeq(patterns) ? patterns.items : []
    return (index) => {
      const range = (items[index] as { range?: [number, number, number] } | undefined)?.range
      return range === undefined ? index + 1 : lineCounter.linePos(range[0]).line
    }
  } catch {
    return (index) => index + 1 // Too deep for the reader of YAML: the number of the entry is better than nothing.
  }
}

function unreadable(name: string, reason: string): WeirError {
  return new WeirError('pattern.invalid', `Cannot read ${name}: ${reason}`, {
    hint: 'A list has one host per line with # comments, or is JSON: {"patterns": [{"domain": …, "match": "strict"}]}',
  })
}
