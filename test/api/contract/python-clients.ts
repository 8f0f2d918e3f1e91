import { exchange, type RawAnswer } from './go-cli.js'

/** A type as Python's generated client names it: `str`, `int`, `list[T]`, `dict(T)`, `object`, or a model. */
type PythonType = string

/** Attribute types by the exact JSON key that is read; enumerations have no attributes and give the raw value. */
const MODELS: Readonly<Record<string, Readonly<Record<string, PythonType>>>> = {
  PutJobResponse: { JobID: 'str', EvaluationID: 'str', Warnings: 'list[str]' },
  StopJobResponse: { EvaluationID: 'str' },
  GetJobResponse: { Job: 'Job', History: 'ListJobHistoryResponse', Executions: 'ListJobExecutionsResponse' },
  ListJobsResponse: { Items: 'list[Job]', NextToken: 'str' },
  ListJobExecutionsResponse: { Items: 'list[Execution]', NextToken: 'str' },
  ListJobHistoryResponse: { Items: 'list[JobHistory]', NextToken: 'str' },
  ListJobResultsResponse: { Items: 'list[SpecConfig]', NextToken: 'str' },
  ListNodesResponse: { NextToken: 'str', nodes: 'list[NodeState]' },
  GetNodeResponse: { node: 'NodeState' },
  PutNodeResponse: { success: 'bool', error: 'str' },
  IsAliveResponse: { Status: 'str' },
  VersionResponse: { build_version_info: 'BuildVersionInfo' },
  Job: {
    ID: 'str',
    Name: 'str',
    Namespace: 'str',
    Type: 'str',
    Priority: 'int',
    Count: 'int',
    Constraints: 'list[LabelSelectorRequirement]',
    Meta: 'dict(str)',
    Labels: 'dict(str)',
    Tasks: 'list[Task]',
    State: 'State',
    Version: 'int',
    Revision: 'int',
    CreateTime: 'int',
    ModifyTime: 'int',
  },
  LabelSelectorRequirement: { Key: 'str', Operator: 'Enumeration', Values: 'list[str]' },
  Task: {
    Name: 'str',
    Engine: 'SpecConfig',
    Publisher: 'SpecConfig',
    Env: 'dict(str)',
    Meta: 'dict(str)',
    InputSources: 'list[InputSource]',
    ResultPaths: 'list[ResultPath]',
    Resources: 'ResourcesConfig',
    Network: 'NetworkConfig',
    Timeouts: 'TimeoutConfig',
  },
  SpecConfig: { Type: 'str', Params: 'dict(object)' },
  InputSource: { Alias: 'str', Source: 'SpecConfig', Target: 'str' },
  ResultPath: { Name: 'str', Path: 'str' },
  ResourcesConfig: { CPU: 'str', Memory: 'str', Disk: 'str', GPU: 'str' },
  NetworkConfig: { Type: 'Enumeration', Domains: 'list[str]' },
  TimeoutConfig: { ExecutionTimeout: 'int', QueueTimeout: 'int', TotalTimeout: 'int' },
  State: { StateType: 'Enumeration', Message: 'str' },
  Execution: {
    ID: 'str',
    Namespace: 'str',
    EvalID: 'str',
    Name: 'str',
    NodeID: 'str',
    JobID: 'str',
    Job: 'Job',
    AllocatedResources: 'AllocatedResources',
    DesiredState: 'State',
    ComputeState: 'State',
    PublishedResult: 'SpecConfig',
    RunOutput: 'RunCommandResult',
    PreviousExecution: 'str',
    NextExecution: 'str',
    FollowupEvalID: 'str',
    Revision: 'int',
    CreateTime: 'int',
    ModifyTime: 'int',
  },
  AllocatedResources: { Tasks: 'dict(Resources)' },
  Resources: { CPU: 'float', Memory: 'int', Disk: 'int', GPU: 'int', GPUs: 'list[GPU]' },
  GPU: { index: 'int', name: 'str', memory: 'int', vendor: 'Enumeration', pciaddress: 'str' },
  RunCommandResult: {
    Stdout: 'str',
    StdoutTruncated: 'bool',
    stderr: 'str',
    StderrTruncated: 'bool',
    ExitCode: 'int',
    ErrorMsg: 'str',
  },
  JobHistory: {
    Type: 'Enumeration',
    JobID: 'str',
    ExecutionID: 'str',
    NodeID: 'str',
    Event: 'Event',
    Comment: 'str',
    NewRevision: 'int',
    JobState: 'object',
    ExecutionState: 'object',
    Time: 'str',
  },
  Event: { Message: 'str', Topic: 'str', Timestamp: 'str', Details: 'dict(str)' },
  NodeState: { Info: 'NodeInfo', Membership: 'object', Connection: 'object' },
  NodeInfo: {
    NodeID: 'str',
    NodeType: 'Enumeration',
    Labels: 'dict(str)',
    ComputeNodeInfo: 'ComputeNodeInfo',
    BacalhauVersion: 'BuildVersionInfo',
  },
  ComputeNodeInfo: {
    ExecutionEngines: 'list[str]',
    Publishers: 'list[str]',
    StorageSources: 'list[str]',
    MaxCapacity: 'Resources',
    QueueCapacity: 'Resources',
    AvailableCapacity: 'Resources',
    MaxJobRequirements: 'Resources',
    RunningExecutions: 'int',
    EnqueuedExecutions: 'int',
  },
  BuildVersionInfo: {
    Major: 'str',
    Minor: 'str',
    GitVersion: 'str',
    GitCommit: 'str',
    BuildDate: 'str',
    GOOS: 'str',
    GOARCH: 'str',
  },
}

/** What Python raises while it decodes an answer. */
export class PythonError extends Error {}

/** Raised for every status outside 200 to 299. */
export class ApiException extends Error {
  readonly status: number
  constructor(answer: RawAnswer) {
    super(answer.text)
    this.status = answer.status
  }
}

/**
 * Decodes as the generated client does: keys in their exact case, nothing required, unknown keys skipped, null is None.
 * Lists are iterated, maps asked for their items, and scalars coerced; a value that is no number makes `int()` raise.
 */
export function pythonDecode(value: unknown, type: PythonType): unknown {
  if (value === null || value === undefined) return null
  const list = /^list\[(.+)\]$/.exec(type)?.[1]
  if (list !== undefined) {
    if (!Array.isArray(value)) throw new PythonError(`${typeof value} is no list of ${list}`)
    return value.map((item) => pythonDecode(item, list))
  }
  const map = /^dict\((.+)\)$/.exec(type)?.[1]
  if (map !== undefined) {
    if (typeof value !== 'object' || Array.isArray(value)) throw new PythonError('no attribute items')
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, pythonDecode(item, map)]))
  }
  switch (type) {
    case 'object':
    case 'Enumeration':
      return value
    case 'str':
      return typeof value === 'string' ? value : JSON.stringify(value)
    case 'bool':
      return Boolean(value)
    case 'int':
    case 'float': {
      const number = typeof value === 'object' ? Number.NaN : Number(value)
      if (Number.isNaN(number))
        throw new PythonError(`invalid literal for ${type}(): ${JSON.stringify(value)}`)
      return type === 'int' ? Math.trunc(number) : number
    }
    default:
      return decodeModel(value, type)
  }
}

function decodeModel(value: unknown, name: string): unknown {
  const model = MODELS[name]
  if (model === undefined) throw new TypeError(`no model ${name}`)
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return Object.fromEntries(
    Object.entries(model).map(([key, type]) => [
      key,
      isObject ? pythonDecode((value as Record<string, unknown>)[key], type) : null,
    ]),
  )
}

type Query = Record<string, string | number | boolean | undefined>
type Model = Record<string, any> // eslint-disable-line typescript/no-explicit-any

/** Every method of `bacalhau_apiclient` that reaches the network, sending exactly what it sends. */
export class PythonApiClient {
  readonly requests: string[] = []
  readonly #url: URL

  constructor(url: string) {
    this.#url = new URL(url)
  }

  orchestratorput_job(job: object): Promise<Model> {
    return this.#call('PUT', '/api/v1/orchestrator/jobs', 'PutJobResponse', {}, { Job: job })
  }

  orchestratorget_job(id: string, query: { include?: string; limit?: number } = {}): Promise<Model> {
    return this.#call('GET', `/api/v1/orchestrator/jobs/${id}`, 'GetJobResponse', query)
  }

  orchestratorlist_jobs(query: Query = {}): Promise<Model> {
    return this.#call('GET', '/api/v1/orchestrator/jobs', 'ListJobsResponse', query)
  }

  orchestratorstop_job(id: string, reason?: string): Promise<Model> {
    return this.#call('DELETE', `/api/v1/orchestrator/jobs/${id}`, 'StopJobResponse', { reason }, {})
  }

  orchestratorjob_history(id: string, query: Query = {}): Promise<Model> {
    return this.#call('GET', `/api/v1/orchestrator/jobs/${id}/history`, 'ListJobHistoryResponse', query)
  }

  orchestratorjob_executions(id: string, orderBy: string, query: Query = {}): Promise<Model> {
    const all = { ...query, order_by: orderBy }
    return this.#call('GET', `/api/v1/orchestrator/jobs/${id}/executions`, 'ListJobExecutionsResponse', all)
  }

  orchestratorjob_results(id: string): Promise<Model> {
    return this.#call('GET', `/api/v1/orchestrator/jobs/${id}/results`, 'ListJobResultsResponse')
  }

  orchestratorlogs(id: string, query: Query = {}): Promise<Model> {
    return this.#call('GET', `/api/v1/orchestrator/jobs/${id}/logs`, 'object', query)
  }

  orchestratorlist_nodes(query: Query = {}): Promise<Model> {
    return this.#call('GET', '/api/v1/orchestrator/nodes', 'ListNodesResponse', query)
  }

  orchestratorget_node(id: string): Promise<Model> {
    return this.#call('GET', `/api/v1/orchestrator/nodes/${id}`, 'GetNodeResponse')
  }

  /** The id is asked for but has no place in the path. */
  orchestratorupdate_node(body: object, _id: string): Promise<Model> {
    return this.#call('POST', '/api/v1/orchestrator/nodes', 'PutNodeResponse', {}, body)
  }

  agentalive(): Promise<Model> {
    return this.#call('GET', '/api/v1/agent/alive', 'IsAliveResponse')
  }

  agentdebug(): Promise<Model> {
    return this.#call('GET', '/api/v1/agent/debug', 'object')
  }

  agentnode(): Promise<Model> {
    return this.#call('GET', '/api/v1/agent/node', 'NodeInfo')
  }

  agentversion(): Promise<Model> {
    return this.#call('GET', '/api/v1/agent/version', 'BuildVersionInfo')
  }

  text(path: '/api/v1/healthz' | '/' | '/api/v1/id' | '/api/v1/livez'): Promise<string> {
    return this.#call('GET', path, 'str') as unknown as Promise<string>
  }

  node_info(): Promise<Model> {
    return this.#call('GET', '/api/v1/node_info', 'NodeInfo')
  }

  api_serverversion(body: object): Promise<Model> {
    return this.#call('POST', '/api/v1/version', 'VersionResponse', {}, body)
  }

  api_serverapprover(): Promise<Model> {
    return this.#call('GET', '/api/v1/compute/approve', 'str')
  }

  api_serverdebug(): Promise<Model> {
    return this.#call('GET', '/api/v1/compute/debug', 'str')
  }

  async #call(
    method: string,
    path: string,
    type: PythonType,
    query: Query = {},
    body?: object,
  ): Promise<Model> {
    const pairs = Object.entries(query)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}=${encodeURIComponent(pythonText(value))}`)
    const target = pairs.length === 0 ? path : `${path}?${pairs.join('&')}`
    this.requests.push(`${method} ${target}`)
    const payload = body === undefined ? undefined : JSON.stringify(body)
    const headers: Record<string, string> = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'content-type': 'application/json',
      'user-agent': 'Swagger-Codegen/1.2.1/python',
      ...(payload !== undefined && { 'content-length': String(Buffer.byteLength(payload)) }),
    }
    const answer = await exchange(this.#url, method, target, headers, payload)
    if (answer.status < 200 || answer.status > 299) throw new ApiException(answer)
    return pythonDecode(asJsonOrText(answer.text), type) as Model
  }
}

/** `str()` of Python. */
function pythonText(value: string | number | boolean | undefined): string {
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  return String(value)
}

function asJsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text // As the client does with answers that are not JSON.
  }
}

/** `Jobs()` of `bacalhau_sdk`: its defaults, over the generated client. */
export class PythonSdkJobs {
  readonly client: PythonApiClient

  constructor(url: string) {
    this.client = new PythonApiClient(url)
  }

  put(job: object): Promise<Model> {
    return this.client.orchestratorput_job(job)
  }

  stop(id: string, reason?: string): Promise<Model> {
    return this.client.orchestratorstop_job(id, reason)
  }

  executions(id: string): Promise<Model> {
    const query = { namespace: '', limit: 5, next_token: '', reverse: false }
    return this.client.orchestratorjob_executions(id, '', query)
  }

  results(id: string): Promise<Model> {
    return this.client.orchestratorjob_results(id)
  }

  get(id: string, include = ''): Promise<Model> {
    return this.client.orchestratorget_job(id, { include, limit: 10 })
  }

  history(id: string): Promise<Model> {
    const query = { namespace: '', event_type: 'execution', node_id: '', execution_id: '' }
    return this.client.orchestratorjob_history(id, query)
  }

  list(): Promise<Model> {
    return this.client.orchestratorlist_jobs({
      limit: 5,
      order_by: 'created_at',
      reverse: false,
      next_token: '',
    })
  }
}

/** The SDK's example: a publisher without type, no resources, network or timeouts. */
export function pythonJob(script: string, change: object = {}): object {
  return {
    Name: 'A Simple Docker Job',
    Type: 'batch',
    Count: 1,
    Tasks: [
      {
        Name: 'My Main task',
        Engine: {
          Type: 'docker',
          Params: { Image: 'busybox', Entrypoint: ['/bin/sh'], Parameters: ['-c', script] },
        },
        Publisher: {},
      },
    ],
    ...change,
  }
}
