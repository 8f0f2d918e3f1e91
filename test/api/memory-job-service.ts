import { WeirError } from '../../src/errors.js'
import {
  isTerminalJobState,
  matchConstraints,
  NO_NETWORK_POLICY,
  type AuditRecord,
  type Execution,
  type HistoryEvent,
  type Job,
  type NetworkEgressPolicy,
  type NodeInfo,
  type NodeRecord,
  type ObservedExecution,
} from '../../src/model/index.js'
import { checkEgress, viewNode } from '../../src/orchestrator/index.js'
import type {
  EgressCheck,
  EgressCheckRequest,
  EgressExplanation,
  EgressQuestion,
  HistoryQuery,
  JobQuery,
  JobService,
  LogItem,
  LogQuery,
  SubmitRequest,
} from '../../src/ports/index.js'

const NOW = 1_732_870_000_000

/** Jobs in memory that never run by themselves: a test says what happens to them. */
export class MemoryJobService implements JobService {
  readonly jobsById = new Map<string, Job>()
  readonly executionsByJob = new Map<string, Execution[]>()
  readonly historyByJob = new Map<string, HistoryEvent[]>()
  readonly logsByJob = new Map<string, LogItem[]>()
  readonly egressByJob = new Map<string, AuditRecord[]>()
  readonly nodesById = new Map<string, NodeRecord>()
  readonly submissions: SubmitRequest[] = []
  readonly stopReasons: string[] = []
  /** Which version each rerun asked for. */
  readonly rerunVersions: (number | undefined)[] = []
  /** Log and egress streams that are open now. */
  openStreams = 0
  /** What the next call of anything throws. */
  failNext: unknown
  #count = 0

  async submit(request: SubmitRequest) {
    this.#fail()
    this.submissions.push(request)
    const known = [...this.jobsById.values()].find(
      (job) => job.idempotencyToken !== undefined && job.idempotencyToken === request.idempotencyToken,
    )
    if (known !== undefined) return { jobId: known.id, jobVersion: 1, evaluationId: '', warnings: [] }
    const number = ++this.#count
    const id = `j-${hex(number)}-0000-4000-8000-000000000000`
    this.jobsById.set(id, {
      id,
      spec: { ...request.spec, Meta: { ...request.spec.Meta, ...request.clientMeta } },
      state: 'Pending',
      message: '',
      details: {},
      version: 1,
      revision: 1,
      createTimeMs: NOW + number,
      modifyTimeMs: NOW + number,
      idempotencyToken: request.idempotencyToken,
    })
    this.addEvent(id, 'Submission', 'Job submitted')
    const evaluationId = `${hex(number)}-0000-4000-8000-00000000000e`
    return { jobId: id, jobVersion: 1, evaluationId, warnings: [] }
  }

  async diff() {
    this.#fail()
    return { diff: '', warnings: [] }
  }

  async rerun(idOrPrefix: string, { jobVersion }: { jobVersion?: number } = {}) {
    this.rerunVersions.push(jobVersion)
    const job = await this.job(idOrPrefix)
    this.change(job.id, { state: 'Pending', version: job.version + 1 })
    return { jobId: job.id, jobVersion: job.version + 1, evaluationId: '', warnings: [] }
  }

  async versions(idOrPrefix: string) {
    return [await this.job(idOrPrefix)]
  }

  async stop(idOrPrefix: string, reason: string) {
    const job = await this.job(idOrPrefix)
    this.stopReasons.push(reason)
    if (job.state === 'Stopped') return { evaluationId: '' }
    if (isTerminalJobState(job.state)) {
      throw new WeirError('job.terminal', `cannot stop job in state ${job.state}`)
    }
    this.change(job.id, { state: 'Stopped', message: reason })
    return { evaluationId: '00000000-0000-4000-8000-00000000000f' }
  }

  async job(idOrPrefix: string, { namespace = 'default' }: { namespace?: string } = {}): Promise<Job> {
    this.#fail()
    const found = [...this.jobsById.values()].filter(
      ({ id, spec: { Name, Namespace } }) =>
        id.startsWith(idOrPrefix) || (Name === idOrPrefix && Namespace === namespace),
    )
    if (found.length > 1) throw new WeirError('job.ambiguous', `Several jobs begin with ${idOrPrefix}`)
    const [job] = found
    if (job === undefined) {
      throw new WeirError('job.not_found', `Cannot find job ${JSON.stringify(idOrPrefix)}`, {
        hint: 'Look at the list.',
      })
    }
    return job
  }

  async jobs(query: JobQuery) {
    this.#fail()
    const all = [...this.jobsById.values()].filter(
      (job) =>
        (query.namespace === undefined ||
          query.namespace === '*' ||
          job.spec.Namespace === query.namespace) &&
        matchConstraints(query.labels ?? [], job.spec.Labels).matches &&
        (query.accept?.(job) ?? true),
    )
    if (query.reverse) all.reverse()
    const { after } = query
    if (after !== undefined) all.splice(0, all.findIndex((job) => job.id === after.id) + 1)
    const limit = query.limit === 0 ? 10_000 : query.limit
    const jobs = all.slice(query.offset, query.offset + limit)
    return { jobs, more: query.offset + jobs.length < all.length }
  }

  async executions(idOrPrefix: string): Promise<Execution[]> {
    return this.executionsByJob.get((await this.job(idOrPrefix)).id) ?? []
  }

  async history(idOrPrefix: string, query: HistoryQuery) {
    const job = await this.job(idOrPrefix)
    const all = (this.historyByJob.get(job.id) ?? []).filter(
      (event) =>
        event.sequence > query.afterSequence &&
        (query.level === 'all' || (query.level === 'execution') === (event.executionId !== undefined)) &&
        (query.executionId === undefined || event.executionId?.startsWith(query.executionId) === true) &&
        (query.sinceMs === undefined || event.timeMs >= query.sinceMs),
    )
    const events = all.slice(0, query.limit)
    return { events, finished: isTerminalJobState(job.state) && events.length === all.length }
  }

  async results(idOrPrefix: string) {
    return (await this.executions(idOrPrefix)).flatMap(({ observed }) =>
      observed.publishedResult === undefined || observed.publishedResult.Type === ''
        ? []
        : [observed.publishedResult],
    )
  }

  async *logs(idOrPrefix: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogItem> {
    const job = await this.job(idOrPrefix)
    yield* this.#follow(this.logsByJob.get(job.id) ?? [], job.id, query.follow, signal)
  }

  async *egress(
    idOrPrefix: string,
    query: { executionId?: string; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<AuditRecord> {
    const job = await this.job(idOrPrefix)
    const { executionId } = query
    const all = this.egressByJob.get(job.id) ?? []
    if (executionId === undefined) return yield* this.#follow(all, job.id, query.follow, signal)
    const own = all.filter((record) => record.executionId.startsWith(executionId))
    if (own.length === 0) throw new WeirError('execution.not_found', `Cannot find execution ${executionId}`)
    yield* this.#follow(own, job.id, query.follow, signal)
  }

  async nodes(query: { membership?: string; connection?: string }): Promise<NodeRecord[]> {
    this.#fail()
    return [...this.nodesById.values()].filter(
      (node) =>
        (query.membership === undefined || node.membership === query.membership) &&
        (query.connection === undefined || node.connection === query.connection),
    )
  }

  async node(idOrPrefix: string): Promise<NodeRecord> {
    const found = [...this.nodesById.values()].find((node) => node.info.nodeId.startsWith(idOrPrefix))
    if (found === undefined) throw new WeirError('node.not_found', `Cannot find node ${idOrPrefix}`)
    return found
  }

  async updateNode(id: string, action: 'approve' | 'reject' | 'delete'): Promise<void> {
    const node = await this.node(id)
    const membership = action === 'approve' ? 'APPROVED' : 'REJECTED'
    if (action === 'delete') this.nodesById.delete(node.info.nodeId)
    else if (node.membership === membership) {
      throw new WeirError('node.conflict', `Node ${id} is already ${membership.toLowerCase()}`)
    } else this.nodesById.set(node.info.nodeId, { ...node, membership })
  }

  async checkEgress(request: EgressCheckRequest): Promise<EgressCheck> {
    this.#fail()
    const views = [...this.nodesById.values()].map((record) => viewNode(record))
    return checkEgress(request, views, this.networkEgress().version)
  }

  async explainEgress(
    idOrPrefix: string,
    { services }: EgressQuestion,
  ): Promise<EgressExplanation & { nodeId: string }> {
    const { info } = await this.node(idOrPrefix)
    const refused = { allowed: false, owner: 'node', rule: '', code: 'egress.not_in_node_list' } as const
    const verdicts = services.map((service) => ({ ...service, ...refused, objections: [] }))
    return { nodeId: info.nodeId, policyGeneration: 1, verdicts }
  }

  networkEgress(): NetworkEgressPolicy {
    return NO_NETWORK_POLICY
  }

  /* ---- What a test does to them ---- */

  change(id: string, change: Partial<Job>): void {
    const job = this.jobsById.get(id)
    if (job === undefined) throw new Error(`no job ${id}`)
    this.jobsById.set(id, {
      ...job,
      ...change,
      revision: job.revision + 1,
      modifyTimeMs: job.modifyTimeMs + 1000,
    })
  }

  addEvent(
    jobId: string,
    topic: string,
    message: string,
    executionId?: string,
    details: Record<string, string> = {},
  ): void {
    const events = this.historyByJob.get(jobId) ?? []
    events.push({
      jobId,
      sequence: events.length + 1,
      executionId,
      topic,
      message,
      details,
      timeMs: NOW + events.length * 1000,
      jobVersion: 0,
    })
    this.historyByJob.set(jobId, events)
  }

  addExecution(
    jobId: string,
    observed: Partial<ObservedExecution>,
    extra: Partial<Execution> = {},
  ): Execution {
    const list = this.executionsByJob.get(jobId) ?? []
    const execution: Execution = {
      id: `e-${hex(list.length + 1)}-0000-4000-8000-000000000000`,
      jobId,
      namespace: 'default',
      nodeId: 'n-00000001-0000-4000-8000-000000000000',
      evaluationId: '00000000-0000-4000-8000-00000000000e',
      slot: list.length,
      attempt: 0,
      desired: { state: 'Running', message: '', sinceMs: NOW },
      observed: { state: 'New', sequence: 1, message: '', code: '', hint: '', retryable: false, ...observed },
      resources: { cpu: 0.5, memoryBytes: 1e9, diskBytes: 0, gpu: 0 },
      revision: 1,
      createTimeMs: NOW + list.length,
      modifyTimeMs: NOW + list.length,
      ...extra,
    }
    list.push(execution)
    this.executionsByJob.set(jobId, list)
    return execution
  }

  async *#follow<T>(list: T[], jobId: string, follow: boolean, signal: AbortSignal): AsyncIterable<T> {
    this.openStreams++
    try {
      for (let index = 0; ; index++) {
        while (index >= list.length) {
          const job = this.jobsById.get(jobId)
          if (!follow || signal.aborted || job === undefined || isTerminalJobState(job.state)) return
          await new Promise((resolve) => setImmediate(resolve))
        }
        yield list[index] as T
      }
    } finally {
      this.openStreams--
    }
  }

  #fail(): void {
    const failure = this.failNext
    this.failNext = undefined
    if (failure !== undefined) throw failure
  }
}

export function nodeInfo(nodeId: string, change: Partial<NodeInfo> = {}): NodeInfo {
  const capacity = { cpu: 2, memoryBytes: 4e9, diskBytes: 1e10, gpu: 0 }
  return {
    nodeId,
    roles: ['orchestrator', 'compute'],
    labels: { 'Operating-System': 'linux', Architecture: 'amd64' },
    version: '0.1.0',
    engines: ['docker', 'wasm'],
    sources: ['urlDownload', 'localDirectory', 'inline'],
    publishers: ['local', 'noop'],
    maxCapacity: capacity,
    maxJobRequirements: capacity,
    availableCapacity: capacity,
    queuedCapacity: { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 },
    runningExecutions: 0,
    queuedExecutions: 0,
    egress: {
      acceptsNetworkedJobs: true,
      httpEngines: ['docker'],
      fullEngines: [],
      allow: ['example.org'],
      deny: [],
      problems: [],
    },
    engineProblems: {},
    ...change,
  }
}

export function nodeRecord(nodeId: string, change: Partial<NodeRecord> = {}): NodeRecord {
  return {
    info: nodeInfo(nodeId),
    membership: 'APPROVED',
    connection: 'CONNECTED',
    incarnation: 'a',
    lastSyncMs: NOW,
    connectedSinceMs: NOW,
    revision: 1,
    ...change,
  }
}

export function auditRecord(jobId: string, change: Partial<AuditRecord> = {}): AuditRecord {
  return {
    timeMs: NOW,
    nodeId: 'n-1',
    jobId,
    executionId: 'e-00000001-0000-4000-8000-000000000000',
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
    bytesUp: 10,
    bytesDown: 20,
    msToFirstByte: 3,
    msTotal: 4,
    end: 'client',
    hash: 'f'.repeat(64),
    ...change,
  }
}

function hex(number: number): string {
  return number.toString(16).padStart(8, '0')
}
