import { createRequire } from 'node:module'
import { WeirError, isWeirError } from '../errors.js'
import { fillTemplate } from './job-template.js'
import { parseLocatedJob } from './parse-job.js'
import { printable, quoted } from './printable.js'
import type { Document, LineCounter as LineCounterOfYaml } from 'yaml'
import type { Locate } from './spec-problem.js'
import type { ParseJobOptions, ParsedJob } from './parse-job.js'

export interface ParseJobTextOptions extends ParseJobOptions {
  /** Named in messages. */
  fileName?: string
  /** Values for `{{.name}}`. */
  templateVariables?: Readonly<Record<string, string>>
  /** More values, for example from the environment; the variables win. */
  templateEnvironment?: Readonly<Record<string, string>>
  /** True: the text is taken as it is, `{{` included. */
  noTemplate?: boolean
}

/** The longest job file. */
export const JOB_TEXT_BYTES_MAX = 10 * 1024 * 1024

/**
 * Reads a job from YAML or JSON text, filling in its template first. Problems carry line and column of the text as it
 * was after filling in.
 *
 * Throws `spec.too_large`, `spec.template`, or `spec.invalid` as `parseJobSpec` does.
 */
export function parseJobText(text: string, options: ParseJobTextOptions = {}): ParsedJob {
  const bytes = Buffer.byteLength(text)
  if (bytes > JOB_TEXT_BYTES_MAX) {
    throw new WeirError(
      'spec.too_large',
      `Cannot read a job of ${bytes} bytes: at most ${JOB_TEXT_BYTES_MAX} are allowed`,
      {
        hint: 'Pass large data as inputs, by URL or as files of the node.',
      },
    )
  }
  try {
    const variables = { ...options.templateEnvironment, ...options.templateVariables }
    const source = options.noTemplate === true ? text : fillTemplate(text, variables)
    const { value, locate } = readDocument(source)
    return parseLocatedJob(value, options, locate)
  } catch (error) {
    throw options.fileName === undefined ? error : inFile(error, options.fileName)
  }
}

/**
 * Reads YAML or JSON as plain values, with equal keys and deep nesting refused; `locate` finds where one of them stands.
 * Throws `spec.invalid` with the position of what cannot be read.
 */
export function readDocument(source: string): { value: unknown; locate: Locate } {
  const json = readJson(source)
  return { value: json === undefined ? readYaml(source) : json.value, locate: locateLater(source) }
}

const NESTING_MAX = 64
/** Longer texts than this are not read a second time just to find positions. */
const LOCATED_CHARACTERS_MAX = 2 * 1024 * 1024

function readJson(source: string): { value: unknown } | undefined {
  if (!/^\s*\{/.test(source)) return undefined
  try {
    return { value: JSON.parse(source) as unknown }
  } catch {
    return undefined // YAML has flow mappings that are not JSON; its reader knows the position of a mistake.
  }
}

function readYaml(source: string): unknown {
  const { LineCounter } = yamlLibrary()
  const lineCounter = new LineCounter()
  const document = parseYaml(source, lineCounter)
  const [first] = document.errors
  if (first !== undefined) throw unreadableAt(lineCounter, first.pos[0], first.message)
  try {
    checkKeysUnique(document, lineCounter)
    return document.toJS({ maxAliasCount: 100 }) as unknown
  } catch (error) {
    throw isWeirError(error) ? error : unreadable(error instanceof RangeError ? TOO_DEEP : messageOf(error))
  }
}

function parseYaml(source: string, lineCounter: LineCounterOfYaml): Document.Parsed {
  checkNesting(source)
  try {
    // The library's own search for equal keys takes quadratic time.
    const options = {
      prettyErrors: false,
      version: '1.2',
      schema: 'core',
      merge: false,
      uniqueKeys: false,
    } as const
    return yamlLibrary().parseDocument(source, { lineCounter, ...options })
  } catch (error) {
    throw unreadable(error instanceof RangeError ? TOO_DEEP : messageOf(error))
  }
}

function checkKeysUnique(document: Document.Parsed, lineCounter: LineCounterOfYaml): void {
  const { visit, isScalar } = yamlLibrary()
  visit(document, {
    Map(_key, node) {
      const seen = new Set<unknown>()
      for (const { key } of node.items) {
        if (!isScalar(key)) continue
        if (seen.has(key.value)) {
          throw unreadableAt(
            lineCounter,
            rangeStart(key) ?? 0,
            `the key ${quoted(String(key.value))} is given twice`,
          )
        }
        seen.add(key.value)
      }
    },
  })
}

/** Loaded when the first job file is read: it costs every other command tens of milliseconds. */
function yamlLibrary(): typeof import('yaml') {
  return require('yaml') as typeof import('yaml')
}

const require = createRequire(import.meta.url)
const TOO_DEEP = 'it is nested too deeply'

/** The reader of YAML recurses: deep brackets and deep `- - -` are refused before it sees them. */
function checkNesting(source: string): void {
  let depth = 0
  for (const bracket of source.matchAll(/[[{\]}]/g)) {
    depth = Math.max(0, depth + (bracket[0] === '[' || bracket[0] === '{' ? 1 : -1))
    if (depth > NESTING_MAX * 16) throw unreadable(TOO_DEEP)
  }
  if (/(?:[-?:][ \t]+){65}/.test(source)) throw unreadable(TOO_DEEP)
}

/** Positions are found only when a problem asks for one. */
function locateLater(source: string): Locate {
  let document: Document.Parsed | undefined
  const lineCounter = new (yamlLibrary().LineCounter)()
  return (keys) => {
    if (source.length > LOCATED_CHARACTERS_MAX) return undefined
    try {
      document ??= parseYaml(source, lineCounter)
      const { line, col } = lineCounter.linePos(offsetOf(document, keys))
      return { line, column: col }
    } catch {
      return undefined // A problem without position is better than none.
    }
  }
}

/** The offset of the deepest node on the way that exists; a key's own offset for fields. */
function offsetOf(document: Document.Parsed, keys: readonly (string | number)[]): number {
  const { isAlias, isMap, isScalar, isSeq } = yamlLibrary()
  let node: unknown = document.contents
  let offset = document.contents?.range[0] ?? 0
  for (const key of keys) {
    if (isAlias(node)) node = node.resolve(document)
    if (isSeq(node) && typeof key === 'number') {
      node = node.items[key]
      offset = rangeStart(node) ?? offset
    } else if (isMap(node)) {
      const wanted = String(key).toLowerCase()
      const pair = node.items.find(
        (item) => isScalar(item.key) && String(item.key.value).trim().toLowerCase() === wanted,
      )
      if (pair === undefined) return offset
      offset = rangeStart(pair.key) ?? offset
      node = pair.value
    } else {
      return offset
    }
  }
  return offset
}

function rangeStart(node: unknown): number | undefined {
  const range = (node as { range?: [number, number, number] } | null | undefined)?.range
  return range?.[0]
}

function unreadableAt(lineCounter: LineCounterOfYaml, offset: number, message: string): WeirError {
  const { line, col } = lineCounter.linePos(offset)
  const deep = message.includes('call stack')
  const reason = deep
    ? TOO_DEEP
    : printable(message.split('\n')[0] ?? '', 200).replace(/ at line \d+, column \d+:?$/, '')
  return unreadable(reason, { line, column: col })
}

function unreadable(reason: string, position: { line?: number; column?: number } = {}): WeirError {
  const where = position.line === undefined ? '' : ` (line ${position.line}, column ${position.column})`
  return new WeirError('spec.invalid', `Cannot read the job as YAML or JSON: ${reason}${where}`, {
    hint: 'Check quotes, colons and indentation.',
    details: { problems: [{ path: '', message: reason, ...position }] },
  })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? printable(error.message, 200) : 'it cannot be read'
}

function inFile(error: unknown, fileName: string): unknown {
  if (!(error instanceof WeirError)) return error
  return new WeirError(error.code, `Cannot use job file ${quoted(fileName, 200)}:\n${error.message}`, {
    hint: error.hint,
    retryable: error.retryable,
    details: error.details,
    cause: error.cause,
  })
}
