import { randomUUID } from 'node:crypto'
import {
  type EgressLists,
  type NetworkEgressPolicy,
  unpackEgressLists,
} from '../../src/model/egress-lists.js'
import type { JobSpec } from '../../src/model/job-spec.js'
import { isTerminalObservedState, type NodeInfo, type ObservedExecution } from '../../src/model/state.js'
import type { DesiredExecution, ExecutionEvent, SyncRequest, SyncResponse } from '../../src/model/sync.js'
import { nudgeSubject, SYNC_SUBJECT, type Transport } from '../../src/ports/index.js'

/** The orchestrator's half of the sync conversation, in memory: says what is desired, remembers what is observed. */
export class TestOrchestrator {
  readonly observed = new Map<string, ObservedExecution>()
  readonly events = new Map<string, Map<number, ExecutionEvent>>()
  readonly requests: SyncRequest[] = []
  /** Every state that was reported, in order. */
  readonly states = new Map<string, string[]>()
  /** False: answers are thrown away. */
  answers = true
  info: NodeInfo | undefined
  /** What the node sent when it was asked for its long lists. */
  lists: EgressLists | undefined
  /** Told with every answer. */
  networkEgress: NetworkEgressPolicy | undefined
  revision = 0
  readonly #desired = new Map<string, { desired: DesiredExecution; revision: number }>()
  readonly #transport: Transport
  readonly #nodeId: string
  #waiters = new Set<() => void>()

  constructor(transport: Transport, nodeId: string) {
    this.#transport = transport
    this.#nodeId = nodeId
  }

  async listen(): Promise<{ close(): Promise<void> }> {
    return this.#transport.serve(SYNC_SUBJECT, async (body) => this.#answer(body as SyncRequest))
  }

  /** Wants a job to run on the node and says so. */
  async run(jobSpec: JobSpec, change: Partial<DesiredExecution> = {}): Promise<string> {
    const executionId = change.executionId ?? `e-${randomUUID()}`
    const nowMs = Date.now()
    this.#want({
      executionId,
      jobId: `j-${randomUUID()}`,
      jobSpec,
      slot: 0,
      attempt: 0,
      state: 'Running',
      message: '',
      createTimeMs: nowMs,
      jobCreateTimeMs: nowMs,
      ...change,
    })
    await this.nudge()
    return executionId
  }

  async stop(executionId: string, message = 'enough'): Promise<void> {
    const known = this.#desired.get(executionId)
    if (known === undefined) throw new Error(`never wanted ${executionId}`)
    this.#want({ ...known.desired, state: 'Stopped', message })
    await this.nudge()
  }

  /** Forgets an execution, as an orchestrator that lost its store does. */
  forget(executionId: string): void {
    this.#desired.delete(executionId)
    this.observed.delete(executionId)
  }

  async nudge(): Promise<void> {
    await this.#transport.request(nudgeSubject(this.#nodeId), {}, 1_000).catch(() => undefined)
  }

  state(id: string): string | undefined {
    return this.observed.get(id)?.state
  }

  /** Resolves with the observation when it satisfies `accept`, checked at each report. */
  async until(
    id: string,
    accept: (observed: ObservedExecution) => boolean,
    timeoutMs = 30_000,
  ): Promise<ObservedExecution> {
    const deadline = Date.now() + timeoutMs
    for (;;) {
      const observed = this.observed.get(id)
      if (observed !== undefined && accept(observed)) return observed
      const leftMs = deadline - Date.now()
      if (leftMs <= 0) throw new Error(`${id} is still ${JSON.stringify(observed)} after ${timeoutMs} ms`)
      await this.#changed(leftMs)
    }
  }

  ended(id: string, timeoutMs?: number): Promise<ObservedExecution> {
    return this.until(id, ({ state }) => isTerminalObservedState(state), timeoutMs)
  }

  in(id: string, state: string, timeoutMs?: number): Promise<ObservedExecution> {
    return this.until(id, (observed) => observed.state === state, timeoutMs)
  }

  messages(id: string): string[] {
    return [...(this.events.get(id)?.values() ?? [])].map(({ topic, message }) => `${topic}: ${message}`)
  }

  #want(desired: DesiredExecution): void {
    this.revision += 1
    this.#desired.set(desired.executionId, { desired, revision: this.revision })
  }

  async #changed(timeoutMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, timeoutMs)
      const waiters = this.#waiters
      function done() {
        clearTimeout(timer)
        waiters.delete(done)
        resolve()
      }
      waiters.add(done)
    })
  }

  #answer(request: SyncRequest): SyncResponse {
    this.requests.push(request)
    this.info = request.info
    const acknowledged: Record<string, number> = {}
    for (const { executionId, observed, events } of request.observed) {
      acknowledged[executionId] = observed.sequence
      const known = this.observed.get(executionId)
      if (known === undefined || observed.sequence > known.sequence) {
        this.observed.set(executionId, observed)
        const states = this.states.get(executionId) ?? []
        if (states.at(-1) !== observed.state) this.states.set(executionId, [...states, observed.state])
      }
      const numbered = this.events.get(executionId) ?? new Map<number, ExecutionEvent>()
      for (const event of events) numbered.set(event.index, event)
      this.events.set(executionId, numbered)
    }
    for (const waiter of this.#waiters) waiter()
    if (!this.answers) throw new Error('the answer is lost')
    const complete = request.knownRevision === 0 || request.knownRevision > this.revision
    const desired = [...this.#desired.values()]
      .filter(({ desired: { executionId }, revision }) => {
        const observed = this.observed.get(executionId)
        const over = observed !== undefined && isTerminalObservedState(observed.state)
        return complete ? !over : revision > request.knownRevision
      })
      .map(({ desired }) => ({
        ...desired,
        observedSequence: this.observed.get(desired.executionId)?.sequence ?? 0,
      }))
    if (request.egressLists !== undefined) this.lists = unpackEgressLists(request.egressLists)
    const wantsEgressLists =
      request.info.egress.listsDigest !== undefined && this.requests.every((one) => !('egressLists' in one))
    return {
      membership: 'APPROVED',
      acknowledged,
      desired,
      revision: this.revision,
      complete,
      ...(this.networkEgress !== undefined && { networkEgress: this.networkEgress }),
      ...(wantsEgressLists && { wantsEgressLists }),
    }
  }
}
