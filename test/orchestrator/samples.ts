import type { Execution, Job, JobSpec, NodeInfo, NodeRecord, TaskSpec } from '../../src/model/index.js'
import { NO_RESOURCES } from '../../src/model/index.js'

export type SpecChanges = Partial<Omit<JobSpec, 'Tasks'>> & { task?: Partial<TaskSpec> }

/** A wasm job that asks for half a core. */
export function sampleSpec({ task, ...job }: SpecChanges = {}): JobSpec {
  return {
    Name: 'sample',
    Namespace: 'default',
    Type: 'batch',
    Priority: 0,
    Count: 1,
    Constraints: [],
    Meta: {},
    Labels: {},
    ...job,
    Tasks: [
      {
        Name: 'main',
        Engine: { Type: 'docker', Params: { Image: 'busybox' } },
        Publisher: { Type: '' },
        Env: {},
        Meta: {},
        InputSources: [],
        ResultPaths: [],
        Resources: { CPU: '500m', Memory: '100mb', Disk: '', GPU: '' },
        Network: { Type: 'None', Domains: [] },
        Timeouts: { ExecutionTimeout: 0, QueueTimeout: 0, TotalTimeout: 0 },
        ...task,
      },
    ],
  }
}

export function sampleJob(changes: Partial<Job> = {}, spec: SpecChanges = {}): Job {
  return {
    id: 'j-00000000-0000-4000-a000-000000000001',
    spec: sampleSpec(spec),
    state: 'Pending',
    message: '',
    details: {},
    version: 0,
    revision: 1,
    createTimeMs: 1_000,
    modifyTimeMs: 1_000,
    ...changes,
  }
}

export function sampleExecution(changes: Partial<Execution> = {}): Execution {
  return {
    id: 'e-00000000-0000-4000-a000-000000000001',
    jobId: 'j-00000000-0000-4000-a000-000000000001',
    namespace: 'default',
    nodeId: 'n-1',
    evaluationId: '',
    slot: 0,
    attempt: 0,
    desired: { state: 'Running', message: '', sinceMs: 1_000 },
    observed: { state: 'New', sequence: 0, message: '', code: '', hint: '', retryable: false },
    resources: NO_RESOURCES,
    revision: 1,
    createTimeMs: 1_000,
    modifyTimeMs: 1_000,
    ...changes,
  }
}

export function sampleInfo(nodeId: string, changes: Partial<NodeInfo> = {}): NodeInfo {
  const capacity = { cpu: 4, memoryBytes: 8e9, diskBytes: 1e11, gpu: 0 }
  return {
    nodeId,
    roles: ['compute'],
    labels: {},
    version: '0.1.0',
    engines: ['docker', 'wasm'],
    sources: ['inline', 'urldownload', 'localdirectory'],
    publishers: ['local'],
    maxCapacity: capacity,
    maxJobRequirements: capacity,
    availableCapacity: capacity,
    queuedCapacity: NO_RESOURCES,
    runningExecutions: 0,
    queuedExecutions: 0,
    egress: {
      acceptsNetworkedJobs: false,
      httpEngines: [],
      fullEngines: [],
      allow: [],
      deny: [],
      problems: [],
    },
    engineProblems: {},
    ...changes,
  }
}

export function sampleNode(
  nodeId: string,
  changes: Partial<NodeInfo> = {},
  record: Partial<NodeRecord> = {},
): NodeRecord {
  return {
    info: sampleInfo(nodeId, changes),
    membership: 'APPROVED',
    connection: 'CONNECTED',
    incarnation: 'i-1',
    lastSyncMs: 1_000,
    connectedSinceMs: 1_000,
    revision: 1,
    ...record,
  }
}
