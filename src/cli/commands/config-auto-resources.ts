import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { CONFIG_SCHEMA, loadConfig, saveConfigValues, writeValue } from '../../config/index.js'
import { WeirError } from '../../errors.js'
import { formatBytes, formatCpu } from '../../model/resources.js'
import { printable, quoted } from '../../model/printable.js'
import { configSources } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { printList } from '../output-format.js'
import { fileToChange } from './config.js'
import type { Config, ConfigName } from '../../config/index.js'
import type { Resources } from '../../model/resources.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface AutoResourcesFlags extends ListFlags {
  totalPercentage?: string
  defaultJobPercentage?: string
  dryRun?: boolean
  /** Taken from users of older tools, and answered with a notice. */
  jobPercentage?: string
  queueJobPercentage?: string
}

interface Change {
  key: ConfigName
  measured: string
  before: string
  after: string
}

/**
 * `weir config auto-resources`: measures the machine and writes absolute limits, so that the node offers the same
 * tomorrow. Other keys and the comments of the file stay.
 */
export async function configAutoResources(
  flags: GlobalFlags & AutoResourcesFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const total = readPercentage('--total-percentage', flags.totalPercentage) ?? 75
  const perJob = readPercentage('--default-job-percentage', flags.defaultJobPercentage)
  for (const [flag, text, why] of [
    ['--job-percentage', flags.jobPercentage, 'one job may use whatever the node offers'],
    ['--queue-job-percentage', flags.queueJobPercentage, 'jobs wait at the orchestrator, not on the node'],
  ] as const) {
    if (readPercentage(flag, text, 1000) !== undefined) {
      terminal.talk(`${terminal.talkStyle.yellow('Warning:')} ${flag} has no effect: ${why}`)
    }
  }
  const file = await fileToChange(flags, context)
  const config = loadConfig({ ...configSources({ ...flags, config: [] }, context), files: filesOf(file) })
  const { detectMachine } = await import('../../node/index.js')
  const { resources } = await detectMachine(existingDirectory(config.dataDir))
  const changes = changesOf(resources, total / 100, perJob === undefined ? undefined : perJob / 100, config)
  const differing = changes.filter(({ before, after }) => before !== after)
  if (flags.dryRun !== true && differing.length > 0) {
    saveConfigValues(file, Object.fromEntries(differing.map(({ key, after }) => [key, after])))
  }
  const items = changes.map(({ key, measured, before, after }) => ({
    Key: key,
    Machine: measured,
    Before: before,
    After: after,
  }))
  const format = await printList(terminal, { rows: changes, columns: COLUMNS, items }, flags)
  if (format === 'table') terminal.talk(conclusion(flags.dryRun === true, differing.length, file))
  return EXIT.ok
}

const COLUMNS: readonly Column<Change>[] = [
  { header: 'KEY', value: ({ key }) => key, cutFirst: 1 },
  { header: 'MACHINE', value: ({ measured }) => measured, cutFirst: 3, alignRight: true },
  { header: 'BEFORE', value: ({ before }) => before, cutFirst: 0, alignRight: true },
  { header: 'AFTER', value: ({ after }) => after, cutFirst: 0, alignRight: true },
]

function changesOf(
  machine: Resources,
  total: number,
  perJob: number | undefined,
  { values }: Config,
): Change[] {
  const after = (share: number): Record<'CPU' | 'Memory' | 'Disk' | 'GPU', string> => ({
    CPU: formatCpu(Math.max(0.1, Math.floor(machine.cpu * share * 100) / 100)),
    Memory: wholeMebibytes(machine.memoryBytes * share),
    Disk: wholeMebibytes(machine.diskBytes * share),
    // A card cannot be shared; where there is one, at least one is offered.
    GPU: String(Math.ceil(machine.gpu * share)),
  })
  const measured = {
    CPU: formatCpu(machine.cpu),
    Memory: formatBytes(machine.memoryBytes),
    Disk: formatBytes(machine.diskBytes),
    GPU: String(machine.gpu),
  }
  const change = (key: ConfigName, kind: keyof typeof measured, share: number): Change => ({
    key,
    measured: measured[kind],
    before: writeValue(CONFIG_SCHEMA[key], values[key]),
    after: after(share)[kind],
  })
  const node = (['CPU', 'Memory', 'Disk', 'GPU'] as const).map((kind) =>
    change(`Compute.AllocatedCapacity.${kind}`, kind, total),
  )
  if (perJob === undefined) return node
  const jobs = (['Batch', 'Ops', 'Service', 'Daemon'] as const).flatMap((type) =>
    (['CPU', 'Memory'] as const).map((kind) =>
      change(`JobDefaults.${type}.Task.Resources.${kind}`, kind, total * perJob),
    ),
  )
  return [...node, ...jobs]
}

/** Exact and readable; what is less than a mebibyte is not offered. */
function wholeMebibytes(bytes: number): string {
  return `${Math.floor(bytes / 1024 ** 2)}mib`
}

function readPercentage(flag: string, text: string | undefined, maximum = 100): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d{1,4}%?$/.test(text.trim()) ? Number.parseInt(text, 10) : Number.NaN
  if (value >= 1 && value <= maximum) return value
  throw new WeirError('cli.usage', `Cannot use ${flag} ${quoted(text, 40)}`, {
    hint: `Write a whole number from 1 to ${maximum}`,
  })
}

function filesOf(file: string): string[] {
  return existsSync(file) ? [file] : ['/dev/null']
}

/** The disk on which the data directory will be. */
function existingDirectory(dir: string): string {
  return existsSync(dir) || dirname(dir) === dir ? dir : existingDirectory(dirname(dir))
}

function conclusion(isDry: boolean, changes: number, file: string): string {
  if (changes === 0) return `${printable(file)} says so already`
  return isDry
    ? 'Nothing was written'
    : `Written to ${printable(file)}; a running server reads it when it starts again`
}
