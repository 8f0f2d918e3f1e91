import { WeirError } from '../errors.js'
import { parseJobSpec } from './parse-job.js'
import { quoted } from './printable.js'
import type { ErrorCode } from '../errors.js'
import type { InputSourceSpec, ResultPathSpec, SpecConfig } from './job-spec.js'

/** Where an input is mounted that names no target. */
export const DEFAULT_INPUT_TARGET = '/inputs'

/**
 * Reads an `--input` argument.
 *
 * - `URI` or `URI:/target`: a target is what follows the last `:/` that is not part of `://`. Ports, `=` and commas in
 *   the URI are part of it.
 * - `src=URI,dst=/target,opt=NAME=VALUE,…` (also `source`, `target`, `destination`, `option`). A comma inside a value
 *   is read as part of it unless a known key follows; quotes around a field (`"src=…"`) settle it.
 * - `URI,dst=/target,opt=NAME=VALUE` mixes both.
 *
 * Schemes: `http`, `https` (options `sha256`, `max-bytes`), `file` (`rw=true`), `blob`, `ipfs`, `s3` (`endpoint`, `region`,
 * `filter`, `version-id`, `checksum-256`), `data`. Throws `input.invalid`.
 */
export function parseInputArgument(text: string): InputSourceSpec {
  const fields = splitFields(text, 'input.invalid')
  const argument = readFields(text, fields, 'input.invalid')
  const { uri, target } = splitTarget(argument.source, argument.isBare)
  const Source = sourceOf(uri, argument.options, text)
  const Target = argument.target ?? target ?? defaultTarget(uri)
  const input: InputSourceSpec = { Source, Alias: uri.startsWith('data:') ? '' : uri, Target }
  return checkedInput(input, text)
}

/** Content that is written into the argument itself is one file, unless it is an archive: it lands as `/inputs/data`. */
function defaultTarget(uri: string): string {
  const isFile = uri.startsWith('data:') && !uri.startsWith('data:application/gzip')
  return isFile ? `${DEFAULT_INPUT_TARGET}/data` : DEFAULT_INPUT_TARGET
}

/**
 * Reads a `--publisher` argument: `local`, `ipfs`, `noop`, `s3://bucket/key`, or `s3` with `opt=bucket=…,opt=key=…`;
 * further options `region`, `endpoint`. Throws `publisher.invalid`.
 */
export function parsePublisherArgument(text: string): SpecConfig {
  const argument = readFields(text, splitFields(text, 'publisher.invalid'), 'publisher.invalid')
  const publisher = publisherOf(argument.source, argument.options, text)
  try {
    return parseProbe({ Publisher: publisher }).Publisher
  } catch (error) {
    throw argumentError('publisher.invalid', text, firstProblem(error), PUBLISHER_HINT)
  }
}

/** Reads an `--output` argument, `name:/path`. Throws `cli.usage`. */
export function parseOutputArgument(text: string): ResultPathSpec {
  const colon = text.indexOf(':')
  const hint = 'Write NAME:/PATH, for example outputs:/outputs'
  if (colon <= 0 || text.indexOf(':', colon + 1) >= 0) {
    throw argumentError('cli.usage', text, 'expected exactly one colon', hint)
  }
  const path = { Name: text.slice(0, colon), Path: text.slice(colon + 1) }
  try {
    const [read] = parseProbe({ ResultPaths: [path] }).ResultPaths
    return read ?? path
  } catch (error) {
    throw argumentError('cli.usage', text, firstProblem(error), hint)
  }
}

/** The argument that {@link parseInputArgument} reads back as the same input (alias apart). */
export function formatInputArgument({ Source, Target }: InputSourceSpec): string {
  const { uri, options } = uriOf(Source)
  const fields = [`src=${uri}`, `dst=${Target}`, ...options.map(([key, value]) => `opt=${key}=${value}`)]
  return fields.map(quotedField).join(',')
}

interface Argument {
  source: string
  /** True when the source stood alone, so that it may carry `:/target`. */
  isBare: boolean
  target: string | undefined
  options: [name: string, value: string][]
}

const LENGTH_MAX = 10 * 1024 * 1024
const PUBLISHER_HINT = 'Write local, ipfs, noop, s3://bucket/key or s3,opt=bucket=…,opt=key=…'
const KEYS: ReadonlyMap<string, 'source' | 'target' | 'option'> = new Map([
  ['source', 'source'],
  ['src', 'source'],
  ['target', 'target'],
  ['dst', 'target'],
  ['destination', 'target'],
  ['option', 'option'],
  ['opt', 'option'],
])

/** A comma ends a field only before a known key; a quoted field ends at its closing quote. `""` is a quote. */
function splitFields(text: string, code: ErrorCode): string[] {
  if (text.trim() === '') throw argumentError(code, text, 'it is empty')
  if (text.length > LENGTH_MAX || text.includes('\0'))
    throw argumentError(code, text, 'it is too long or not text')
  const fields: string[] = []
  let rest = text.trim()
  for (;;) {
    if (rest.startsWith('"')) {
      const match = /^"((?:[^"]|"")*)"(,|$)/.exec(rest)
      if (match === null) throw argumentError(code, text, 'a quote is not closed')
      fields.push((match[1] ?? '').replaceAll('""', '"'))
      rest = rest.slice(match[0].length)
      if (match[2] === '') return fields
    } else {
      const next = /,(?="|\s*(?:source|src|target|dst|destination|option|opt)\s*=)/i.exec(rest)
      fields.push(next === null ? rest : rest.slice(0, next.index))
      if (next === null) return fields
      rest = rest.slice(next.index + 1).trimStart()
    }
  }
}

function readFields(text: string, fields: readonly string[], code: ErrorCode): Argument {
  const argument: Argument = { source: '', isBare: false, target: undefined, options: [] }
  for (const [index, field] of fields.entries()) {
    const match = /^\s*([A-Za-z]+)\s*=([\s\S]*)$/.exec(field)
    const key = match === null ? undefined : KEYS.get((match[1] ?? '').toLowerCase())
    const value = (match?.[2] ?? '').trim()
    if (key === 'option') {
      const equals = value.indexOf('=')
      if (equals <= 0) throw argumentError(code, text, `option ${quoted(value)} is not NAME=VALUE`)
      argument.options.push([value.slice(0, equals).trim(), value.slice(equals + 1)])
    } else if (key === 'target') {
      if (argument.target !== undefined) throw argumentError(code, text, 'the target is given twice')
      argument.target = value
    } else if (key === 'source' || index === 0) {
      if (argument.source !== '') throw argumentError(code, text, 'the source is given twice')
      argument.source = key === 'source' ? value : field.trim()
      argument.isBare = key === undefined
    } else {
      throw argumentError(code, text, `unexpected ${quoted(field)}`)
    }
  }
  if (argument.source === '') throw argumentError(code, text, 'the source is missing', 'Write src=URI')
  return argument
}

/** Only `:/` behind the scheme's own `://` begins a target. A data URL has none: its content may hold anything. */
function splitTarget(source: string, isBare: boolean): { uri: string; target: string | undefined } {
  const scheme = source.indexOf('://')
  if (!isBare || source.startsWith('data:') || scheme < 0) return { uri: source, target: undefined }
  const cut = source.lastIndexOf(':/')
  if (cut <= scheme || source.startsWith('://', cut)) return { uri: source, target: undefined }
  return { uri: source.slice(0, cut), target: source.slice(cut + 1) }
}

/** Option names as users write them → parameter names, by scheme. */
const SOURCE_OPTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  urlDownload: { sha256: 'SHA256', checksum: 'SHA256', maxbytes: 'MaxBytes' },
  localDirectory: { rw: 'ReadWrite', readwrite: 'ReadWrite' },
  s3: {
    endpoint: 'Endpoint',
    region: 'Region',
    filter: 'Filter',
    versionid: 'VersionID',
    checksum256: 'ChecksumSHA256',
  },
  ipfs: {},
  blob: {},
  inline: {},
}

function sourceOf(uri: string, options: Argument['options'], text: string): SpecConfig {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(uri)?.[1]?.toLowerCase() ?? ''
  const rest = uri.slice(scheme.length + 3)
  switch (scheme) {
    case 'http':
    case 'https':
      return withOptions('urlDownload', { URL: uri }, options, text)
    case 'data':
      return withOptions('inline', { URL: uri }, options, text)
    case 'file':
      return withOptions('localDirectory', { SourcePath: rest }, options, text)
    case 'blob':
      return withOptions('blob', { CID: rest }, options, text)
    case 'ipfs': {
      const [cid = '', ...below] = rest.split('/')
      if (below.some((segment) => segment !== '')) {
        throw argumentError(
          'input.invalid',
          text,
          `a path below a CID is not supported: ${quoted(below.join('/'))}`,
        )
      }
      return withOptions('ipfs', { CID: cid }, options, text)
    }
    case 's3': {
      const slash = rest.indexOf('/')
      const Bucket = slash < 0 ? rest : rest.slice(0, slash)
      const Key = slash < 0 ? '' : rest.slice(slash + 1)
      return withOptions('s3', { Bucket, Key }, options, text)
    }
    case '':
      throw argumentError('input.invalid', text, `${quoted(uri)} has no scheme`, localPathHint(uri))
    default:
      throw argumentError('input.invalid', text, `unknown storage schema ${quoted(scheme)}`, INPUT_HINT)
  }
}

const INPUT_HINT = 'Use http://, https://, file:///, blob://, ipfs://, s3:// or data:'

function localPathHint(uri: string): string {
  return uri.startsWith('/') ? `For a directory of the node write file://${uri}` : INPUT_HINT
}

function withOptions(
  type: string,
  base: Record<string, unknown>,
  options: Argument['options'],
  text: string,
): SpecConfig {
  const known = SOURCE_OPTIONS[type] ?? {}
  const read = options.map(([name, value]): [string, unknown] => {
    const param = new Map(Object.entries(known)).get(name.toLowerCase().replace(/[-_]/g, ''))
    if (param === undefined) {
      const names = Object.keys(known).join(', ') || 'none'
      throw argumentError(
        'input.invalid',
        text,
        `unknown option ${quoted(name)}`,
        `Options of this scheme: ${names}`,
      )
    }
    return [param, param === 'MaxBytes' && /^\d{1,15}$/.test(value) ? Number(value) : value]
  })
  return { Type: type, Params: { ...base, ...Object.fromEntries(read) } }
}

function publisherOf(source: string, options: Argument['options'], text: string): SpecConfig {
  const given = new Map(options.map(([name, value]) => [name.toLowerCase(), value]))
  const unknown = [...given.keys()].find(
    (name) => !['bucket', 'key', 'region', 'endpoint', 'encoding'].includes(name),
  )
  if (unknown !== undefined) {
    throw argumentError('publisher.invalid', text, `unknown option ${quoted(unknown)}`, PUBLISHER_HINT)
  }
  const s3 = /^s3(?::\/\/([^/]*)\/?([\s\S]*))?$/i.exec(source)
  if (s3 !== null) {
    const params = {
      Bucket: given.get('bucket') ?? s3[1] ?? '',
      Key: given.get('key') ?? s3[2] ?? '',
      Region: given.get('region') ?? '',
      Endpoint: given.get('endpoint') ?? '',
      Encoding: given.get('encoding') ?? '',
    }
    return { Type: 's3', Params: params }
  }
  const type = source.replace(/:\/\/$/, '').toLowerCase()
  if (!['local', 'ipfs', 'noop'].includes(type)) {
    throw argumentError('publisher.invalid', text, `unknown publisher ${quoted(source)}`, PUBLISHER_HINT)
  }
  if (given.size > 0) throw argumentError('publisher.invalid', text, `${type} takes no options`)
  return { Type: type }
}

function checkedInput(input: InputSourceSpec, text: string): InputSourceSpec {
  try {
    const [read] = parseProbe({ InputSources: [input] }).InputSources
    return read ?? input
  } catch (error) {
    throw argumentError('input.invalid', text, firstProblem(error))
  }
}

/** One part of a task, judged by the rules for whole jobs. */
function parseProbe(part: Record<string, unknown>): ReturnType<typeof parseJobSpec>['spec']['Tasks'][0] {
  const task = { Name: 'main', Engine: { Type: 'noop' }, ...part }
  return parseJobSpec({ Type: 'batch', Tasks: [task] }).spec.Tasks[0]
}

function firstProblem(error: unknown): string {
  if (!(error instanceof WeirError)) throw error
  const problems = error.details.problems as { message: string }[] | undefined
  return problems?.[0]?.message ?? error.message
}

function uriOf({ Type, Params = {} }: SpecConfig): { uri: string; options: [string, string][] } {
  const names = Object.entries(SOURCE_OPTIONS[Type] ?? {})
  const options = Object.entries(Params).flatMap(([param, value]): [string, string][] => {
    const name = names.find(([, known]) => known === param)?.[0]
    return name === undefined ? [] : [[name, asText(value)]]
  })
  switch (Type) {
    case 'urlDownload':
    case 'inline':
      return { uri: asText(Params.URL), options }
    case 'localDirectory':
      return { uri: `file://${asText(Params.SourcePath)}`, options }
    case 'blob':
      return { uri: `blob://${asText(Params.CID)}`, options }
    case 'ipfs':
      return { uri: `ipfs://${asText(Params.CID)}`, options }
    case 's3':
      return { uri: `s3://${asText(Params.Bucket)}/${asText(Params.Key)}`, options }
    default:
      throw new WeirError('input.invalid', `Cannot write an input of type ${quoted(Type)} as an argument`)
  }
}

/** Parameters of parsed sources are text, numbers and flags. */
function asText(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : ''
}

function quotedField(field: string): string {
  return /[",]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field
}

function argumentError(code: ErrorCode, text: string, reason: string, hint?: string): WeirError {
  return new WeirError(code, `Cannot parse ${quoted(text, 200)}: ${reason}`, { hint })
}
