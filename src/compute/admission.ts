import { toWeirError, WeirError } from '../errors.js'
import { matchConstraints } from '../model/constraints.js'
import type { JobSpec, TaskSpec } from '../model/job-spec.js'
import { resourceShortfalls, type Resources } from '../model/resources.js'
import type { DesiredExecution } from '../model/sync.js'
import { fetchedInputs, task, taskResources } from '../model/task-accessors.js'
import type { Clock, Executor, Publisher, StorageSource } from '../ports/index.js'
import { askProbes } from './admission-probes.js'
import { bounded } from './bounded-work.js'
import type { EngineHealthBoard } from './engine-health.js'
import { admitNetwork, type NetworkRules, type Refusal } from './network-admission.js'
import type { ComputeLimits, ComputePolicy } from './options.js'

/** What admission looks at; read anew for each execution, so a changed policy counts at once. */
export interface AdmissionView {
  executors: ReadonlyMap<string, Executor>
  sources: ReadonlyMap<string, StorageSource>
  publishers: ReadonlyMap<string, Publisher>
  health: EngineHealthBoard
  hasGateway: boolean
  policy: ComputePolicy
  rules: NetworkRules
  /** +1 with each change of the rules. */
  generation: number
  maxJobRequirements: Resources
  labels: Readonly<Record<string, string>>
  clock: Clock
  limits: ComputeLimits
}

/** What an execution that names no cores and no memory is charged. */
const DEFAULT_RESOURCES: Resources = Object.freeze({
  cpu: 0.1,
  memoryBytes: 100 * 1024 ** 2,
  diskBytes: 0,
  gpu: 0,
})

/** What the execution is charged on this node. */
export function chargedResources(of: TaskSpec): Resources {
  return taskResources(of, DEFAULT_RESOURCES)
}

/** True when the task leaves its results nowhere. */
export function publishesNothing({ Publisher: publisher }: TaskSpec): boolean {
  return publisher.Type === '' || kind(publisher.Type) === 'noop'
}

/** Kinds are registered in lower case; specifications keep the spelling of the field's documents. */
export function kind(type: string): string {
  return type.toLowerCase()
}

/**
 * All reasons why this node does not take the execution, in the order of the checks: engine, resources (GPUs among them), sources and
 * publisher, network, labels, the engine's own, stateless, the operator's probes. Empty = accepted. Rejects only with
 * the signal's reason: a check that fails is a refusal.
 */
export async function admit(
  desired: DesiredExecution,
  view: AdmissionView,
  signal: AbortSignal,
): Promise<Refusal[]> {
  const of = task(desired.jobSpec)
  const known = [
    ...admitEngine(of, view),
    ...admitResources(of, view),
    ...(await admitData(of, view, signal)),
    ...admitTaskNetwork(desired.jobSpec, view),
    ...admitLabels(desired, view),
    ...(await admitByEngine(of, view, signal)),
    ...admitState(of, view),
  ]
  return [...known, ...(await admitByProbes(desired, view, signal))]
}

/** The network check alone, for the moment before an execution that waited in the queue starts. */
export function admitTaskNetwork(spec: JobSpec, view: AdmissionView): Refusal[] {
  const engine = kind(task(spec).Engine.Type)
  const status = view.health.get(engine)
  const abilities = {
    engine,
    http: status?.http ?? false,
    full: status?.full ?? false,
    problems: status?.networkProblems ?? [],
    gateway: view.hasGateway,
  }
  return admitNetwork(spec, view.rules, abilities, view.clock.now())
}

function admitEngine({ Engine }: TaskSpec, { health, executors }: AdmissionView): Refusal[] {
  const status = health.get(kind(Engine.Type))
  if (status?.health.available === true) return []
  if (status === undefined) {
    return [
      {
        code: 'compute.engine',
        message: `This node does not support engine ${quoted(Engine.Type)}, only ${names(executors)}`,
        hint: 'Choose another node or another engine',
      },
    ]
  }
  const { message, hint } = status.health as { message: string; hint: string }
  return [
    {
      code: 'compute.engine',
      message: `This node cannot use engine ${quoted(Engine.Type)}: ${message}`,
      hint,
    },
  ]
}

function admitResources(of: TaskSpec, { executors, maxJobRequirements }: AdmissionView): Refusal[] {
  let asked: Resources
  try {
    asked = chargedResources(of)
  } catch (error) {
    return [asRefusal(error, 'compute.resources')]
  }
  const executor = executors.get(kind(of.Engine.Type))
  if (asked.gpu > 0 && executor !== undefined && executor.allotsGpus !== true) return [noGpus(of.Engine.Type)]
  const shortfalls = resourceShortfalls(asked, maxJobRequirements)
  if (shortfalls.length === 0) return []
  return [
    {
      code: 'compute.resources',
      message: `This node has not enough for the job: ${shortfalls.join(', ').replaceAll(' free', ' at most')}`,
      hint: 'Ask for less, or choose a larger node',
    },
  ]
}

async function admitData(of: TaskSpec, view: AdmissionView, signal: AbortSignal): Promise<Refusal[]> {
  const inputs = fetchedInputs(of).map(async (input) => {
    const source = view.sources.get(kind(input.Source.Type))
    if (source === undefined) {
      return [missing('compute.source', 'input source', input.Source.Type, view.sources)]
    }
    return asked(() => source.admit(input), 'compute.source', view, signal)
  })
  const { Publisher: spec } = of
  const publisher = view.publishers.get(kind(spec.Type))
  const publishing = publishesNothing(of)
    ? []
    : publisher === undefined
      ? [missing('compute.publisher', 'publisher', spec.Type, view.publishers)]
      : asked(() => publisher.admit(spec), 'compute.publisher', view, signal)
  const refusals = await Promise.all([...inputs, publishing])
  return distinct(refusals.flat())
}

function admitLabels({ jobSpec }: DesiredExecution, { labels }: AdmissionView): Refusal[] {
  const { matches, reasons } = matchConstraints(jobSpec.Constraints, labels)
  if (matches) return []
  return [
    {
      code: 'compute.labels',
      message: `The labels of this node do not match: ${reasons.join('; ')}`,
      hint: 'Change the constraints of the job, or choose another node',
    },
  ]
}

async function admitByEngine(of: TaskSpec, view: AdmissionView, signal: AbortSignal): Promise<Refusal[]> {
  const executor = view.executors.get(kind(of.Engine.Type))
  const status = view.health.get(kind(of.Engine.Type))
  if (executor?.admit === undefined || status?.health.available !== true) return []
  return asked(async (inner) => (await executor.admit?.(of, inner)) ?? [], 'compute.engine', view, signal)
}

function admitState(of: TaskSpec, { policy }: AdmissionView): Refusal[] {
  if (policy.rejectStateless !== true || of.InputSources.length > 0) return []
  return [
    {
      code: 'compute.policy',
      message: 'This node does not accept jobs without any input',
      hint: 'Give the job an input, or choose another node',
    },
  ]
}

async function admitByProbes(
  { jobId, jobSpec }: DesiredExecution,
  view: AdmissionView,
  signal: AbortSignal,
): Promise<Refusal[]> {
  const { probeExec = [], probeHttp = '' } = view.policy
  if (probeExec.length === 0 && probeHttp === '') return []
  const payload = JSON.stringify({ Job: { ID: jobId, ...jobSpec } })
  return asked(
    (inner) => askProbes({ exec: probeExec, http: probeHttp }, payload, inner),
    'compute.policy',
    view,
    signal,
  )
}

/** Asks a part of the node, bounded in time; a part that fails refuses. */
async function asked(
  ask: (signal: AbortSignal) => Promise<(Omit<Refusal, 'code'> & { code?: Refusal['code'] })[]>,
  code: Refusal['code'],
  { clock, limits }: AdmissionView,
  signal: AbortSignal,
): Promise<Refusal[]> {
  try {
    const refusals = await bounded(ask, {
      clock,
      signal,
      ms: limits.checkTimeoutMs,
      timeout: () =>
        new WeirError(code, `A check of this node did not end within ${limits.checkTimeoutMs} ms`, {
          hint: 'Try again later',
          retryable: true,
        }),
    })
    return refusals.map((refusal) => ({ code, ...refusal }))
  } catch (error) {
    signal.throwIfAborted()
    return [asRefusal(error, code)]
  }
}

function asRefusal(error: unknown, code: Refusal['code']): Refusal {
  const { message, hint = 'See the log of the node', retryable } = toWeirError(error, code)
  return { code, message, hint, retryable }
}

function noGpus(engine: string): Refusal {
  return {
    code: 'compute.resources',
    message: `This node cannot give GPUs to ${kind(engine)} jobs`,
    hint: 'Run the job without GPUs (leave out --gpu), or on another node',
  }
}

function missing(
  code: Refusal['code'],
  what: string,
  type: string,
  offered: ReadonlyMap<string, unknown>,
): Refusal {
  return {
    code,
    message: `This node does not support ${what} ${quoted(type)}, only ${names(offered)}`,
    hint: 'Choose another node',
  }
}

function distinct(refusals: readonly Refusal[]): Refusal[] {
  return [...new Map(refusals.map((refusal) => [refusal.message, refusal])).values()]
}

function names(offered: ReadonlyMap<string, unknown>): string {
  return offered.size === 0 ? 'none' : [...offered.keys()].join(', ')
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80))
}
