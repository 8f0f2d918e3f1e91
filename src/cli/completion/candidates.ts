import { CONFIG_SCHEMA } from '../../config/index.js'
import { shortId } from '../../model/ids.js'
import { withClient } from '../context.js'
import { executionState } from '../execution-words.js'
import { SHELLS } from './scripts.js'
import type { WeirCommand } from '../command.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { Cursor } from './read-words.js'

/** One word that would fit, and what it means. */
export interface Candidate {
  value: string
  description?: string
}

/** What fits at the cursor. */
export interface Candidates {
  words: readonly Candidate[]
  /** Paths of this machine fit as well. */
  paths?: 'files' | 'dirs'
  /** The word goes on behind the candidate. */
  goesOn?: boolean
}

/** A server that takes longer is not waited for: nobody wants to wait for a tab key. */
const SERVER_TIMEOUT_MS = 1000
const JOBS_MAX = 50
const NOTHING: Candidates = { words: [] }

/** Everything that fits, not yet narrowed to what was typed. Rejects when a server does not answer. */
export async function candidatesAt(cursor: Cursor, context: CliContext): Promise<Candidates> {
  if (cursor.isForeign) return { words: [], paths: 'files' }
  if (cursor.valueOf !== undefined) {
    return flagValues((cursor.valueOf.long ?? '').replace(/^-+/, ''), cursor, context)
  }
  if (cursor.current.startsWith('-')) return { words: flagNames(cursor.command) }
  if (cursor.command.commands.length > 0) return { words: commandNames(cursor.command) }
  return operandValues(cursor, context)
}

function commandNames(command: WeirCommand): Candidate[] {
  const help = command.createHelp()
  return help
    .visibleCommands(command)
    .map((one) => ({ value: one.name(), description: help.subcommandDescription(one) }))
}

function flagNames(command: WeirCommand): Candidate[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ long, description }) => (long === undefined ? [] : [{ value: long, description }]))
}

const FORMATS = ['json', 'yaml']
const TABLE_FORMATS = ['table', 'csv', ...FORMATS]

/** Values of flags that are known words, whatever the command. */
const FLAG_WORDS: Readonly<Record<string, readonly string[]>> = {
  network: ['none', 'http', 'full'],
  target: ['any', 'all'],
  publisher: ['local', 'noop', 'ipfs', 's3'],
  'on-interrupt': ['stop', 'detach'],
  'event-type': ['all', 'job', 'execution'],
  show: ['labels', 'version', 'features', 'capacity', 'network'],
  'filter-approval': ['approved', 'pending', 'rejected'],
  'filter-status': ['connected', 'disconnected'],
}

const PATH_FLAGS: Readonly<Record<string, 'files' | 'dirs'>> = {
  'output-dir': 'dirs',
  'data-dir': 'dirs',
  'audit-dir': 'dirs',
  'allow-write': 'files',
  hide: 'files',
  policy: 'files',
  summary: 'files',
  'import-module': 'files',
  'import-module-volumes': 'files',
  input: 'files',
  path: 'files',
  'allow-listed-local-paths': 'files',
}

async function flagValues(name: string, cursor: Cursor, context: CliContext): Promise<Candidates> {
  const words = FLAG_WORDS[name]
  if (words !== undefined) return { words: words.map((value) => ({ value })) }
  const paths = PATH_FLAGS[name]
  if (paths !== undefined) return { words: [], paths }
  if (name === 'config') return { words: configKeys('='), paths: 'files', goesOn: true }
  if (name === 'execution-id') return { words: await executionIds(cursor, context) }
  if (name === 'order-by') return { words: orders(cursor.command).map((value) => ({ value })) }
  if (name === 'output') {
    const isList = cursor.command.options.some(({ long }) => long === '--hide-header')
    return { words: (isList ? TABLE_FORMATS : FORMATS).map((value) => ({ value })) }
  }
  return NOTHING
}

function orders(command: WeirCommand): readonly string[] {
  if (command.words !== 'node list') return ['created_at', 'modified_at']
  return ['id', 'type', 'status', 'available_cpu', 'available_memory', 'available_disk', 'available_gpu']
}

/** By the name that the help gives to the operand. */
async function operandValues(cursor: Cursor, context: CliContext): Promise<Candidates> {
  const { command, operands } = cursor
  const argument = command.registeredArguments[operands.length]
  if (argument === undefined) return NOTHING
  const [group] = command.words.split(' ')
  switch (argument.name()) {
    case 'SHELL':
      return { words: SHELLS.map((value) => ({ value })) }
    case 'FILE':
    case 'PROGRAM':
      return { words: [], paths: 'files' }
    case 'KEY':
      return { words: configKeys('') }
    case 'KEY=VALUE':
      return { words: configKeys('='), goesOn: true }
    case 'ID':
    case 'ID|NAME':
    case 'ID[/PATH]':
      if (group === 'job') return { words: await jobIds(cursor, context) }
      return group === 'node' ? { words: await nodeIds(cursor, context) } : NOTHING
    default:
      return NOTHING
  }
}

function configKeys(end: string): Candidate[] {
  return Object.entries(CONFIG_SCHEMA).map(([name, { description }]) => ({
    value: `${name}${end}`,
    description,
  }))
}

async function jobIds(cursor: Cursor, context: CliContext): Promise<Candidate[]> {
  const signal = AbortSignal.timeout(SERVER_TIMEOUT_MS)
  const { Items } = await withClient(globalFlags(cursor), context, (client) =>
    client.jobs({ limit: JOBS_MAX, reverse: true }, { signal }),
  )
  // Nobody stops what has ended.
  const items =
    cursor.command.words === 'job stop' ? Items.filter(({ State }) => !isOver(State.StateType)) : Items
  return items.map(({ ID, Name, State }) => ({
    value: asTyped(ID, cursor),
    description: `${State.StateType} ${Name === ID ? '' : Name}`.trim(),
  }))
}

async function nodeIds(cursor: Cursor, context: CliContext): Promise<Candidate[]> {
  const signal = AbortSignal.timeout(SERVER_TIMEOUT_MS)
  const nodes = await withClient(globalFlags(cursor), context, (client) => client.nodes({}, { signal }))
  return nodes.map(({ Info, Membership, Connection }) => ({
    value: asTyped(Info.NodeID, cursor),
    description: `${Membership} ${Connection}`,
  }))
}

async function executionIds(cursor: Cursor, context: CliContext): Promise<Candidate[]> {
  const [jobId] = cursor.operands
  if (jobId === undefined) return []
  const signal = AbortSignal.timeout(SERVER_TIMEOUT_MS)
  const { Items } = await withClient(globalFlags(cursor), context, (client) =>
    client.executions(jobId, {}, { signal }),
  )
  return Items.map((execution) => ({
    value: asTyped(execution.ID, cursor),
    description: `${executionState(execution)} on ${shortId(execution.NodeID)}`,
  }))
}

/** Short, as the tables show them; whole when more than that was typed already. */
function asTyped(id: string, { current }: Cursor): string {
  return current.length > shortId(id).length ? id : shortId(id)
}

function isOver(state: string): boolean {
  return ['Completed', 'Failed', 'Stopped'].includes(state)
}

/** The flags that say which server is meant. */
function globalFlags({ flags }: Cursor): GlobalFlags {
  const last = (name: string): string | undefined => flags.get(name)?.at(-1)
  return {
    ...Object.fromEntries(
      [...flags.keys()].map((name) => [
        name.replace(/-(\w)/g, (_all, letter: string) => letter.toUpperCase()),
        last(name),
      ]),
    ),
    config: [...(flags.get('config') ?? [])],
  }
}
