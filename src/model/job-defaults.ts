import type { JobSpec, JobType, ResourcesSpec, SpecConfig, TaskSpec, TimeoutsSpec } from './job-spec.js'

/** What the server fills in where a job of one type says nothing. */
export interface JobTypeDefaults {
  /** Used where the job's priority is 0. */
  priority?: number
  resources?: Partial<ResourcesSpec>
  /** Batch and ops only. */
  publisher?: SpecConfig
  /** Batch and ops only. */
  timeouts?: Partial<TimeoutsSpec>
}

/** By job type; absent types get no defaults. */
export type JobDefaults = Partial<Record<JobType, JobTypeDefaults>>

/** What holds when an operator configures nothing: half a core and 1 GB. */
export const STOCK_JOB_DEFAULTS: JobDefaults = {
  batch: { resources: { CPU: '500m', Memory: '1gb' } },
  ops: { resources: { CPU: '500m', Memory: '1gb' } },
  service: { resources: { CPU: '500m', Memory: '1gb' } },
  daemon: { resources: { CPU: '500m', Memory: '1gb' } },
}

/** The specification with everything filled in that it left open. Applying defaults twice changes nothing. */
export function applyJobDefaults(spec: JobSpec, defaults: JobDefaults): JobSpec {
  const own = defaults[spec.Type]
  if (own === undefined) return spec
  const [task] = spec.Tasks
  return {
    ...spec,
    Priority: spec.Priority === 0 ? (own.priority ?? 0) : spec.Priority,
    Tasks: [applyTaskDefaults(task, own, spec.Type === 'batch' || spec.Type === 'ops')],
  }
}

function applyTaskDefaults(task: TaskSpec, own: JobTypeDefaults, runsToEnd: boolean): TaskSpec {
  const publisher = runsToEnd && task.Publisher.Type === '' ? own.publisher : undefined
  return {
    ...task,
    Publisher: publisher ?? task.Publisher,
    Resources: {
      CPU: task.Resources.CPU || (own.resources?.CPU ?? ''),
      Memory: task.Resources.Memory || (own.resources?.Memory ?? ''),
      Disk: task.Resources.Disk || (own.resources?.Disk ?? ''),
      GPU: task.Resources.GPU || (own.resources?.GPU ?? ''),
    },
    Timeouts: runsToEnd ? fillTimeouts(task.Timeouts, own.timeouts ?? {}) : task.Timeouts,
  }
}

function fillTimeouts(asked: TimeoutsSpec, own: Partial<TimeoutsSpec>): TimeoutsSpec {
  return {
    ExecutionTimeout: asked.ExecutionTimeout || (own.ExecutionTimeout ?? 0),
    QueueTimeout: asked.QueueTimeout || (own.QueueTimeout ?? 0),
    TotalTimeout: asked.TotalTimeout || (own.TotalTimeout ?? 0),
  }
}
