import type { ConfigValues } from '../config/index.js'
import type { JobDefaults, JobTypeDefaults } from '../model/index.js'

/** What the server fills in where jobs say nothing, from the `JobDefaults.*` keys. */
export function jobDefaults(values: ConfigValues): JobDefaults {
  return {
    batch: toEndDefaults(values, 'Batch'),
    ops: toEndDefaults(values, 'Ops'),
    service: commonDefaults(values, 'Service'),
    daemon: commonDefaults(values, 'Daemon'),
  }
}

function commonDefaults(values: ConfigValues, type: 'Batch' | 'Ops' | 'Service' | 'Daemon'): JobTypeDefaults {
  return {
    priority: values[`JobDefaults.${type}.Priority`],
    resources: {
      CPU: values[`JobDefaults.${type}.Task.Resources.CPU`],
      Memory: values[`JobDefaults.${type}.Task.Resources.Memory`],
      Disk: values[`JobDefaults.${type}.Task.Resources.Disk`],
      GPU: values[`JobDefaults.${type}.Task.Resources.GPU`],
    },
  }
}

function toEndDefaults(values: ConfigValues, type: 'Batch' | 'Ops'): JobTypeDefaults {
  const publisherType = values[`JobDefaults.${type}.Task.Publisher.Type`]
  const params = { ...values[`JobDefaults.${type}.Task.Publisher.Params`] }
  return {
    ...commonDefaults(values, type),
    ...(publisherType === '' ? {} : { publisher: { Type: publisherType, Params: params } }),
    timeouts: {
      ExecutionTimeout: seconds(values[`JobDefaults.${type}.Task.Timeouts.ExecutionTimeout`]),
      TotalTimeout: seconds(values[`JobDefaults.${type}.Task.Timeouts.TotalTimeout`]),
    },
  }
}

/** Rounded up: a limit below a second must not become "none". */
function seconds(ms: number): number {
  return Math.ceil(ms / 1000)
}
