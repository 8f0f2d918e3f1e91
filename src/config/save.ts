import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { isWeirError, WeirError } from '../errors.js'
import { findConfigName, nearestConfigName } from './load.js'
import { readValue } from './read-value.js'
import { CONFIG_SCHEMA, type ConfigKey, type ConfigName } from './schema.js'
import { yamlLibrary } from './yaml.js'
import type { Document, YAMLMap } from 'yaml'

/**
 * Sets one key in a configuration file, creating it when needed; comments and order of the file stay. Throws
 * `config.invalid` when the key is unknown, the value is not of its kind, or the file is not YAML.
 */
export function saveConfigValue(file: string, key: string, text: string): ConfigName {
  const name = requireConfigName(key, 'set')
  saveConfigValues(file, { [name]: text })
  return name
}

/** {@link saveConfigValue} of several keys: all of them, or on any mistake none. */
export function saveConfigValues(file: string, values: Readonly<Partial<Record<ConfigName, string>>>): void {
  throwTogether(configMistakes(values))
  const entries = (Object.entries(values) as [ConfigName, string][]).map(
    ([name, text]) => [name, readText(name, text)] as const,
  )
  const document = readDocument(file)
  for (const [name, value] of entries) setInDocument(document, name, value)
  writeDocument(file, document)
}

/**
 * Takes a key out of a configuration file, so that its default holds again; maps that are empty then go with it. The
 * rest of the file stays. False when the file does not set it. Throws `config.invalid` as {@link saveConfigValue}.
 */
export function unsetConfigValue(file: string, key: string): { name: ConfigName; wasSet: boolean } {
  const name = requireConfigName(key, 'unset')
  const document = readDocument(file)
  const { path, isWhole } = findPath(document, name)
  if (!isWhole) return { name, wasSet: false }
  document.deleteIn(path)
  for (let depth = path.length - 1; depth > 0; depth--) {
    const parent = document.getIn(path.slice(0, depth))
    if (!isMap(parent) || parent.items.length > 0) break
    document.deleteIn(path.slice(0, depth))
  }
  writeDocument(file, document)
  return { name, wasSet: true }
}

/** What is wrong with values that are to be set, one `config.invalid` for each. */
export function configMistakes(values: Readonly<Partial<Record<ConfigName, string>>>): WeirError[] {
  return (Object.entries(values) as [ConfigName, string][]).flatMap(([name, text]) => {
    try {
      readText(name, text)
      return []
    } catch (error) {
      if (isWeirError(error)) return [error]
      throw error
    }
  })
}

/** Nothing without mistakes; one as it is, several in one `config.invalid`. */
export function throwTogether(mistakes: readonly WeirError[]): void {
  const [first] = mistakes
  if (first === undefined) return
  if (mistakes.length === 1) throw first
  const lines = mistakes.map(({ message, hint }) => `${message}${hint === undefined ? '' : ` (${hint})`}`)
  throw new WeirError('config.invalid', ['Nothing is set:', ...lines].join('\n  '))
}

/** The key of this name in any case. Throws `config.invalid` with the nearest name. */
export function requireConfigName(key: string, what: string): ConfigName {
  const name = findConfigName(key)
  if (name !== undefined) return name
  const inside = Object.keys(CONFIG_SCHEMA).find((one) =>
    one.toLowerCase().startsWith(`${key.toLowerCase()}.`),
  )
  if (inside !== undefined)
    throw new WeirError('config.invalid', `Cannot ${what} ${JSON.stringify(key)}: it is a section of keys`, {
      hint: `name one of them, for example ${inside}; \`weir config list\` shows all`,
    })
  const nearest = nearestConfigName(key)
  throw new WeirError('config.invalid', `Cannot ${what} ${JSON.stringify(key)}: there is no such key`, {
    hint: nearest === undefined ? 'run `weir config list` to see every key' : `did you mean ${nearest}?`,
  })
}

function readText(name: ConfigName, text: string): unknown {
  const key: ConfigKey = CONFIG_SCHEMA[name]
  const read = readValue(key, text)
  if ('problem' in read) {
    const shown = key.secret === true ? 'this value' : JSON.stringify(text)
    throw new WeirError('config.invalid', `Cannot set ${name} to ${shown}: ${read.problem}`)
  }
  // Durations and sizes keep the spelling of the user; the rest is written in its own type.
  return key.kind === 'durationMs' || key.kind === 'bytes' ? text : read.value
}

function readDocument(file: string): Document {
  const document = yamlLibrary().parseDocument(existsSync(file) ? readFileSync(file, 'utf8') : '')
  const [error] = document.errors
  if (error !== undefined) {
    throw new WeirError('config.invalid', `Cannot change ${file}: it is not YAML`, {
      hint: error.message.split('\n')[0] ?? '',
    })
  }
  if (document.contents !== null && !isMap(document.contents) && document.toJS() !== null) {
    throw new WeirError('config.invalid', `Cannot change ${file}: it holds no map of keys`, {
      hint: 'correct the file, or name another one with -c',
    })
  }
  return document as Document
}

function setInDocument(document: Document, name: ConfigName, value: unknown): void {
  const { path, isWhole, rest } = findPath(document, name)
  const node = document.createNode(value)
  if (isWhole) {
    // The comment behind the old value belongs to the key.
    const before = document.getIn(path, true) as { comment?: string | null } | undefined
    if (typeof before === 'object' && before !== null) node.comment = before.comment
    document.setIn(path, node)
    return
  }
  // `API:` without anything below it is a value, and nothing can be put into it.
  if (path.length > 0 && !isMap(document.getIn(path))) document.setIn(path, document.createNode({}))
  document.setIn([...path, ...rest], node)
}

/**
 * Where a key stands in a file, which may nest or dot names and write them in any case; else the deepest map that leads
 * to it, and what is missing below.
 */
function findPath(
  document: Document,
  name: ConfigName,
): { path: string[]; isWhole: boolean; rest: string[] } {
  const path: string[] = []
  let map: unknown = document.contents
  let rest: string = name
  while (isMap(map)) {
    const wanted = rest.toLowerCase()
    const keys = map.items.map(({ key }) => textOf(key))
    const found =
      keys.find((key) => key.toLowerCase() === wanted) ??
      keys.find((key) => key !== '' && wanted.startsWith(`${key.toLowerCase()}.`))
    if (found === undefined) break
    path.push(found)
    if (found.length === rest.length) return { path, isWhole: true, rest: [] }
    rest = rest.slice(found.length + 1)
    map = map.get(found)
  }
  return { path, isWhole: false, rest: rest.split('.') }
}

function textOf(key: unknown): string {
  const value: unknown = yamlLibrary().isScalar(key) ? key.value : key
  return typeof value === 'string' ? value : ''
}

function isMap(value: unknown): value is YAMLMap {
  return yamlLibrary().isMap(value)
}

/** All or nothing: a full disk leaves the old file. A link stays a link. */
function writeDocument(file: string, document: Document): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const target = existsSync(file) ? realpathSync(file) : file
  const partial = `${target}.${process.pid}.part`
  try {
    writeFileSync(partial, document.toString(), { mode: 0o600 })
    renameSync(partial, target)
  } catch (error) {
    rmSync(partial, { force: true })
    throw new WeirError('config.invalid', `Cannot write ${file}: ${(error as Error).message}`, {
      hint: 'check the directory and its permissions, or name another file with -c',
      cause: error,
    })
  }
}
