/** Records that the examples of the API share: one job that ran once on one node. */

const JOB_ID = 'j-6f1c0f5a-0000-4000-8000-000000000001'
const EXECUTION_ID = 'e-6f1c0f5a-0000-4000-8000-000000000002'
/** Id of the node in the examples. */
export const COMMON_NODE = 'n-1a2b3c4d-0000-4000-8000-000000000003'
const START = '2026-01-10T08:00:00.000Z'
const END = '2026-01-10T08:00:03.000Z'
const START_NS = 1_768_032_000_000_000_000n
const END_NS = 1_768_032_003_000_000_000n

export const VERSION = {
  Major: '1',
  Minor: '5',
  GitVersion: 'v1.5.2',
  GitCommit: '0a1b2c3',
  BuildDate: START,
  GOOS: 'linux',
  GOARCH: 'amd64',
  WeirVersion: '0.1.0',
}

export const JOB = {
  ID: JOB_ID,
  Name: 'hello',
  Namespace: 'default',
  Type: 'batch',
  Priority: 0,
  Count: 1,
  Constraints: [],
  Meta: { 'bacalhau.org/orchestrator.id': COMMON_NODE },
  Labels: {},
  Tasks: [
    {
      Name: 'main',
      Engine: { Type: 'docker', Params: { Image: 'alpine', Parameters: ['echo', 'hi'] } },
      Publisher: { Type: 'local' },
      Resources: { CPU: '500m', Memory: '1gb' },
      Network: { Type: 'HTTP', Domains: ['example.org'] },
      Timeouts: {},
    },
  ],
  State: { StateType: 'Completed' },
  Version: 1,
  Revision: 4,
  CreateTime: START_NS,
  ModifyTime: END_NS,
}

export const EXECUTION = {
  ID: EXECUTION_ID,
  Namespace: 'default',
  EvalID: '0d6c0f5a-0000-4000-8000-000000000004',
  Name: '',
  NodeID: COMMON_NODE,
  JobID: JOB_ID,
  AllocatedResources: { Tasks: { main: { CPU: 0.5, Memory: 1_000_000_000 } } },
  DesiredState: { StateType: 2, Message: 'execution completed' },
  ComputeState: { StateType: 9 },
  PublishedResult: {
    Type: 'urlDownload',
    Params: { URL: `http://192.0.2.5:6001/unguessable/${EXECUTION_ID}.tar.gz` },
  },
  RunOutput: {
    Stdout: 'hi\n',
    StdoutTruncated: false,
    stderr: '',
    StderrTruncated: false,
    ExitCode: 0,
    ErrorMsg: '',
  },
  PreviousExecution: '',
  NextExecution: '',
  FollowupEvalID: '',
  Revision: 5,
  CreateTime: START_NS,
  ModifyTime: END_NS,
  JobVersion: 1,
  PartitionIndex: 0,
  Attempt: 0,
  StartTime: START,
  EndTime: END,
}

export const HISTORY = [
  historyItem(1, 'Submission', 'Job submitted', START),
  historyItem(2, 'Scheduling', 'Requested execution on n-1a2b3c4d', START, EXECUTION_ID, {
    NodeID: COMMON_NODE,
  }),
  historyItem(3, 'State Update', 'Running', START, undefined, { NewState: 'Running' }),
  historyItem(4, 'Execution', 'Running', START, EXECUTION_ID),
  historyItem(5, 'Execution', 'Completed successfully', END, EXECUTION_ID),
  historyItem(6, 'State Update', 'Completed', END, undefined, { NewState: 'Completed' }),
]

const CAPACITY = { CPU: 4, Memory: 8_000_000_000, Disk: 100_000_000_000 }

export const NODE = {
  Info: {
    NodeID: COMMON_NODE,
    NodeType: 'Compute',
    Labels: { 'Operating-System': 'linux', Architecture: 'amd64' },
    SupportedProtocols: ['bprotocol/v2', 'ncl/v1'],
    ComputeNodeInfo: {
      ExecutionEngines: ['docker', 'wasm'],
      Publishers: ['local', 'noop'],
      StorageSources: ['inline', 'localdirectory', 'urldownload'],
      MaxCapacity: CAPACITY,
      QueueCapacity: {},
      AvailableCapacity: CAPACITY,
      MaxJobRequirements: CAPACITY,
      RunningExecutions: 0,
      EnqueuedExecutions: 0,
      address: '',
    },
    BacalhauVersion: VERSION,
    WeirVersion: '0.1.0',
    Roles: ['orchestrator', 'compute'],
    Egress: {
      AcceptsNetworkedJobs: true,
      Mode: 'list',
      Generation: 1,
      AllowCount: 1,
      DenyCount: 0,
      HTTPEngines: ['docker'],
      FullEngines: [],
      Allow: ['example.org'],
      Deny: [],
      Problems: [],
    },
    EngineProblems: {},
    EngineDetails: { docker: 'version: 20.10.24; cgroups: version 2' },
  },
  Membership: 'APPROVED',
  Connection: 'CONNECTED',
  ConnectionState: {
    Status: 'CONNECTED',
    LastHeartbeat: END,
    ConnectedSince: START,
    DisconnectedSince: '0001-01-01T00:00:00Z',
  },
}

export const EGRESS = {
  timeMs: 1_768_032_001_000,
  nodeId: COMMON_NODE,
  jobId: JOB_ID,
  executionId: EXECUTION_ID,
  sequence: 1,
  previousHash: '0'.repeat(64),
  policyGeneration: 1,
  kind: 'connect',
  method: 'CONNECT',
  host: 'example.org',
  hostAsSent: 'example.org',
  port: 443,
  answers: ['203.0.113.7'],
  aliases: [],
  dialled: '203.0.113.7',
  sni: 'example.org',
  alpn: [],
  decision: 'allow',
  code: '',
  rule: 'example.org',
  ruleOwner: 'job',
  status: 200,
  bytesUp: 517,
  bytesDown: 4200,
  msToFirstByte: 30,
  msTotal: 90,
  end: 'client',
  hash: 'f'.repeat(64),
}

function historyItem(
  sequence: number,
  topic: string,
  message: string,
  time: string,
  executionId?: string,
  details?: Record<string, string>,
) {
  return {
    SeqNum: sequence,
    Type: executionId === undefined ? 'JobLevel' : 'ExecutionLevel',
    JobID: JOB_ID,
    ExecutionID: executionId,
    JobVersion: 1,
    Event: { Message: message, Topic: topic, Timestamp: time, Details: details },
    Time: time,
  }
}
