import { WeirError } from '../errors.js'
import { NO_RESOURCES, parseBytes, parseCpu, parseGpu } from './resources.js'
import type { Resources } from './resources.js'
import type {
  DockerEngineParams,
  InputSourceSpec,
  JobSpec,
  JobType,
  TaskSpec,
  WasmEngineParams,
} from './job-spec.js'

/** The entry point of a WASM program that names none. */
export const DEFAULT_ENTRY_POINT = '_start'

/** The one task of a job. */
export function task(spec: JobSpec): TaskSpec {
  return spec.Tasks[0]
}

/**
 * Parameters of a docker task with nothing absent. Expects a task that came out of `parseJobSpec`; throws
 * `spec.invalid` when the engine is another one.
 */
export function dockerEngine({ Engine }: TaskSpec): DockerEngineParams {
  if (Engine.Type !== 'docker') throw otherEngine('docker', Engine.Type)
  const params: Partial<DockerEngineParams> = Engine.Params ?? {}
  return {
    Image: params.Image ?? '',
    Entrypoint: params.Entrypoint ?? null,
    Parameters: params.Parameters ?? [],
    EnvironmentVariables: params.EnvironmentVariables ?? [],
    WorkingDirectory: params.WorkingDirectory ?? '',
  }
}

/** As {@link dockerEngine}, for wasm tasks. */
export function wasmEngine({ Engine }: TaskSpec): WasmEngineParams {
  if (Engine.Type !== 'wasm') throw otherEngine('wasm', Engine.Type)
  const params: Partial<WasmEngineParams> = Engine.Params ?? {}
  if (params.EntryModule === undefined) {
    throw new WeirError('spec.invalid', 'Cannot read the wasm engine of a task: it has no EntryModule')
  }
  return {
    EntryModule: params.EntryModule,
    EntryPoint: params.EntryPoint ?? DEFAULT_ENTRY_POINT,
    Parameters: params.Parameters ?? [],
    EnvironmentVariables: params.EnvironmentVariables ?? {},
    ImportModules: params.ImportModules ?? [],
  }
}

/** Everything that is fetched before the run: the inputs and, for wasm, the modules. */
export function fetchedInputs(of: TaskSpec): InputSourceSpec[] {
  if (of.Engine.Type !== 'wasm') return of.InputSources
  const { EntryModule, ImportModules } = wasmEngine(of)
  return [EntryModule, ...ImportModules, ...of.InputSources]
}

/** CIDs of the blobs that the job needs, each once. */
export function namedBlobs(spec: JobSpec): string[] {
  const sources = fetchedInputs(task(spec)).map(({ Source }) => Source)
  const cids = sources.filter(({ Type }) => isBlobType(Type)).map(({ Params }) => Params?.CID)
  return [...new Set(cids.filter((cid) => typeof cid === 'string'))]
}

/** True for the type of input sources whose content was uploaded to the network. */
export function isBlobType(type: string): boolean {
  return type.toLowerCase() === 'blob'
}

/** Amounts as numbers; what the task leaves open comes from `defaults` (absent = nothing). */
export function taskResources({ Resources: asked }: TaskSpec, defaults: Resources = NO_RESOURCES): Resources {
  return {
    cpu: asked.CPU === '' ? defaults.cpu : parseCpu(asked.CPU),
    memoryBytes: asked.Memory === '' ? defaults.memoryBytes : parseBytes(asked.Memory, 'memory'),
    diskBytes: asked.Disk === '' ? defaults.diskBytes : parseBytes(asked.Disk, 'disk'),
    gpu: asked.GPU === '' ? defaults.gpu : parseGpu(asked.GPU),
  }
}

/** True for job types that run to an end; only these queue, time out and have results. */
export function runsToEnd(type: JobType): boolean {
  return type === 'batch' || type === 'ops'
}

/** From the job's creation to its end; undefined = no limit. Service and daemon jobs have none. */
export function totalTimeoutMs(spec: JobSpec): number | undefined {
  return limitMs(spec, task(spec).Timeouts.TotalTimeout)
}

/** For one execution, from its start; falls back to the total timeout; undefined = no limit. */
export function executionTimeoutMs(spec: JobSpec): number | undefined {
  const { ExecutionTimeout, TotalTimeout } = task(spec).Timeouts
  return limitMs(spec, ExecutionTimeout > 0 ? ExecutionTimeout : TotalTimeout)
}

/** How long the job may wait for a node; 0 = it fails at once when no node fits. */
export function queueTimeoutMs(spec: JobSpec): number {
  return limitMs(spec, task(spec).Timeouts.QueueTimeout) ?? 0
}

function limitMs(spec: JobSpec, seconds: number): number | undefined {
  return runsToEnd(spec.Type) && seconds > 0 ? seconds * 1000 : undefined
}

function otherEngine(wanted: string, found: string): WeirError {
  return new WeirError(
    'spec.invalid',
    `Cannot read the ${wanted} engine of a task that uses ${JSON.stringify(found)}`,
  )
}
