import type { Constraint, Job, ResourcesSpec, TaskSpec, TimeoutsSpec } from '../../model/index.js'
import { nanoseconds } from './time.js'

/** A JSON object on its way out: keys in the exact case of the wire. */
export type WireObject = Record<string, unknown>

/** A job as Bacalhau's clients read it. What is empty is left out where Bacalhau leaves it out. */
export function jobToWire(job: Job): WireObject {
  const { spec } = job
  return {
    ID: job.id,
    Name: spec.Name === '' ? job.id : spec.Name,
    Namespace: spec.Namespace,
    Type: spec.Type,
    Priority: spec.Priority,
    Count: spec.Count,
    Constraints: spec.Constraints.map(constraintToWire),
    Meta: spec.Meta,
    Labels: spec.Labels,
    Tasks: spec.Tasks.map(taskToWire),
    State: {
      StateType: job.state,
      Message: textOrNothing(job.message),
      Details: filledOrNothing(job.details),
    },
    Version: job.version,
    Revision: job.revision,
    CreateTime: nanoseconds(job.createTimeMs),
    ModifyTime: nanoseconds(job.modifyTimeMs),
  }
}

function taskToWire(task: TaskSpec): WireObject {
  return {
    Name: task.Name,
    Engine: task.Engine,
    Publisher: task.Publisher,
    Env: filledOrNothing(task.Env),
    Meta: filledOrNothing(task.Meta),
    InputSources: listOrNothing(task.InputSources),
    ResultPaths: listOrNothing(task.ResultPaths),
    Resources: resourcesToWire(task.Resources),
    Network: {
      Type: task.Network.Type,
      Domains: listOrNothing(task.Network.Domains),
      Learn: task.Network.Learn,
      Limits: task.Network.Limits,
      Signatures: task.Network.Signatures,
    },
    Timeouts: timeoutsToWire(task.Timeouts),
  }
}

function constraintToWire(constraint: Constraint): WireObject {
  return {
    Key: constraint.Key,
    Operator: constraint.Operator,
    Values: listOrNothing(constraint.Values),
  }
}

function resourcesToWire(resources: ResourcesSpec): WireObject {
  return {
    CPU: textOrNothing(resources.CPU),
    Memory: textOrNothing(resources.Memory),
    Disk: textOrNothing(resources.Disk),
    GPU: textOrNothing(resources.GPU),
  }
}

function timeoutsToWire(timeouts: TimeoutsSpec): WireObject {
  return {
    ExecutionTimeout: timeouts.ExecutionTimeout || undefined,
    QueueTimeout: timeouts.QueueTimeout || undefined,
    TotalTimeout: timeouts.TotalTimeout || undefined,
  }
}

/** The text, or undefined (the key is left out) when it is empty. */
export function textOrNothing(text: string): string | undefined {
  return text === '' ? undefined : text
}

/** The map, or undefined (the key is left out) when it has no entries. */
export function filledOrNothing<T>(record: Record<string, T>): Record<string, T> | undefined {
  return Object.keys(record).length === 0 ? undefined : record
}

/** Bacalhau leaves empty lists out. */
export function listOrNothing<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list
}
