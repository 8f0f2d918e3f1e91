import type {
  DesiredExecution,
  ExecutionEvent,
  ExecutionId,
  NodeInfo,
  ObservedExecution,
  ObservedReport,
  ObservedState,
  SyncRequest,
  SyncResponse,
} from '../../src/model/index.js'
import { executionTimeoutMs, isTerminalObservedState } from '../../src/model/index.js'
import {
  SYNC_SUBJECT,
  nudgeSubject,
  outputSubject,
  type Clock,
  type Closable,
  type Transport,
} from '../../src/ports/index.js'
import { sampleInfo } from './samples.js'

/** What a simulated node does with an execution. */
export interface Behaviour {
  /** Refuse it, with this reason. */
  reject?: string
  /** Fail it, with this reason. */
  fail?: string
  retryable?: boolean
  /** How long it runs; Infinity = until it is stopped. */
  runMs: number
  exitCode?: number
  stdout?: string
}

export interface SimulatedNodeOptions {
  nodeId: string
  transport: Transport
  clock: Clock
  behave?: (execution: DesiredExecution) => Behaviour
  info?: Partial<NodeInfo> | (() => Partial<NodeInfo>)
  syncIntervalMs?: number
  /** Ends what runs longer than its limit, as a node should. Default false: the orchestrator has to. */
  keepsLimits?: boolean
  /** Told when a program begins and when it is over; `byItself`: it ran to its end. */
  onBegin?: (execution: DesiredExecution) => void
  onEnd?: (execution: DesiredExecution, byItself: boolean) => void
}

interface Held {
  desired: DesiredExecution
  observed: ObservedExecution
  events: ExecutionEvent[]
  eventIndex: number
  acknowledged: number
  timer: AbortController
  hasBegun: boolean
}

/**
 * The node's half of the conversation, without anything that runs. Keeps what it holds over `kill` and `revive`, as a
 * real node keeps it on disk.
 */
export class SimulatedNode {
  readonly nodeId: string
  /** How often each execution was started: never more than once. */
  readonly starts = new Map<ExecutionId, number>()
  readonly #options: SimulatedNodeOptions
  readonly #held = new Map<ExecutionId, Held>()
  #known = 0
  #life = new AbortController()
  #incarnation = 0
  #serving: Closable[] = []
  #wake: (() => void) | undefined
  #isNudged = false

  constructor(options: SimulatedNodeOptions) {
    this.#options = options
    this.nodeId = options.nodeId
  }

  /** Executions that run now. */
  get running(): ExecutionId[] {
    return [...this.#held.values()]
      .filter((held) => held.observed.state === 'Running' && !held.timer.signal.aborted)
      .map((held) => held.desired.executionId)
  }

  get isAlive(): boolean {
    return !this.#life.signal.aborted && this.#incarnation > 0
  }

  async start(): Promise<void> {
    const { transport } = this.#options
    this.#life = new AbortController()
    this.#incarnation += 1
    this.#known = 0
    this.#serving = [
      await transport.serve(nudgeSubject(this.nodeId), async () => {
        this.#nudge()
        return {}
      }),
      await transport.serve(outputSubject(this.nodeId), async (body) =>
        this.#output(body as { executionId: string }),
      ),
    ]
    for (const held of this.#held.values()) {
      if (isTerminalObservedState(held.observed.state) || !held.timer.signal.aborted) continue
      // After a crash of the node nothing runs any more.
      this.#end(held, 'Failed', {
        code: 'execution.lost',
        message: 'the node was restarted',
        retryable: true,
      })
    }
    void this.#run(this.#life.signal)
  }

  /** From now on it holds an execution that runs until it is stopped, and has nothing more to say about it. */
  adopt(desired: DesiredExecution): void {
    this.#held.set(desired.executionId, {
      desired,
      observed: {
        state: 'Running',
        sequence: 1,
        message: '',
        code: '',
        hint: '',
        retryable: false,
      },
      events: [],
      eventIndex: 0,
      acknowledged: 1,
      timer: new AbortController(),
      hasBegun: true,
    })
    this.#options.onBegin?.(desired)
  }

  /** What it holds, whatever its state. */
  get held(): ExecutionId[] {
    return [...this.#held.keys()]
  }

  /**
   * With `programs: 'go on'` what runs is taken up at the next start, whatever became of it meanwhile. With `disk: 'wiped'`
   * nothing is left.
   */
  async kill(how: { programs?: 'go on' | 'end'; disk?: 'kept' | 'wiped' } = {}): Promise<void> {
    this.#life.abort()
    if (how.programs !== 'go on') for (const held of this.#held.values()) this.#halt(held)
    if (how.disk === 'wiped') this.#held.clear()
    for (const one of this.#serving.splice(0)) await one.close()
  }

  /** The program is gone, whatever the node knows. */
  #halt(held: Held): void {
    held.timer.abort()
    if (held.hasBegun) this.#options.onEnd?.(held.desired, false)
    held.hasBegun = false
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#isNudged = false
      await this.#sync(signal).catch(() => undefined)
      if (this.#isNudged || signal.aborted) continue
      await this.#pause(this.#options.syncIntervalMs ?? 5_000, signal)
    }
  }

  async #sync(signal: AbortSignal): Promise<void> {
    const request: SyncRequest = {
      nodeId: this.nodeId,
      incarnation: `i-${this.#incarnation}`,
      info: sampleInfo(this.nodeId, this.#info()),
      knownRevision: this.#known,
      observed: this.#reports(),
      leaving: false,
    }
    const response = (await this.#options.transport.request(SYNC_SUBJECT, request, 2_000)) as SyncResponse
    if (signal.aborted) return
    for (const [id, sequence] of Object.entries(response.acknowledged)) this.#acknowledge(id, sequence)
    if (response.revision < this.#known && !response.complete) {
      // The orchestrator begins from the start: so does the node.
      this.#known = 0
      return this.#nudge()
    }
    for (const desired of response.desired) this.#take(desired)
    this.#known = response.revision
    if (response.complete) this.#dropOthers(new Set(response.desired.map((one) => one.executionId)))
  }

  #info(): Partial<NodeInfo> | undefined {
    const { info } = this.#options
    return typeof info === 'function' ? info() : info
  }

  #reports(): ObservedReport[] {
    return [...this.#held.values()]
      .filter((held) => held.observed.sequence > held.acknowledged)
      .map(({ desired, observed, events }) => ({
        executionId: desired.executionId,
        jobId: desired.jobId,
        observed,
        events,
      }))
  }

  #acknowledge(id: ExecutionId, sequence: number): void {
    const held = this.#held.get(id)
    if (held === undefined) return
    held.acknowledged = Math.max(held.acknowledged, sequence)
    if (held.acknowledged >= held.observed.sequence) held.events = []
  }

  #take(desired: DesiredExecution): void {
    const held = this.#held.get(desired.executionId)
    if (held !== undefined) {
      if (desired.state === 'Stopped' && !isTerminalObservedState(held.observed.state)) {
        this.#halt(held)
        this.#end(held, 'Cancelled', { message: desired.message })
      }
      return
    }
    const fresh: Held = {
      desired,
      observed: {
        state: 'New',
        sequence: desired.observedSequence ?? 0,
        message: '',
        code: '',
        hint: '',
        retryable: false,
      },
      events: [],
      eventIndex: 0,
      acknowledged: desired.observedSequence ?? 0,
      timer: new AbortController(),
      hasBegun: false,
    }
    this.#held.set(desired.executionId, fresh)
    if (desired.state === 'Stopped') return this.#end(fresh, 'Cancelled', {})
    if ((desired.observedSequence ?? 0) > 0) {
      // It ran here, and nobody knows how far it came: running it again is not for this node to decide.
      return this.#end(fresh, 'Failed', { code: 'execution.lost', message: 'forgotten', retryable: true })
    }
    void this.#execute(fresh)
  }

  async #execute(held: Held): Promise<void> {
    const { clock, behave } = this.#options
    const { executionId } = held.desired
    const behaviour = behave?.(held.desired) ?? { runMs: 1_000 }
    if (behaviour.reject !== undefined) {
      const { retryable = false } = behaviour
      return this.#end(held, 'Rejected', { message: behaviour.reject, code: 'compute.policy', retryable })
    }
    this.starts.set(executionId, (this.starts.get(executionId) ?? 0) + 1)
    held.hasBegun = true
    this.#options.onBegin?.(held.desired)
    this.#report(held, 'Running', { startTimeMs: clock.now() }, 'Running Execution')
    const limitMs = this.#options.keepsLimits === true ? executionTimeoutMs(held.desired.jobSpec) : undefined
    const lastsMs = Math.min(behaviour.runMs, limitMs ?? Infinity)
    if (lastsMs === Infinity) return
    try {
      await clock.sleep(lastsMs, held.timer.signal)
    } catch {
      return // Stopped, or the node was killed.
    }
    if (isTerminalObservedState(held.observed.state)) return
    held.hasBegun = false
    const byItself = lastsMs === behaviour.runMs && behaviour.fail === undefined
    this.#options.onEnd?.(held.desired, byItself)
    if (lastsMs < behaviour.runMs) {
      return this.#end(held, 'Failed', { message: 'timed out', code: 'execution.timeout', retryable: true })
    }
    if (behaviour.fail !== undefined) {
      const { retryable = true } = behaviour
      return this.#end(held, 'Failed', { message: behaviour.fail, code: 'engine.failed', retryable })
    }
    const { exitCode = 0, stdout = '' } = behaviour
    this.#end(held, 'Completed', {
      runOutput: {
        stdout,
        stdoutTruncated: false,
        stderr: '',
        stderrTruncated: false,
        exitCode,
        errorMessage: '',
      },
      publishedResult: { Type: 'urlDownload', Params: { URL: `http://results.test/${executionId}.tar.gz` } },
    })
  }

  #end(held: Held, state: ObservedState, more: Partial<ObservedExecution>): void {
    this.#report(held, state, { ...more, endTimeMs: this.#options.clock.now() })
  }

  #report(held: Held, state: ObservedState, more: Partial<ObservedExecution>, topic?: string): void {
    held.observed = { ...held.observed, ...more, state, sequence: held.observed.sequence + 1 }
    if (topic !== undefined) {
      const event = {
        index: ++held.eventIndex,
        topic,
        message: topic,
        details: {},
        timeMs: this.#options.clock.now(),
      }
      held.events = [...held.events, event]
    }
    this.#nudge()
  }

  #dropOthers(wanted: ReadonlySet<ExecutionId>): void {
    for (const [id, held] of this.#held) {
      if (wanted.has(id) || held.observed.sequence > held.acknowledged) continue
      this.#halt(held)
      this.#held.delete(id)
    }
  }

  #output({ executionId }: { executionId: string }): object {
    const held = this.#held.get(executionId)
    const isOver = held !== undefined && isTerminalObservedState(held.observed.state)
    const text = isOver ? (held.observed.runOutput?.stdout ?? '') : ''
    const chunks =
      text === '' ? [] : [{ stream: 'stdout', data: Buffer.from(text).toString('base64'), timeMs: 1 }]
    return { chunks, cursor: text.length, done: isOver, truncated: false }
  }

  #nudge(): void {
    this.#isNudged = true
    this.#wake?.()
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const early = new AbortController()
    this.#wake = () => early.abort()
    const onAbort = (): void => early.abort()
    signal.addEventListener('abort', onAbort, { once: true })
    await this.#options.clock.sleep(ms, early.signal).catch(() => undefined)
    signal.removeEventListener('abort', onAbort)
    this.#wake = undefined
  }
}
