import { DOMAINS_MAX, RESERVED_META_PREFIX, SERVER_FIELDS, jobShape } from './job-shape.js'
import { expandPresets, presetNameOf, requirePreset } from './presets.js'
import { ruleOf } from './value-rules.js'
import { applyJobDefaults } from './job-defaults.js'
import { checkCompleteJob, checkJob } from './job-rules.js'
import { ProblemList, ROOT_PLACE, fieldPlace, itemPlace } from './spec-problem.js'
import { printable } from './printable.js'
import { readShape } from './shape-reader.js'
import { resolveWasmModules } from './wasm-modules.js'
import type { JobDefaults } from './job-defaults.js'
import type { JobSpec, JobType, NetworkSpec, TaskSpec } from './job-spec.js'
import type { Locate, Place } from './spec-problem.js'
import type { Preset, Presets } from './presets.js'

export interface ParseJobOptions {
  /**
   * Keys that a job specification does not have. `error` (default) for what people write; `warn` for other clients
   * of the API. Unknown parameters of known engines, sources and publishers are always mistakes.
   */
  unknownFields?: 'error' | 'warn'
  /** Keys that only the server sets (ID, State, Revision, …). Default `error`; `warn` ignores them with a warning. */
  serverFields?: 'error' | 'warn'
  /**
   * Filled in where the job says nothing. Present on the server; absent elsewhere, and then the rules that depend on
   * them (a publisher for result paths, the sum of timeouts) are left to the server.
   */
  defaults?: JobDefaults
  /**
   * What `@name` among the domains stands for. Present on the server; absent elsewhere, and then such entries stay as they are
   * for the server.
   */
  presets?: Presets
}

export interface ParsedJob {
  spec: JobSpec
  /** What was ignored, one sentence each. */
  warnings: string[]
  /** Presets whose hosts the specification now holds, each once. */
  presets: readonly Preset[]
}

/**
 * Turns any JSON value into a job specification that satisfies every rule, normalised: canonical keys and spellings,
 * nothing absent, patterns and paths in canonical form. Parsing the result again changes nothing.
 *
 * Throws `spec.invalid` with every mistake at once: the message has one line each, `details.problems` is a
 * `SpecProblem[]`.
 */
export function parseJobSpec(value: unknown, options: ParseJobOptions = {}): ParsedJob {
  return parseLocatedJob(value, options)
}

/** As {@link parseJobSpec}; `locate` gives problems their position in the text. */
export function parseLocatedJob(value: unknown, options: ParseJobOptions, locate?: Locate): ParsedJob {
  const problems = new ProblemList()
  if (value === undefined || value === null) {
    problems.add(ROOT_PLACE, { message: 'empty/nil job' })
    throw problems.toError(locate)
  }
  const read = readShape(jobShape, withoutNoise(value, options, problems), ROOT_PLACE, {
    problems,
    unknownFields: options.unknownFields ?? 'error',
  }) as JobAsRead
  const used: Preset[] = []
  const spec = finish(read, value, problems, (network, at) => {
    const expanded = withPresets(network, options.presets, at, problems)
    used.push(...expanded.used)
    return expanded.network
  })
  if (spec !== undefined) checkJob(spec, ROOT_PLACE, problems)
  const complete =
    spec === undefined || options.defaults === undefined ? spec : applyJobDefaults(spec, options.defaults)
  if (complete !== undefined && options.defaults !== undefined)
    checkCompleteJob(complete, ROOT_PLACE, problems)
  if (complete === undefined || !problems.isEmpty) throw problems.toError(locate)
  return { spec: complete, warnings: problems.warnings, presets: used }
}

/** What the shape yields: any number of tasks, and a type that may be missing. */
type JobAsRead = Omit<JobSpec, 'Tasks' | 'Type'> & {
  Tasks: (Omit<TaskSpec, 'Network'> & { Network: NetworkAsRead })[]
  Type: JobType | ''
}
type NetworkAsRead = NetworkSpec & { OutboundURLs?: string[] }

/** Drops what other clients send although only the server sets it, and says so where it means something. */
function withoutNoise(value: unknown, options: ParseJobOptions, problems: ProblemList): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const entries = Object.entries(value as Record<string, unknown>)
  const typeGiven = entries.find(([key]) => key.toLowerCase() === 'type')?.[1]
  const type = typeof typeGiven === 'string' ? typeGiven : ''
  const kept = entries.filter(([key, item]) => {
    if (!SERVER_FIELDS.has(key.toLowerCase())) return true
    if ((options.serverFields ?? 'error') === 'warn') {
      if (meansSomething(item)) problems.warn(ignoredField(key, type))
    } else {
      problems.add(fieldPlace(ROOT_PLACE, key), {
        message: `field ${key} is set by the server`,
        hint: 'Remove it from the specification',
      })
    }
    return false
  })
  return Object.fromEntries(kept)
}

function ignoredField(key: string, type: string): string {
  if (key.toLowerCase() === 'id')
    return `job ID is ignored when submitting a ${printable(type, 20) || 'new'} job`
  return `job ${key.replace(/(?<=[a-z])(?=[A-Z])/g, ' ').toLowerCase()} is ignored when submitting a job`
}

/** Clients send the empty state of a new job; that is nothing to warn about. */
function meansSomething(value: unknown): boolean {
  const parts: unknown[] = typeof value === 'object' && value !== null ? Object.values(value) : [value]
  return parts.some(
    (part) => ![undefined, null, '', 0, false, 'Undefined'].includes(part as null) && !isEmptyObject(part),
  )
}

function isEmptyObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

type Expand = (network: NetworkAsRead, at: Place) => NetworkAsRead

function finish(read: JobAsRead, value: unknown, problems: ProblemList, expand: Expand): JobSpec | undefined {
  const [task] = read.Tasks
  const tasksPlace = fieldPlace(ROOT_PLACE, 'Tasks')
  if (task === undefined) problems.add(tasksPlace, { message: 'missing job tasks' })
  if (task === undefined) return undefined
  if (read.Tasks.length > 1) problems.warn('only one task is supported per job; the others are ignored')
  problems.taskName = task.Name
  const taskPlace = itemPlace(tasksPlace, 0)
  const network = expand(task.Network, fieldPlace(taskPlace, 'Network'))
  const enginePlace = fieldPlace(taskPlace, 'Engine')
  const engine = resolveWasmModules(task.Engine, task.InputSources, enginePlace, problems)
  return {
    ...read,
    // A missing type was reported; the other rules are checked all the same.
    Type: read.Type === '' ? 'batch' : read.Type,
    Count: countOf(read, value, problems),
    Meta: withoutReserved(read.Meta, problems),
    Tasks: [{ ...task, Engine: engine, Network: withOutboundUrls(network) }],
  }
}

const UNKNOWN_PRESETS_TOLD = 20

/** The hosts of presets in place of their names. Names that nobody knows become problems. */
function withPresets(
  network: NetworkAsRead,
  presets: Presets | undefined,
  at: Place,
  problems: ProblemList,
): { network: NetworkAsRead; used: readonly Preset[] } {
  if (presets === undefined || network.Domains.every((text) => presetNameOf(text) === undefined))
    return { network, used: [] }
  const place = fieldPlace(at, 'Domains')
  const unknown = network.Domains.flatMap((text, index) => {
    const name = presetNameOf(text)
    return name === undefined || presets.has(name) ? [] : [{ name, index }]
  })
  // A near name is looked for each: that costs more than reading all the rest.
  for (const { name, index } of unknown.slice(0, UNKNOWN_PRESETS_TOLD)) {
    const complaint = ruleOf(() => requirePreset(name, presets))(name)
    if (complaint !== undefined) problems.add(itemPlace(place, index), complaint)
  }
  if (unknown.length > UNKNOWN_PRESETS_TOLD)
    problems.add(place, { message: `${unknown.length} unknown presets` })
  if (unknown.length > 0) return { network, used: [] }
  const { domains, used } = expandPresets(network.Domains, presets)
  if (domains.length > DOMAINS_MAX)
    problems.add(place, {
      message: `${domains.length} domains with those of the presets are too many, at most ${DOMAINS_MAX} are allowed`,
    })
  return { network: { ...network, Domains: domains.slice(0, DOMAINS_MAX) }, used }
}

/** One list and one grammar: a URL is a pattern with a scheme. */
function withOutboundUrls({ OutboundURLs = [], Learn, ...read }: NetworkAsRead): NetworkSpec {
  const network = Learn === true ? { ...read, Learn } : read
  if (OutboundURLs.length === 0) return network
  return { ...network, Domains: [...new Set([...network.Domains, ...OutboundURLs])] }
}

/** Absent means one; an explicit 0 is kept, because that is what other clients mean by it. */
function countOf(read: JobAsRead, value: unknown, problems: ProblemList): number {
  if (read.Type === 'ops' || read.Type === 'daemon') return 1
  const given = Object.entries(value as object).some(
    ([key, item]) => key.trim().toLowerCase() === 'count' && item !== null && item !== undefined,
  )
  if (!given) return 1
  if (read.Count === 0) problems.warn('Count is 0: the job runs nothing')
  return read.Count
}

function withoutReserved(meta: Record<string, string>, problems: ProblemList): Record<string, string> {
  const entries = Object.entries(meta)
  const reserved = entries.filter(([key]) => key.toLowerCase().startsWith(RESERVED_META_PREFIX))
  if (reserved.length === 0) return meta
  for (const [key] of reserved) problems.warn(`meta key ${key} is reserved and ignored`)
  return Object.fromEntries(entries.filter((entry) => !reserved.includes(entry)))
}
