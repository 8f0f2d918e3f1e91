import {
  ANY,
  BOOL,
  BYTES,
  FLOAT,
  INT,
  mapOf,
  pointer,
  slice,
  STRING,
  struct,
  TIME,
  UINT,
  type GoType,
} from './go-decode.js'

/** Versions of Bacalhau's Go client whose structs are imitated. */
export type GoClientVersion = 'v1.4.0' | 'v1.5.2' | 'v1.9.3'

/** What one version of the client decodes answers into, by the name of the answer. */
export interface GoStructs {
  putJob: GoType
  listJobs: GoType
  getJob: GoType
  stopJob: GoType
  history: GoType
  executions: GoType
  results: GoType
  listNodes: GoType
  getNode: GoType
  putNode: GoType
  alive: GoType
  version: GoType
  agentNode: GoType
  agentConfig: GoType
  debug: GoType
  listAuth: GoType
  authMethod: GoType
  authenticate: GoType
  logFrame: GoType
  apiError: GoType
  authConfig: GoType
  rerun: GoType
  diff: GoType
  versions: GoType
}

export function goStructs(version: GoClientVersion): GoStructs {
  const isLate = version === 'v1.9.3'
  const texts = mapOf(STRING)
  const state = (stateType: GoType) =>
    struct('State', { StateType: stateType, Message: STRING, Details: texts })
  const jobState = state({ kind: 'text', name: 'JobStateType' })
  const executionState = state(INT)
  const specConfig = struct('SpecConfig', { Type: STRING, Params: mapOf(ANY) })
  const networks = isLate ? ['none', 'full', 'http', 'default', 'host', 'bridge'] : ['none', 'full', 'http']
  const network = struct('NetworkConfig', {
    Type: { kind: 'text', name: 'Network', accepts: (text) => networks.includes(text.toLowerCase()) },
    Domains: slice(STRING),
    ...(isLate && { Ports: slice(struct('Port', { Name: STRING, Static: INT, Target: INT })) }),
  })
  const inputSource = struct('InputSource', { Source: pointer(specConfig), Alias: STRING, Target: STRING })
  const task = struct('Task', {
    Name: STRING,
    Engine: pointer(specConfig),
    Publisher: pointer(specConfig),
    Env: texts,
    Meta: texts,
    InputSources: slice(pointer(inputSource)),
    ResultPaths: slice(pointer(struct('ResultPath', { Name: STRING, Path: STRING }))),
    Resources: pointer(struct('ResourcesConfig', { CPU: STRING, Memory: STRING, Disk: STRING, GPU: STRING })),
    Network: pointer(network),
    Timeouts: pointer(
      struct('TimeoutConfig', { ExecutionTimeout: INT, QueueTimeout: INT, TotalTimeout: INT }),
    ),
  })
  const job = struct('Job', {
    ID: STRING,
    Name: STRING,
    Namespace: STRING,
    Type: STRING,
    Priority: INT,
    Count: INT,
    Constraints: slice(
      pointer(struct('LabelSelectorRequirement', { Key: STRING, Operator: STRING, Values: slice(STRING) })),
    ),
    Meta: texts,
    Labels: texts,
    Tasks: slice(pointer(task)),
    State: jobState,
    Version: UINT,
    Revision: UINT,
    CreateTime: INT,
    ModifyTime: INT,
  })
  const resources = struct('Resources', {
    CPU: FLOAT,
    Memory: UINT,
    Disk: UINT,
    GPU: UINT,
    GPUs: slice(
      struct('GPU', { Index: UINT, Name: STRING, Vendor: STRING, Memory: UINT, PCIAddress: STRING }),
    ),
  })
  const execution = struct('Execution', {
    ID: STRING,
    Namespace: STRING,
    EvalID: STRING,
    Name: STRING,
    NodeID: STRING,
    JobID: STRING,
    Job: pointer(job),
    AllocatedResources: pointer(struct('AllocatedResources', { Tasks: mapOf(pointer(resources)) })),
    DesiredState: executionState,
    ComputeState: executionState,
    PublishedResult: pointer(specConfig),
    RunOutput: pointer(
      struct('RunCommandResult', {
        Stdout: STRING,
        StdoutTruncated: BOOL,
        stderr: STRING,
        StderrTruncated: BOOL,
        ExitCode: INT,
        ErrorMsg: STRING,
      }),
    ),
    PreviousExecution: STRING,
    NextExecution: STRING,
    FollowupEvalID: STRING,
    Revision: UINT,
    CreateTime: INT,
    ModifyTime: INT,
    ...(isLate && { JobVersion: UINT, PartitionIndex: INT }),
  })
  const change = struct('StateChange', { Previous: ANY, New: ANY })
  const historyItem = struct('JobHistory', {
    SeqNum: UINT,
    Type: { kind: 'text', name: 'JobHistoryType' },
    JobID: STRING,
    ExecutionID: STRING,
    Event: struct('Event', { Message: STRING, Topic: STRING, Timestamp: TIME, Details: texts }),
    Time: TIME,
    ...(isLate && { JobVersion: UINT }),
    // Clients of version 1.4 read through these without looking whether they are there.
    ...(version === 'v1.4.0' && { JobState: pointer(change), ExecutionState: pointer(change) }),
  })
  const buildVersion = struct('BuildVersionInfo', {
    Major: STRING,
    Minor: STRING,
    GitVersion: STRING,
    GitCommit: STRING,
    BuildDate: TIME,
    GOOS: STRING,
    GOARCH: STRING,
  })
  const computeNode = struct('ComputeNodeInfo', {
    ExecutionEngines: slice(STRING),
    Publishers: slice(STRING),
    StorageSources: slice(STRING),
    MaxCapacity: resources,
    QueueCapacity: resources,
    AvailableCapacity: resources,
    MaxJobRequirements: resources,
    RunningExecutions: INT,
    EnqueuedExecutions: INT,
    ...(isLate && { address: STRING }),
  })
  const nodeInfoFields = {
    NodeID: STRING,
    NodeType: {
      kind: 'text',
      name: 'NodeType',
      accepts: (text) => ['requester', 'compute'].includes(text.toLowerCase()),
    },
    Labels: texts,
    SupportedProtocols: slice(STRING),
    ComputeNodeInfo: isLate ? computeNode : pointer(computeNode),
    BacalhauVersion: buildVersion,
  } satisfies Record<string, GoType>
  const connection: GoType = {
    kind: 'text',
    name: 'NodeConnectionState',
    accepts: (text) => ['CONNECTED', 'DISCONNECTED'].includes(text.toUpperCase()),
  }
  const nodeStateFields = {
    Info: struct('NodeInfo', nodeInfoFields),
    Membership: {
      kind: 'text',
      name: 'NodeMembershipState',
      accepts: (text) => ['PENDING', 'APPROVED', 'REJECTED'].includes(text.toUpperCase()),
    },
    Connection: connection,
    ...(isLate && {
      ConnectionState: struct('ConnectionState', {
        Status: connection,
        LastHeartbeat: TIME,
        LastComputeSeqNum: UINT,
        LastOrchestratorSeqNum: UINT,
        ConnectedSince: TIME,
        DisconnectedSince: TIME,
        LastError: STRING,
      }),
    }),
  } satisfies Record<string, GoType>
  const nodeState = pointer(struct('NodeState', nodeStateFields))
  const paged = (items: Record<string, GoType>) => struct('ListResponse', { NextToken: STRING, ...items })
  const requirement = struct('Requirement', { type: STRING, params: ANY })
  const executions = paged({ Items: slice(pointer(execution)) })
  const history = paged({ Items: slice(pointer(historyItem)) })
  return {
    putJob: struct('PutJobResponse', { JobID: STRING, EvaluationID: STRING, Warnings: slice(STRING) }),
    listJobs: paged({ Items: slice(pointer(job)) }),
    getJob: struct('GetJobResponse', {
      Job: pointer(job),
      History: pointer(history),
      Executions: pointer(executions),
    }),
    stopJob: struct('StopJobResponse', { EvaluationID: STRING }),
    history,
    executions,
    results: paged({ Items: slice(pointer(specConfig)) }),
    listNodes: paged({ Nodes: slice(nodeState) }),
    getNode: struct('GetNodeResponse', { Node: nodeState }),
    putNode: struct('PutNodeResponse', { Success: BOOL, Error: STRING }),
    alive: struct('IsAliveResponse', { Status: STRING }),
    version: buildVersion,
    agentNode: isLate ? struct('NodeInfo', nodeInfoFields) : struct('NodeState', nodeStateFields),
    agentConfig: struct('GetAgentConfigResponse', { config: ANY }),
    debug: mapOf(ANY),
    listAuth: paged({ Methods: mapOf(requirement) }),
    authMethod: requirement,
    authenticate: struct('AuthnResponse', {
      Authentication: struct('Authentication', { success: BOOL, reason: STRING, token: STRING }),
    }),
    logFrame: struct('AsyncResult', {
      error: STRING,
      value: struct('ExecutionLog', { Type: INT, Line: STRING }),
    }),
    apiError: struct('APIError', {
      Status: INT,
      Message: STRING,
      RequestID: STRING,
      Code: STRING,
      Component: STRING,
      Hint: STRING,
      Details: texts,
    }),
    authConfig: struct('GetAgentNodeAuthConfigResponse', {
      Version: STRING,
      Config: struct('Oauth2Config', {
        ProviderID: STRING,
        ProviderName: STRING,
        DeviceAuthorizationEndpoint: STRING,
        TokenEndpoint: STRING,
        Issuer: STRING,
        JWKSUri: STRING,
        DeviceClientID: STRING,
        PollingInterval: INT,
        Audience: STRING,
        Scopes: slice(STRING),
      }),
    }),
    rerun: struct('RerunJobResponse', {
      JobID: STRING,
      JobVersion: UINT,
      EvaluationID: STRING,
      Warnings: slice(STRING),
    }),
    diff: struct('DiffJobResponse', { Diff: STRING, Warnings: slice(STRING) }),
    versions: paged({ Items: slice(pointer(job)) }),
  }
}

/** `MethodData` travels as Go's `[]byte`: base64. */
export const METHOD_DATA: GoType = BYTES
