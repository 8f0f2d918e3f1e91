import { Type, type TSchema } from 'typebox'
import { EgressLimits, EgressReceipt, EgressSummary } from './egress-schemas.js'

/**
 * The shapes of requests and answers. Query schemas are what requests are read by (`guards/request-schema.ts`); all of
 * them make the OpenAPI document; the contract tests hold every answer against them.
 */

const Text = Type.String()
const Count = Type.Integer({ minimum: 0 })
const Texts = Type.Array(Type.String())
const TextMap = Type.Record(Type.String(), Type.String())
const Nanoseconds = Type.Integer({ minimum: 0, description: 'Nanoseconds since the epoch' })
const Time = Type.String({ format: 'date-time' })
const NextToken = Type.String({ description: 'Empty on the last page' })

/* ---- Queries ---- */

const limit = Type.Optional(Type.Integer({ minimum: 0, maximum: 4_294_967_295, description: '0 = no limit' }))
const nextToken = Type.Optional(Type.String({ maxLength: 256, description: 'NextToken of the page before' }))
const reverse = Type.Optional(Type.Boolean({ description: 'Turns the order around' }))
const namespace = Type.Optional(Type.String({ maxLength: 256, description: 'Empty or * = all' }))
const labels = Type.Optional(
  Type.Array(Type.String({ maxLength: 4096 }), {
    description: 'Kubernetes label selectors; all of them must hold',
  }),
)
const executionId = Type.Optional(
  Type.String({ maxLength: 64, description: 'Id of an execution, or the beginning of one' }),
)

const jobVersion = Type.Optional(
  Type.Integer({ minimum: 0, maximum: 1_000_000_000, description: 'Version of the job; 0 = the latest' }),
)
const allJobVersions = Type.Optional(Type.Boolean({ description: 'Of all versions of the job' }))

/** Which job a name means and which of its versions is asked for: the same for everything below a job. */
const jobView = {
  namespace: Type.Optional(
    Type.String({
      maxLength: 256,
      description: 'Where a name is looked up; default "default". Ids need none',
    }),
  ),
  job_version: jobVersion,
  all_job_versions: allJobVersions,
}

function oneOf<const Words extends readonly string[]>(words: Words, description: string) {
  return Type.Optional(Type.Unsafe<Words[number]>({ type: 'string', enum: [...words], description }))
}

export const ListJobsQuery = Type.Object({
  namespace,
  labels,
  state: Type.Optional(
    Type.Array(Type.String({ maxLength: 256 }), {
      description: 'Addition of weir: only jobs in these states; repeated or comma-separated',
    }),
  ),
  order_by: oneOf(['created_at', 'modified_at'], 'Default created_at, oldest first'),
  reverse,
  limit,
  next_token: nextToken,
})

export const GetJobQuery = Type.Object({
  ...jobView,
  include: Type.Optional(
    Type.String({
      maxLength: 256,
      description: 'Comma-separated: history, executions; other words are ignored',
    }),
  ),
})

export const StopJobQuery = Type.Object({
  namespace: jobView.namespace,
  reason: Type.Optional(Type.String({ maxLength: 1024 })),
})

export const ResultsQuery = Type.Object(jobView)
export const JobVersionsQuery = Type.Object({ namespace: jobView.namespace })

export const SubmitJobQuery = Type.Object({
  idempotency_token: Type.Optional(Type.String({ maxLength: 256 })),
})

export const HistoryQueryParameters = Type.Object({
  ...jobView,
  event_type: oneOf(['all', 'job', 'execution'], 'Default all'),
  execution_id: executionId,
  since: Type.Optional(
    Type.Integer({ minimum: 0, description: 'Unix seconds; events recorded at or after' }),
  ),
  limit: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 4_294_967_295,
      description: 'Default 100; at most 10,000 are given',
    }),
  ),
  next_token: nextToken,
  wait_ms: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 20_000,
      description: 'Addition of weir: when nothing is new, wait so long for something',
    }),
  ),
})

export const ExecutionsQuery = Type.Object({
  ...jobView,
  order_by: oneOf(['create_time', 'created_at', 'modify_time', 'modified_at'], 'Default create_time'),
  reverse,
  limit,
})

export const LogsQuery = Type.Object({
  ...jobView,
  execution_id: executionId,
  follow: Type.Optional(Type.Boolean({ description: 'Keep streaming until the execution ends' })),
  tail: Type.Optional(Type.Boolean({ description: 'Skip what exists and begin at now' })),
  tail_lines: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 1_000_000_000,
      description: 'Addition of weir: of what exists, only so many last lines of each execution',
    }),
  ),
  since: Type.Optional(
    Type.String({
      maxLength: 40,
      description: 'Addition of weir: only what was written then or later; Unix seconds or RFC 3339',
    }),
  ),
  all_executions: Type.Optional(
    Type.Boolean({
      description:
        'Addition of weir: every execution, also those that were tried again; with follow until the job ends. What cannot be had is told in frames with a "notice"',
    }),
  ),
  encoding: oneOf(['utf8', 'base64'], 'Addition of weir: base64 sends the exact bytes in Data. Default utf8'),
})

export const EgressQuery = Type.Object({
  ...jobView,
  execution_id: executionId,
  follow: Type.Optional(
    Type.Boolean({ description: 'Stream records as newline-delimited JSON until the job ends' }),
  ),
  denied: Type.Optional(Type.Boolean({ description: 'Only what was refused' })),
  limit: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000, description: 'Default 1000' })),
  next_token: nextToken,
})

const approval = oneOf(['pending', 'approved', 'rejected'], 'Only nodes in this membership')
const status = oneOf(['connected', 'disconnected'], 'Only nodes with this connection')

export const ListNodesQuery = Type.Object({
  labels,
  'filter-approval': approval,
  filter_approval: approval,
  'filter-status': status,
  filter_status: status,
  order_by: oneOf(
    [
      'id',
      'type',
      'available_cpu',
      'available_memory',
      'available_disk',
      'available_gpu',
      'approval',
      'status',
    ],
    'Default id; resources are ordered from most to least',
  ),
  reverse,
  limit,
})

/* ---- Paths ---- */

export const JobPath = Type.Object({
  id: Type.String({ description: 'Id of a job, a unique beginning of it, or its name (percent-encoded)' }),
})
export const BlobPath = Type.Object({
  cid: Type.String({
    description: 'CID of version 1, raw, sha2-256, in base32: bafkrei and 52 more characters',
  }),
})
export const BlobsQuery = Type.Object({
  namespace: Type.Optional(Type.String({ maxLength: 256, description: 'Default "default"' })),
})
export const NodePath = Type.Object({
  id: Type.String({ description: 'Id of a node, or a unique beginning of it' }),
})
export const AuthPath = Type.Object({ name: Type.String() })
export const TokenPath = Type.Object({ id: Type.String() })
export const AdminLogQuery = Type.Object({
  limit: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000, description: 'Default 100' })),
  next_token: nextToken,
  verify: Type.Optional(Type.Boolean({ description: 'Also recompute the chain of hashes' })),
})

/* ---- Shared ---- */

export const ErrorAnswer = Type.Object({
  Status: Type.Integer({ description: 'The HTTP status again' }),
  Message: Text,
  RequestID: Text,
  Code: Type.String({ description: "Bacalhau's word for the kind of error" }),
  Component: Text,
  Hint: Type.Optional(Text),
  Details: Type.Optional(TextMap),
})

const SpecConfig = Type.Object({
  Type: Text,
  Params: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
})

const ResourceAmounts = Type.Object({
  CPU: Type.Optional(Type.Number({ description: 'Cores' })),
  Memory: Type.Optional(Type.Integer({ minimum: 0, description: 'Bytes' })),
  Disk: Type.Optional(Type.Integer({ minimum: 0, description: 'Bytes' })),
  GPU: Type.Optional(Count),
})

export const BlobAnswer = Type.Object({ CID: Text, Bytes: Count, LastUsed: Time })
export const ListBlobsAnswer = Type.Object({ NextToken: Text, Items: Type.Array(BlobAnswer) })

export const BuildVersion = Type.Object({
  Major: Type.Optional(Text),
  Minor: Type.Optional(Text),
  GitVersion: Text,
  GitCommit: Text,
  BuildDate: Time,
  GOOS: Text,
  GOARCH: Text,
  WeirVersion: Text,
})

/* ---- Jobs ---- */

const Constraint = Type.Object({ Key: Text, Operator: Text, Values: Type.Optional(Texts) })

const Task = Type.Object({
  Name: Text,
  Engine: SpecConfig,
  Publisher: SpecConfig,
  Env: Type.Optional(TextMap),
  Meta: Type.Optional(TextMap),
  InputSources: Type.Optional(Type.Array(Type.Object({ Source: SpecConfig, Alias: Text, Target: Text }))),
  ResultPaths: Type.Optional(Type.Array(Type.Object({ Name: Text, Path: Text }))),
  Resources: Type.Object({
    CPU: Type.Optional(Text),
    Memory: Type.Optional(Text),
    Disk: Type.Optional(Text),
    GPU: Type.Optional(Text),
  }),
  Network: Type.Object({
    Type: Type.Enum(['None', 'HTTP', 'Full']),
    Domains: Type.Optional(Texts),
    Limits: Type.Optional(Type.Record(Text, Type.Unknown())),
    Signatures: Type.Optional(
      Type.Array(
        Type.Object({
          Type: Text,
          Key: Text,
          NotBefore: Text,
          Expires: Text,
          Namespace: Type.Optional(Text),
          Parts: Type.Record(Text, Text),
          Signature: Text,
        }),
      ),
    ),
  }),
  Timeouts: Type.Object({
    ExecutionTimeout: Type.Optional(Count),
    QueueTimeout: Type.Optional(Count),
    TotalTimeout: Type.Optional(Count),
  }),
})

export const JobAnswer = Type.Object({
  ID: Text,
  Name: Text,
  Namespace: Text,
  Type: Type.Enum(['batch', 'ops', 'service', 'daemon']),
  Priority: Type.Integer(),
  Count,
  Constraints: Type.Array(Constraint),
  Meta: TextMap,
  Labels: TextMap,
  Tasks: Type.Array(Task),
  State: Type.Object({
    StateType: Type.Enum(['Undefined', 'Pending', 'Queued', 'Running', 'Completed', 'Failed', 'Stopped']),
    Message: Type.Optional(Text),
    Details: Type.Optional(TextMap),
  }),
  Version: Count,
  Revision: Count,
  CreateTime: Nanoseconds,
  ModifyTime: Nanoseconds,
})

export const SubmitJobAnswer = Type.Object({
  JobID: Text,
  JobVersion: Type.Integer({ minimum: 1, description: 'More than 1 when the job was updated or run again' }),
  EvaluationID: Text,
  Warnings: Type.Array(Text),
})

export const DiffAnswer = Type.Object({
  Diff: Type.String({
    description: 'One line per value: "- path: old", "+ path: new"; empty when nothing changes',
  }),
  Warnings: Type.Array(Text),
})

export const RerunBody = Type.Object({
  JobVersion: Type.Optional(
    Type.Integer({ minimum: 0, description: 'Whose specification runs; 0 = the latest' }),
  ),
  Reason: Type.Optional(Text),
  Namespace: Type.Optional(Text),
  IdempotencyToken: Type.Optional(Text),
})

export const ListJobsAnswer = Type.Object({ NextToken, Items: Type.Array(JobAnswer) })
export const StopJobAnswer = Type.Object({
  EvaluationID: Type.String({ description: 'Empty when the job was stopped already' }),
})
export const ResultsAnswer = Type.Object({ NextToken, Items: Type.Array(SpecConfig) })

const HistoryItem = Type.Object({
  SeqNum: Count,
  Type: Type.Enum(['JobLevel', 'ExecutionLevel']),
  JobID: Text,
  ExecutionID: Type.Optional(Text),
  JobVersion: Count,
  Event: Type.Object({ Message: Text, Topic: Text, Timestamp: Time, Details: Type.Optional(TextMap) }),
  Time,
  JobState: Type.Optional(Type.Object({})),
  ExecutionState: Type.Optional(Type.Object({})),
})

export const HistoryAnswer = Type.Object({
  NextToken: Type.String({
    description: 'Not empty while the job runs or more events are stored: poll with it',
  }),
  Items: Type.Array(HistoryItem),
})

function executionState(description: string) {
  return Type.Object({
    StateType: Type.Integer({ minimum: 0, maximum: 11, description }),
    Message: Type.Optional(Text),
    Details: Type.Optional(TextMap),
  })
}

const ExecutionAnswer = Type.Object({
  ID: Text,
  Namespace: Text,
  EvalID: Text,
  Name: Text,
  NodeID: Text,
  JobID: Text,
  AllocatedResources: Type.Object({ Tasks: Type.Record(Type.String(), ResourceAmounts) }),
  DesiredState: executionState('1 running, 2 stopped'),
  ComputeState: executionState(
    '1 new, 3 accepted, 4 rejected, 5 preparing, 6 running, 7 publishing, 9 completed, 10 failed, 11 cancelled',
  ),
  PublishedResult: SpecConfig,
  RunOutput: Type.Union([
    Type.Null(),
    Type.Object({
      Stdout: Text,
      StdoutTruncated: Type.Boolean(),
      stderr: Text,
      StderrTruncated: Type.Boolean(),
      ExitCode: Type.Integer(),
      ErrorMsg: Text,
    }),
  ]),
  PreviousExecution: Text,
  NextExecution: Text,
  FollowupEvalID: Text,
  Revision: Count,
  CreateTime: Nanoseconds,
  ModifyTime: Nanoseconds,
  JobVersion: Count,
  PartitionIndex: Count,
  Attempt: Count,
  StartTime: Type.Optional(Time),
  EndTime: Type.Optional(Time),
  Egress: Type.Optional(EgressSummary),
  EgressLimits: Type.Optional(EgressLimits),
  EgressReceipt: Type.Optional(EgressReceipt),
})

export const ExecutionsAnswer = Type.Object({ NextToken, Items: Type.Array(ExecutionAnswer) })

export const GetJobAnswer = Type.Object({
  Job: JobAnswer,
  History: Type.Optional(HistoryAnswer),
  Executions: Type.Optional(ExecutionsAnswer),
})

/** Records keep the exact form over which their hashes were made. */
const AuditRecord = Type.Object(
  {
    timeMs: Count,
    nodeId: Text,
    jobId: Text,
    executionId: Text,
    sequence: Count,
    previousHash: Text,
    kind: Text,
    method: Text,
    host: Text,
    port: Count,
    decision: Type.Enum(['allow', 'deny']),
    code: Text,
    rule: Text,
    ruleOwner: Text,
    bytesUp: Count,
    bytesDown: Count,
    msTotal: Type.Number(),
    end: Text,
    hash: Text,
  },
  { additionalProperties: true, description: 'One attempt of the job to leave' },
)

export const EgressAnswer = Type.Object({ NextToken, Items: Type.Array(AuditRecord) })

/* ---- Nodes ---- */

const NodeInfoAnswer = Type.Object({
  NodeID: Text,
  NodeType: Type.Enum(['Compute', 'Requester']),
  Labels: TextMap,
  SupportedProtocols: Texts,
  ComputeNodeInfo: Type.Optional(
    Type.Object({
      ExecutionEngines: Texts,
      Publishers: Texts,
      StorageSources: Texts,
      MaxCapacity: ResourceAmounts,
      QueueCapacity: ResourceAmounts,
      AvailableCapacity: ResourceAmounts,
      MaxJobRequirements: ResourceAmounts,
      RunningExecutions: Count,
      EnqueuedExecutions: Count,
      address: Text,
    }),
  ),
  BacalhauVersion: BuildVersion,
  WeirVersion: Text,
  Roles: Texts,
  Egress: Type.Object({
    AcceptsNetworkedJobs: Type.Boolean(),
    Learning: Type.Optional(
      Type.Object(
        { Users: Texts, TimeoutMaxSeconds: Type.Number() },
        { description: 'Whose jobs may learn which hosts they need' },
      ),
    ),
    Mode: Type.Enum(['none', 'list', 'all']),
    Generation: Type.Optional(Count),
    NetworkVersion: Type.Optional(Count),
    AllowCount: Count,
    DenyCount: Count,
    HTTPEngines: Texts,
    FullEngines: Texts,
    Allow: Texts,
    Deny: Texts,
    Keys: Type.Optional(
      Type.Array(Type.Object({ Name: Text, Key: Text, Allow: Texts }), {
        description: 'What is open beyond Allow to jobs that are signed with a key',
      }),
    ),
    Problems: Texts,
    Gateway: Type.Optional(
      Type.Object(
        { Running: Type.Boolean(), PolicyGeneration: Count, Leases: Count, Connections: Count },
        { description: 'The egress gateway when the node last looked' },
      ),
    ),
  }),
  EngineProblems: TextMap,
  EngineDetails: Type.Optional(
    Type.Record(Type.String(), Type.String(), {
      description: 'What each engine works with, such as the layers of its sandbox',
    }),
  ),
  PublicKey: Type.Optional(
    Type.String({ description: 'Of the key with which the node signs what it says about executions' }),
  ),
})

const NodeState = {
  Info: NodeInfoAnswer,
  Membership: Type.Enum(['PENDING', 'APPROVED', 'REJECTED']),
  Connection: Type.Enum(['CONNECTED', 'DISCONNECTED']),
  ConnectionState: Type.Object({
    Status: Type.Enum(['CONNECTED', 'DISCONNECTED']),
    LastHeartbeat: Time,
    ConnectedSince: Time,
    DisconnectedSince: Time,
  }),
}

export const NodeAnswer = Type.Object(NodeState)
/** NodeState and NodeInfo side by side: clients before 1.6 read the one, later ones the other. */
export const AgentNodeAnswer = Type.Object({ ...NodeState, ...NodeInfoAnswer.properties })

export const ListNodesAnswer = Type.Object({
  NextToken,
  Nodes: Type.Array(NodeAnswer),
  nodes: Type.Optional(
    Type.Array(NodeAnswer, { description: 'The same, as the Python client spells it; not for Go clients' }),
  ),
})
export const GetNodeAnswer = Type.Object({ Node: NodeAnswer, node: Type.Optional(NodeAnswer) })

export const UpdateNodeBody = Type.Object({
  Action: Type.String({ description: 'approve, reject or delete' }),
  Message: Type.Optional(Text),
})
export const UpdateNodeAnswer = Type.Object({
  Success: Type.Boolean(),
  success: Type.Boolean(),
  Error: Type.Optional(Text),
  error: Type.Optional(Text),
})

const NodeToken = Type.Object({
  ID: Text,
  Description: Text,
  CreatedAt: Text,
  ExpiresAt: Type.Optional(Type.String({ description: 'Absent: never' })),
  UsesMax: Type.Integer({ description: 'How many machines may join with it; 0 = any number' }),
  Uses: Type.Integer(),
})
export const CreateNodeTokenBody = Type.Object({
  Description: Type.Optional(Text),
  ExpiresAfterSeconds: Type.Optional(Type.Integer({ minimum: 0, description: 'Default a day; 0 = never' })),
  UsesMax: Type.Optional(Type.Integer({ minimum: 0, description: 'Default 1; 0 = any number' })),
})
export const CreateNodeTokenAnswer = Type.Object({
  Secret: Type.String({ description: 'Shown once' }),
  JoinURL: Type.String({ description: 'Address that machines join' }),
  Token: NodeToken,
})
export const ListNodeTokensAnswer = Type.Object({ NextToken: Text, Items: Type.Array(NodeToken) })

/* ---- Agent and authentication ---- */

export const AliveAnswer = Type.Object({ Status: Type.Literal('OK') })
export const ConfigAnswer = Type.Object({ config: Type.Record(Type.String(), Type.Unknown()) })
export const DebugAnswer = Type.Record(Type.String(), Type.Unknown())
export const AuthConfigAnswer = Type.Object({
  Version: Text,
  Config: Type.Object({
    ProviderID: Type.String({ description: 'Empty: there is no single sign-on' }),
    ProviderName: Text,
    DeviceAuthorizationEndpoint: Text,
    TokenEndpoint: Text,
    Issuer: Text,
    JWKSUri: Text,
    DeviceClientID: Text,
    PollingInterval: Count,
    Audience: Text,
    Scopes: Texts,
  }),
})
export const VersionBody = Type.Object({ client_id: Type.Optional(Text) })
export const VersionAnswer = Type.Object({ build_version_info: BuildVersion })
export const AuthRequirementAnswer = Type.Object({
  type: Type.Enum(['challenge', 'ask']),
  params: Type.Record(Type.String(), Type.Unknown()),
})
export const AuthMethodsAnswer = Type.Object({
  NextToken,
  Methods: Type.Record(Type.String(), AuthRequirementAnswer),
})
export const AuthBody = Type.Object({
  MethodData: Type.String({ contentEncoding: 'base64', description: 'JSON that depends on the method' }),
})
export const WhoAmIAnswer = Type.Object({
  Authenticated: Type.Boolean({ description: 'False where nobody has to authenticate' }),
  ID: Text,
  Name: Text,
  Kind: Type.Enum(['token', 'user', 'everyone']),
  Role: Type.String({ description: 'Empty for configured users' }),
  Permissions: Texts,
  Namespaces: Type.Array(Text, { description: '* = all' }),
  ExpiresAt: Type.Optional(Time),
  Hint: Type.Optional(Text),
})
const Token = Type.Object({
  ID: Text,
  Name: Text,
  Role: Type.Enum(['admin', 'submitter', 'reader']),
  Namespaces: Type.Array(Text, { description: '* = all' }),
  CreatedAt: Time,
  CreatedBy: Text,
  ExpiresAt: Type.Optional(Time),
  LastUsedAt: Type.Optional(Time),
  RevokedAt: Type.Optional(Time),
})
export const ListTokensAnswer = Type.Object({ NextToken, Items: Type.Array(Token) })
export const CreateTokenBody = Type.Object({
  Name: Text,
  Role: Type.Enum(['admin', 'submitter', 'reader']),
  Namespaces: Type.Optional(
    Type.Array(Text, { description: '* = all; absent and empty = none, which only an admin may have' }),
  ),
  ExpiresInSeconds: Type.Optional(Type.Integer({ minimum: 1, description: 'Absent = it does not expire' })),
})
export const CreateTokenAnswer = Type.Object({
  Token: Type.String({ description: 'Shown once: the server keeps its hash only' }),
  Record: Token,
})
export const TokenAnswer = Type.Object({ Record: Token })
export const AdminLogAnswer = Type.Object({
  NextToken,
  Items: Type.Array(
    Type.Object({
      timeMs: Count,
      sequence: Count,
      principal: Text,
      principalName: Text,
      address: Text,
      action: Text,
      object: Text,
      outcome: Type.Enum(['allowed', 'denied', 'failed']),
      details: Type.Optional(TextMap),
      previousHash: Text,
      hash: Text,
    }),
  ),
  Verdict: Type.Optional(
    Type.Object({
      intact: Type.Boolean(),
      records: Type.Optional(Count),
      firstSequence: Type.Optional(Count),
      head: Type.Optional(Text),
      brokenAt: Type.Optional(Count),
      reason: Type.Optional(Text),
    }),
  ),
})
export const AuthAnswer = Type.Object({
  Authentication: Type.Object({
    success: Type.Boolean(),
    token: Type.Optional(Text),
    reason: Type.Optional(Text),
  }),
})
export const PlainText = Type.String()

export type Schema = TSchema
