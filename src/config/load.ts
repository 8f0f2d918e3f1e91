import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import { WeirError } from '../errors.js'
import { nearestName } from '../model/nearest-name.js'
import { readValue } from './read-value.js'
import { CONFIG_SCHEMA, type ConfigKey, type ConfigName, type ConfigValues } from './schema.js'
import { yamlLibrary } from './yaml.js'

/** Where configuration can come from. Later ones win: defaults < files < environment < flags < settings. */
export interface ConfigSources {
  /** `--data-dir`; default `WEIR_DIR`, then `~/.weir`. */
  dataDir?: string
  /** YAML files given with `-c FILE`, merged in order. Without any, `<data dir>/config.yaml` if it exists. */
  files?: readonly string[]
  environment?: Readonly<Record<string, string | undefined>>
  /** Values of flags that stand for a key. */
  flags?: Readonly<Partial<Record<ConfigName, string>>>
  /** `-c Key=Value`, or `-c Key` for booleans. */
  settings?: readonly string[]
}

/** Plain, frozen data: one parse of everything, all mistakes at once. */
export interface Config {
  readonly dataDir: string
  readonly values: ConfigValues
  /** `default`, the name of a file, `environment` or `flag`. */
  origin(name: ConfigName): string
}

interface Problem {
  where: string
  message: string
}

/** Environment variables that start with `WEIR_` but are no configuration keys. */
const OTHER_VARIABLES = new Set([
  'WEIR_DIR',
  'WEIR_DEBUG',
  'WEIR_API_KEY',
  'WEIR_TEST_BUILT',
  // What a job finds in its environment: weir itself may be the job's program.
  'WEIR_JOB_ID',
  'WEIR_EXECUTION_ID',
  'WEIR_NODE_ID',
  'WEIR_JOB_TYPE',
  'WEIR_PARTITION_INDEX',
  'WEIR_PARTITION_COUNT',
])

/** Reads the whole configuration. Rejects with `config.invalid`, listing every mistake. */
export function loadConfig(sources: ConfigSources = {}): Config {
  const environment = sources.environment ?? {}
  const problems: Problem[] = []
  const values = new Map<ConfigName, { value: unknown; origin: string }>()
  const set = (name: ConfigName, raw: unknown, origin: string, where: string): void => {
    const key = CONFIG_SCHEMA[name] as ConfigKey
    const read = readValue(key, raw)
    if ('problem' in read)
      problems.push({ where, message: `${name}: ${read.problem}, found ${quote(name, raw)}` })
    else
      values.set(name, {
        value: key.kind === 'path' ? withHome(read.value as string) : read.value,
        origin,
      })
  }

  const dataDir = findDataDir(sources.dataDir, environment, problems)
  const files = sources.files ?? []
  const standard = join(dataDir, 'config.yaml')
  for (const file of files.length > 0 ? files : existsSync(standard) ? [standard] : [])
    readFile(file, set, problems)
  readEnvironment(environment, set, problems)
  for (const [name, raw] of Object.entries(sources.flags ?? {})) {
    if (raw !== undefined) set(name as ConfigName, raw, 'flag', 'flag')
  }
  for (const setting of sources.settings ?? []) readSetting(setting, set, problems)

  if (problems.length > 0) {
    throw new WeirError(
      'config.invalid',
      [
        'Cannot use the configuration:',
        ...problems.map(({ where, message }) => `  ${where}: ${message}`),
      ].join('\n'),
      { hint: 'run `weir config list` to see every key with its meaning', details: { problems } },
    )
  }
  const all = Object.fromEntries(
    Object.entries(CONFIG_SCHEMA).map(([name, key]) => [
      name,
      values.get(name as ConfigName)?.value ?? key.default,
    ]),
  )
  return Object.freeze({
    dataDir,
    values: Object.freeze(all) as ConfigValues,
    origin: (name: ConfigName) => values.get(name)?.origin ?? 'default',
  })
}

/** The key with this name in any case, or undefined. */
export function findConfigName(name: string): ConfigName | undefined {
  return NAMES_BY_LOWER_CASE.get(name.trim().toLowerCase())
}

/** The key whose name is nearest to a misspelt one, if any is near. */
export function nearestConfigName(name: string): ConfigName | undefined {
  return nearestName(name, Object.keys(CONFIG_SCHEMA)) as ConfigName | undefined
}

const NAMES_BY_LOWER_CASE = new Map(
  (Object.keys(CONFIG_SCHEMA) as ConfigName[]).map((name) => [name.toLowerCase(), name]),
)

type Setter = (name: ConfigName, raw: unknown, origin: string, where: string) => void

function findDataDir(
  flag: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  problems: Problem[],
): string {
  const raw = flag ?? environment.WEIR_DIR ?? '~/.weir'
  const where = flag !== undefined ? '--data-dir' : 'WEIR_DIR'
  if (raw.includes('$'))
    problems.push({ where, message: `variables are not expanded in paths, found "${raw}"` })
  const expanded = withHome(raw)
  // Who types a path means one from here; a variable is there long after, in other directories.
  if (flag !== undefined && flag !== '') return resolve(expanded)
  if (!isAbsolute(expanded)) problems.push({ where, message: `expected an absolute path, found "${raw}"` })
  return expanded
}

function withHome(path: string): string {
  return path === '~' || path.startsWith('~/') ? join(homedir(), path.slice(1)) : path
}

function readFile(file: string, set: Setter, problems: Problem[]): void {
  let source: string
  try {
    source = readFileSync(file, 'utf8')
  } catch (error) {
    problems.push({ where: file, message: `cannot be read (${(error as Error).message})` })
    return
  }
  const document = yamlLibrary().parseDocument(source, { prettyErrors: true })
  for (const error of document.errors)
    problems.push({ where: file, message: error.message.split('\n')[0] ?? '' })
  if (document.errors.length > 0) return
  const root: unknown = document.toJS({ maxAliasCount: 100 })
  if (root === null || root === undefined) return
  if (typeof root !== 'object' || Array.isArray(root)) {
    problems.push({ where: file, message: 'expected a map of keys' })
    return
  }
  readTree(root as Record<string, unknown>, '', file, set, problems)
}

/** Nested maps and dotted names mean the same; a map that is itself a value (Labels) ends the descent. */
function readTree(
  tree: Record<string, unknown>,
  prefix: string,
  file: string,
  set: Setter,
  problems: Problem[],
): void {
  for (const [part, value] of Object.entries(tree)) {
    const dotted = prefix === '' ? part : `${prefix}.${part}`
    const name = findConfigName(dotted)
    if (name !== undefined) set(name, value, file, file)
    else if (value !== null && typeof value === 'object' && !Array.isArray(value))
      readTree(value as Record<string, unknown>, dotted, file, set, problems)
    else problems.push({ where: file, message: unknownKey(dotted) })
  }
}

function readEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  set: Setter,
  problems: Problem[],
): void {
  const byVariable = new Map([...NAMES_BY_LOWER_CASE.values()].map((name) => [variableOf(name), name]))
  for (const [variable, raw] of Object.entries(environment)) {
    if (!variable.startsWith('WEIR_') || raw === undefined) continue
    const name = byVariable.get(variable)
    if (name !== undefined) set(name, raw, 'environment', variable)
    else if (!OTHER_VARIABLES.has(variable))
      problems.push({ where: variable, message: 'no configuration key has this environment variable' })
  }
}

/** `API.Host` → `WEIR_API_HOST`. */
export function variableOf(name: ConfigName): string {
  return `WEIR_${name.toUpperCase().replaceAll('.', '_')}`
}

function readSetting(setting: string, set: Setter, problems: Problem[]): void {
  const at = setting.indexOf('=')
  const key = at < 0 ? setting : setting.slice(0, at)
  const name = findConfigName(key)
  if (name === undefined) problems.push({ where: '-c', message: unknownKey(key) })
  else if (at >= 0) set(name, setting.slice(at + 1), 'flag', '-c')
  else if (CONFIG_SCHEMA[name].kind === 'boolean') set(name, true, 'flag', '-c')
  else problems.push({ where: '-c', message: `${name} needs a value: ${name}=VALUE` })
}

function unknownKey(key: string): string {
  const nearest = nearestConfigName(key)
  return `unknown key ${JSON.stringify(key)}${nearest === undefined ? '' : `; did you mean ${nearest}?`}`
}

function quote(name: ConfigName, raw: unknown): string {
  if ((CONFIG_SCHEMA[name] as ConfigKey).secret === true) return 'a secret that is not shown'
  const text = JSON.stringify(raw) ?? String(raw)
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}
