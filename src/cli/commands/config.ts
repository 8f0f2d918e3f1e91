import { existsSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import {
  CONFIG_SCHEMA,
  configMistakes,
  defaultConfigFile,
  requireConfigName,
  saveConfigValues,
  throwTogether,
  unsetConfigValue,
  writeValue,
} from '../../config/index.js'
import { WeirError } from '../../errors.js'
import { printable, quoted } from '../../model/printable.js'
import { readClientConfig } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { LIST_FORMATS, OBJECT_FORMATS, printList, printObject, yamlOf } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import type { Config, ConfigKey, ConfigName } from '../../config/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

interface ConfigRow {
  key: string
  value: string
  origin: string
  description: string
}

/** `weir config list`: every key, its value, where the value came from, and what it means. */
export async function configList(flags: GlobalFlags & ListFlags, context: CliContext): Promise<number> {
  const config = await readClientConfig(flags, context)
  if (readChoice('--output', flags.output ?? 'table', LIST_FORMATS) === 'yaml') {
    await context.terminal.data(await yamlOf(configTree(config)))
    return EXIT.ok
  }
  const rows = (Object.keys(CONFIG_SCHEMA) as ConfigName[]).toSorted().map((name) => configRow(config, name))
  const items = rows.map(({ key, value, origin, description }) => ({
    Key: key,
    Value: value,
    Origin: origin,
    Description: description,
  }))
  await printList(context.terminal, { rows, columns: COLUMNS, items }, flags)
  return EXIT.ok
}

/** `weir config get KEY`: the value alone. A secret is not shown. */
export async function configGet(
  key: string,
  flags: GlobalFlags & { output?: string; pretty?: boolean },
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const name = requireConfigName(key, 'get')
  const schema: ConfigKey = CONFIG_SCHEMA[name]
  if (schema.secret === true) {
    throw new WeirError('cli.usage', `Cannot show ${name}: it is a secret`, {
      hint: 'look into the file or variable that sets it; `weir config list` says which',
    })
  }
  const value = (await readClientConfig(flags, context)).values[name]
  if (flags.output !== undefined) {
    const format = readChoice('--output', flags.output, OBJECT_FORMATS)
    await printObject(terminal, value, format, flags.pretty ?? terminal.outIsTerminal)
  } else {
    await terminal.data(`${printable(writeValue(schema, value))}\n`)
  }
  return EXIT.ok
}

/** `weir config set KEY=VALUE…` (or the old form `KEY VALUE`): all of them, or on any mistake none. */
export async function configSet(
  operands: readonly string[],
  flags: GlobalFlags,
  context: CliContext,
): Promise<number> {
  const file = await fileToChange(flags, context)
  const values = readAssignments(operands)
  await checkLists(values, file)
  saveConfigValues(file, values)
  for (const name of Object.keys(values)) context.terminal.talk(`${name} is set in ${printable(file)}`)
  return EXIT.ok
}

type Assignments = Partial<Record<ConfigName, string>>

function readAssignments(operands: readonly string[]): Assignments {
  const [key = '', value = ''] = operands
  const isOldForm = operands.length === 2 && !key.includes('=')
  const pairs = isOldForm ? [`${key}=${value}`] : operands
  const values: Assignments = {}
  const mistakes: WeirError[] = []
  for (const pair of pairs) {
    try {
      const equals = pair.indexOf('=')
      if (equals < 0) {
        throw new WeirError('cli.usage', `Cannot set ${quoted(pair)}: the value is missing`, {
          hint: 'Write weir config set KEY=VALUE',
        })
      }
      const name = requireConfigName(pair.slice(0, equals), 'set')
      if (Object.hasOwn(values, name))
        throw new WeirError('cli.usage', `Cannot set ${name} twice`, { hint: 'Leave one of them out' })
      values[name] = pair.slice(equals + 1)
    } catch (error) {
      if (!(error instanceof WeirError)) throw error
      mistakes.push(error)
    }
  }
  throwTogether([...mistakes, ...configMistakes(values)])
  return values
}

/** Lists of hosts are judged as a node would, which would not start with a mistake in them. */
async function checkLists(values: Assignments, file: string): Promise<void> {
  const names = Object.keys(values) as ConfigName[]
  if (!names.some((name) => /^(?:Orchestrator\.)?Egress\./.test(name))) return
  const { loadConfig } = await import('../../config/index.js')
  const settings = names.map((name) => `${name}=${values[name]}`)
  const [{ checkEgressValues }, config] = await Promise.all([
    import('../../node/index.js'),
    loadOne(loadConfig, file, settings),
  ])
  if (config !== undefined) await checkEgressValues(config.values, names)
}

/** With what else is in the file, unless that has mistakes of its own. Undefined: the values themselves are not of their kind. */
async function loadOne(
  load: typeof import('../../config/index.js').loadConfig,
  file: string,
  settings: string[],
): Promise<Config | undefined> {
  for (const files of [existsSync(file) ? [file] : ['/dev/null'], ['/dev/null']]) {
    try {
      return load({ environment: {}, files, settings })
    } catch {
      // Said when it is saved, or a matter of the rest of the file.
    }
  }
  return undefined
}

/** `weir config unset KEY`: the default holds again. */
export async function configUnset(key: string, flags: GlobalFlags, context: CliContext): Promise<number> {
  const file = await fileToChange(flags, context)
  const { name, wasSet } = unsetConfigValue(file, key)
  context.terminal.talk(
    wasSet ? `${name} is no longer set in ${printable(file)}` : `${printable(file)} does not set ${name}`,
  )
  return EXIT.ok
}

/** `weir config default`: a complete file with comments, to standard output or into a new file. */
export async function configDefault(flags: { path?: string }, context: CliContext): Promise<number> {
  const text = defaultConfigFile()
  if (flags.path === undefined) {
    await context.terminal.data(text)
    return EXIT.ok
  }
  const file = resolve(context.cwd, flags.path)
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST'
    const why = isThere ? 'there is such a file already' : (error as Error).message
    throw new WeirError('cli.usage', `Cannot write ${quoted(file)}: ${why}`, {
      hint: isThere ? 'name a new file, or remove that one' : 'name a file in a directory that exists',
      cause: error,
    })
  }
  context.terminal.talk(`The default configuration is in ${printable(file)}`)
  return EXIT.ok
}

/** The file given with `-c`, else the one in the data directory. Throws `cli.usage` for anything else behind `-c`. */
export async function fileToChange(flags: GlobalFlags, context: CliContext): Promise<string> {
  const [file, ...more] = flags.config ?? []
  if (more.length > 0) {
    throw new WeirError('cli.usage', 'Cannot change several files at once', { hint: 'Name one file with -c' })
  }
  if (file === undefined) return join(await dataDirectory(flags, context), 'config.yaml')
  if (/\.ya?ml$/i.test(file)) return resolve(context.cwd, file)
  throw new WeirError('cli.usage', `Cannot change the file ${quoted(file)}: it is no .yaml file`, {
    hint: 'Name the file with -c FILE.yaml; KEY=VALUE stands alone',
  })
}

/** Found without the file that is about to be changed: a mistake in it must not keep anybody from correcting it. */
async function dataDirectory(flags: GlobalFlags, context: CliContext): Promise<string> {
  const { loadConfig } = await import('../../config/index.js')
  const environment = { WEIR_DIR: context.environment.WEIR_DIR }
  return loadConfig({ dataDir: flags.dataDir, environment, files: ['/dev/null'] }).dataDir
}

const COLUMNS: readonly Column<ConfigRow>[] = [
  { header: 'KEY', value: ({ key }) => key, cutFirst: 0 },
  { header: 'VALUE', value: ({ value }) => value, cutFirst: 2 },
  { header: 'FROM', value: ({ origin }) => origin, cutFirst: 3 },
  { header: 'DESCRIPTION', value: ({ description }) => description, cutFirst: 4 },
]

function configRow(config: Config, name: ConfigName): ConfigRow {
  const key = CONFIG_SCHEMA[name] as ConfigKey
  const isHidden = key.secret === true && config.origin(name) !== 'default'
  const value = isHidden ? '<redacted>' : writeValue(key, config.values[name])
  return { key: name, value, origin: config.origin(name), description: key.description }
}

/** A complete configuration file: what is secret is left out. */
function configTree(config: Config): Record<string, unknown> {
  const tree: Record<string, unknown> = {}
  for (const name of Object.keys(CONFIG_SCHEMA) as ConfigName[]) {
    const key = CONFIG_SCHEMA[name] as ConfigKey
    if (key.secret === true) continue
    const parts = name.split('.')
    let branch = tree
    for (const part of parts.slice(0, -1)) branch = (branch[part] ??= {}) as Record<string, unknown>
    const isQuantity = key.kind === 'durationMs' || key.kind === 'bytes'
    branch[parts.at(-1) ?? name] = isQuantity ? writeValue(key, config.values[name]) : config.values[name]
  }
  return tree
}
