import { setMaxListeners } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { toWeirError, WeirError } from '../errors.js'
import { packEgressLists } from '../model/egress-lists.js'
import { checkNodeId } from '../model/ids.js'
import type { Resources } from '../model/resources.js'
import type { ExecutionId, GatewayStanding, NodeInfo } from '../model/state.js'
import type { DesiredExecution, SyncResponse } from '../model/sync.js'
import {
  egressSubject,
  explainSubject,
  nudgeSubject,
  outputSubject,
  type EgressReadRequest,
  type Handler,
  type OutputReadRequest,
} from '../ports/index.js'
import type { AdmissionView } from './admission.js'
import { bounded, sleepFor } from './bounded-work.js'
import { clearUp, type Survivor } from './clear-up.js'
import { CapacityGate } from './capacity-gate.js'
import { ClosingStack } from './closing-stack.js'
import { conductExecution, rejected, type Brought, type ConductParts } from './conduct-execution.js'
import { detectMachine } from './detect-machine.js'
import { EngineHealthBoard } from './engine-health.js'
import { ExecutionBook, hasEnded, type ExecutionRecord } from './execution-book.js'
import { executionsDir, isSafeId } from './execution-dirs.js'
import { explainEgress } from './explain-egress.js'
import { keptEnd, shutdownEnd, stoppedEnd } from './execution-end.js'
import { FullAccess } from './full-access.js'
import { networkRules, type NetworkRules } from './network-admission.js'
import { describeNode } from './node-description.js'
import { offeredCapacity } from './offered-capacity.js'
import {
  DEFAULT_LIMITS,
  SILENT_LOGGER,
  type ComputeLimits,
  type ComputeLogger,
  type ComputeNodeOptions,
  type ComputePolicy,
} from './options.js'
import { OutputIndex } from './output-index.js'
import { OutputLog } from './output-log.js'
import { sweepFinished } from './retention.js'
import { cancelled, failed, type Outcome } from './run-execution.js'
import { readBootId } from './run-memory.js'
import { readExecutionEgress, readExecutionOutput } from './serve-reads.js'
import { SyncAgent } from './sync-agent.js'
import { TakeTurns } from './take-turns.js'

/** The hands: runs what the orchestrator desires of this node, and reports what it sees. */
export interface ComputeNode {
  /**
   * Looks at the machine, clears up after an earlier process, and begins to talk with the orchestrator, which need not
   * be there yet. Rejects with `config.invalid` when capacity cannot be read, or when the data directory cannot be
   * used. Call once.
   */
  start(): Promise<void>
  /**
   * Stops taking executions, says goodbye to the orchestrator and closes all that this node opened. What could not be
   * reported is reported at the next start. Those that are active are ended; with `drain` it waits for them before, at most
   * `drainTimeoutMs` (1 h by default); with `keep` it leaves them as they are, to be taken up by the next process of this
   * node, and ends only programs that cannot outlive this one. `farewell: false` is for a node whose orchestrator goes down
   * with it: what this call ends is reported at the next start, when there is a node again that could try it anew.
   * Idempotent.
   */
  close(options?: {
    drain?: boolean
    drainTimeoutMs?: number
    keep?: boolean
    farewell?: boolean
  }): Promise<void>
  /**
   * Replaces the rules of admission as a whole; they count for everything that has not begun to run. Running http
   * jobs are the gateway's matter; those with full network access end when there is no such access any more. Throws
   * `pattern.invalid` and keeps the old rules when a list cannot be read.
   */
  setPolicy(policy: ComputePolicy): void
  /** What the node says about itself now. Capacity and engines are empty before `start`. */
  info(): NodeInfo
}

/** Makes a node; nothing happens before `start`. Throws `config.invalid` or `pattern.invalid`. */
export function createComputeNode(options: ComputeNodeOptions): ComputeNode {
  checkNodeId(options.nodeId)
  return new Node(options)
}

interface Shutdown {
  /** 0 = at once. */
  drainMs: number
  keep: boolean
  farewell: boolean
}

/** One execution that has not ended. */
interface Live {
  controller: AbortController
  log: OutputLog
  done: Promise<void>
}

class Node implements ComputeNode {
  readonly #options: ComputeNodeOptions
  readonly #limits: ComputeLimits
  readonly #logger: ComputeLogger
  readonly #book: ExecutionBook
  readonly #health: EngineHealthBoard
  readonly #sync: SyncAgent
  readonly #executors
  readonly #sources
  readonly #publishers
  readonly #live = new Map<ExecutionId, Live>()
  readonly #closing = new AbortController()
  readonly #opened: ClosingStack
  #policy: ComputePolicy
  #rules: NetworkRules
  #generation = 1
  readonly #fullAccess: FullAccess
  #gate: CapacityGate
  #conduct: ConductParts | undefined
  #maxJobRequirements: Resources = NOTHING
  #labels: Readonly<Record<string, string>>
  #gateway: GatewayStanding = NO_GATEWAY
  #draining = false
  #closed: Promise<void> | undefined

  constructor(options: ComputeNodeOptions) {
    const { clock, transport, chance, nodeId, policy = {} } = options
    this.#options = options
    this.#limits = Object.freeze({ ...DEFAULT_LIMITS, ...options.limits })
    this.#logger = options.logger ?? SILENT_LOGGER
    this.#opened = new ClosingStack(this.#logger, clock)
    // Every long poll listens, however many there are.
    setMaxListeners(0, this.#closing.signal)
    this.#policy = policy
    this.#rules = networkRules(policy)
    this.#fullAccess = new FullAccess(this.#rules)
    this.#labels = { ...options.labels }
    this.#gate = new CapacityGate(NOTHING, this.#limits)
    this.#executors = new Map(options.executors.map((executor) => [executor.engine, executor]))
    this.#sources = new Map(options.sources.map((source) => [source.type.toLowerCase(), source]))
    this.#publishers = new Map(
      options.publishers.map((publisher) => [publisher.type.toLowerCase(), publisher]),
    )
    this.#health = new EngineHealthBoard(this.#executors, clock, this.#limits.checkTimeoutMs)
    this.#book = new ExecutionBook({
      dataDir: options.dataDir,
      clock,
      logger: this.#logger,
      onChange: (urgency) => this.#sync.trigger(urgency),
    })
    this.#sync = new SyncAgent({
      nodeId,
      incarnation: options.incarnation ?? chance.uuid(),
      transport,
      clock,
      chance,
      book: this.#book,
      info: () => this.info(),
      egressLists: () => packEgressLists(this.#rules.told),
      networkEgress: () => options.networkEgress?.known(),
      apply: (response) => this.#apply(response),
      limits: this.#limits,
      logger: this.#logger,
    })
  }

  async start(): Promise<void> {
    try {
      await this.#prepare()
      await this.#serve()
    } catch (error) {
      await this.#opened.close()
      throw error
    }
    this.#sync.start()
    this.#opened.add('conversation with the orchestrator', () => this.#sync.close())
    this.#repeat('engines', this.#limits.healthIntervalMs, async (signal) => {
      if (await this.#refresh(signal)) this.#sync.trigger('now')
    })
    this.#repeat('retention', SWEEP_MS, async () => {
      await this.#sweep()
    })
  }

  close({ drain = false, drainTimeoutMs = DRAIN_MS, keep = false, farewell = true } = {}): Promise<void> {
    return (this.#closed ??= this.#shutDown({ drainMs: drain ? drainTimeoutMs : 0, keep, farewell }))
  }

  setPolicy(policy: ComputePolicy): void {
    this.#rules = networkRules(policy)
    this.#policy = policy
    this.#generation += 1
    this.#fullAccess.replace(this.#rules)
    this.#sync.trigger('now')
  }

  info(): NodeInfo {
    const { nodeId, roles = ['compute'], version, addresses } = this.#options
    const known = addresses === undefined ? {} : { addresses: addresses() }
    const { gateway, signer } = this.#options
    const { egress, ...info } = describeNode({ nodeId, roles, version }, this.#view(), this.#gate)
    return {
      ...info,
      egress: { ...egress, ...(gateway !== undefined && { gateway: { ...this.#gateway } }) },
      ...known,
      ...(signer !== undefined && { publicKey: signer.publicKey }),
    }
  }

  async #prepare(): Promise<void> {
    const { dataDir, capacity, clock, gateway, nodeId } = this.#options
    await mkdir(executionsDir(dataDir), { recursive: true, mode: 0o700 })
    const machine = this.#options.machine ?? (await detectMachine(dataDir))
    for (const problem of machine.problems) this.#logger.warn({ problem }, 'a graphics card cannot be asked')
    const allotsGpus = [...this.#executors.values()].some((executor) => executor.allotsGpus === true)
    if (!allotsGpus && machine.resources.gpu > 0)
      this.#logger.warn({ gpus: machine.resources.gpu }, 'no engine can give GPUs to jobs; none are offered')
    const { maxCapacity, maxJobRequirements } = offeredCapacity(
      machine.resources,
      // What nobody can be given must not draw jobs here.
      allotsGpus ? capacity : { ...capacity, gpu: '0' },
    )
    this.#maxJobRequirements = maxJobRequirements
    this.#labels = { ...machine.labels, ...this.#options.labels }
    this.#gate = new CapacityGate(maxCapacity, this.#limits)
    const bootId = readBootId()
    this.#conduct = {
      nodeId,
      executors: this.#executors,
      sources: this.#sources,
      publishers: this.#publishers,
      ...(gateway !== undefined && { gateway }),
      fullAccess: () => this.#fullAccess.signal,
      ...(this.#options.signer !== undefined && { signer: this.#options.signer }),
      clock,
      limits: this.#limits,
      logger: this.#logger,
      book: this.#book,
      gate: this.#gate,
      bootId,
      admissions: new TakeTurns(this.#limits.admissionsMax),
      view: () => this.#view(),
    }
    const survivors = await clearUp({
      book: this.#book,
      executors: this.#executors,
      bootId,
      clock,
      logger: this.#logger,
    })
    await this.#sweep()
    await this.#refresh(this.#closing.signal)
    await this.#takeUp(survivors)
  }

  async #serve(): Promise<void> {
    const { transport, nodeId, auditLog, clock } = this.#options
    const { signal } = this.#closing
    const reads = {
      book: this.#book,
      liveLog: (id: ExecutionId) => this.#live.get(id)?.log,
      ...(auditLog !== undefined && { auditLog }),
      clock,
      index: new OutputIndex(),
    }
    const serve = async (what: string, subject: string, handler: Handler) => {
      const served = await transport.serve(subject, handler)
      this.#opened.add(what, () => served.close())
    }
    await serve('nudges', nudgeSubject(nodeId), async () => {
      this.#sync.trigger('nudge')
      return {}
    })
    await serve('output', outputSubject(nodeId), (body) =>
      readExecutionOutput(body as OutputReadRequest, reads, signal),
    )
    await serve('egress explanations', explainSubject(nodeId), (body) =>
      explainEgress(body, this.#options.gateway),
    )
    await serve('egress records', egressSubject(nodeId), (body) =>
      readExecutionEgress(body as EgressReadRequest, reads, signal),
    )
  }

  #view(): AdmissionView {
    return {
      executors: this.#executors,
      sources: this.#sources,
      publishers: this.#publishers,
      health: this.#health,
      hasGateway: this.#gateway.running,
      policy: this.#policy,
      rules: this.#rules,
      generation: this.#generation,
      maxJobRequirements: this.#maxJobRequirements,
      labels: this.#labels,
      clock: this.#options.clock,
      limits: this.#limits,
    }
  }

  /** True when the node's description changed. */
  async #refresh(signal: AbortSignal): Promise<boolean> {
    const before = this.#gateway.running
    const [changed] = await Promise.all([this.#health.refresh(signal), this.#askGateway(signal)])
    return changed || before !== this.#gateway.running
  }

  async #askGateway(signal: AbortSignal): Promise<void> {
    const { gateway, clock } = this.#options
    if (gateway === undefined) return
    try {
      const standing = await bounded(() => gateway.status(), {
        clock,
        signal,
        ms: this.#limits.checkTimeoutMs,
        timeout: () => new WeirError('egress.unavailable', 'The egress gateway does not answer'),
      })
      this.#gateway = standing
    } catch (error) {
      this.#gateway = NO_GATEWAY
      this.#logger.warn({ error }, 'the egress gateway does not answer; http jobs are refused')
    }
  }

  async #sweep(): Promise<void> {
    const { auditLog, clock } = this.#options
    await sweepFinished({
      book: this.#book,
      ...(auditLog !== undefined && { auditLog }),
      limits: this.#limits,
      nowMs: clock.now(),
      busy: (id) => this.#live.has(id),
      logger: this.#logger,
    })
  }

  #repeat(what: string, intervalMs: number, work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#closing
    const loop = async () => {
      while (await sleepFor(this.#options.clock, intervalMs, signal)) {
        try {
          await work(signal)
        } catch (error) {
          if (!signal.aborted) this.#logger.error({ error, what }, 'a regular task failed')
        }
      }
    }
    const running = loop()
    this.#opened.add(what, () => running)
  }

  #apply({ desired, complete, networkEgress }: SyncResponse): void {
    // First: what comes with the new list must not begin under the old one.
    const list = networkEgress === undefined ? undefined : this.#options.networkEgress?.heard(networkEgress)
    if (list !== undefined) this.#fullAccess.hear(list)
    for (const one of desired) {
      if (isSafeId(one.executionId)) this.#desire(one, complete)
      else
        this.#logger.error({ executionId: one.executionId }, 'ignores an execution whose id cannot be used')
    }
    if (!complete) return
    const wanted = new Set(desired.map(({ executionId }) => executionId))
    for (const record of this.#book.all()) if (!wanted.has(record.executionId)) this.#disown(record)
  }

  #desire(desired: DesiredExecution, complete: boolean): void {
    const { executionId, state, message, observedSequence = 0 } = desired
    const live = this.#live.get(executionId)
    if (live !== undefined) {
      if (state === 'Stopped') live.controller.abort(stoppedEnd(message))
      return
    }
    if (this.#book.get(executionId) !== undefined) {
      // It has ended here, and the orchestrator counts it among those that have not.
      if (complete) this.#background(this.#book.repeat(executionId))
      return
    }
    const record = this.#book.open(desired)
    if (state === 'Stopped') return this.#endAtOnce(record, cancelled(stoppedEnd(message)))
    const damage = this.#book.damage(executionId)
    if (damage !== undefined || observedSequence > 0)
      return this.#endAtOnce(record, failed(forgotten(damage)))
    if (this.#draining) return this.#endAtOnce(record, rejected([LEAVING]))
    this.#begin(desired, record)
  }

  /** Charges what they hold before anything new can come, and lets them go on. */
  async #takeUp(survivors: readonly Survivor[]): Promise<void> {
    const { outputBytesMax } = this.#limits
    const { clock } = this.#options
    const held = survivors.map(({ record, memory }) => ({
      record,
      brought: {
        memory,
        ...(memory.phase !== 'accepted' && {
          release: this.#gate.restore(record.executionId, memory.resources),
        }),
      },
    }))
    for (const { record, brought } of held) {
      const { executionId, dirs } = record
      const log = await OutputLog.reopen(dirs.outputFile, outputBytesMax, clock)
      this.#logger.info({ executionId, phase: brought.memory.phase }, 'takes an execution up again')
      this.#begin(brought.memory.desired, record, { log, brought })
    }
  }

  #begin(
    desired: DesiredExecution,
    record: ExecutionRecord,
    earlier: { log?: OutputLog; brought?: Brought } = {},
  ): void {
    const { executionId } = desired
    const parts = this.#conduct
    if (parts === undefined) return
    const controller = new AbortController()
    const {
      log = new OutputLog(record.dirs.outputFile, this.#limits.outputBytesMax, this.#options.clock),
      brought,
    } = earlier
    const own = { record, log, ...(brought !== undefined && { brought }) }
    const done = conductExecution(desired, own, parts, controller.signal)
      .catch((error: unknown) =>
        this.#logger.error({ error, executionId }, 'an execution could not be conducted'),
      )
      .finally(() => {
        this.#live.delete(executionId)
      })
    this.#live.set(executionId, { controller, log, done })
  }

  #endAtOnce({ executionId }: ExecutionRecord, { observed, event }: Outcome): void {
    this.#background(this.#book.end(executionId, observed, event))
  }

  /** The orchestrator knows nothing of it, so nobody waits for a report. */
  #disown(record: ExecutionRecord): void {
    const { executionId } = record
    const live = this.#live.get(executionId)
    const settle = () => {
      const { observed } = this.#book.get(executionId) ?? record
      this.#book.acknowledge({ [executionId]: observed.sequence })
    }
    if (live === undefined) return hasEnded(record) ? settle() : undefined
    live.controller.abort(stoppedEnd('The orchestrator does not know the execution any more'))
    this.#background(live.done.then(settle))
  }

  #background(work: Promise<unknown>): void {
    work.catch((error: unknown) => this.#logger.error({ error }, 'a record could not be changed'))
  }

  async #shutDown({ drainMs, keep, farewell }: Shutdown): Promise<void> {
    const { clock } = this.#options
    this.#draining = true
    this.#sync.trigger('now')
    const patience = new AbortController()
    const all = () => Promise.all([...this.#live.values()].map(({ done }) => done))
    if (drainMs > 0) await Promise.race([all(), sleepFor(clock, drainMs, patience.signal)])
    if (!farewell) await this.#sync.close({ farewell })
    for (const { controller } of this.#live.values()) controller.abort(keep ? keptEnd() : shutdownEnd())
    await Promise.race([all(), sleepFor(clock, this.#limits.stopGraceMs + STOP_PATIENCE_MS, patience.signal)])
    patience.abort()
    this.#closing.abort(toWeirError(new Error('the node is closing')))
    await this.#opened.close()
    await this.#book.idle()
  }
}

/** Not asked yet, or it does not answer. */
const NO_GATEWAY: GatewayStanding = Object.freeze({
  running: false,
  policyGeneration: 0,
  leases: 0,
  connections: 0,
})
const NOTHING: Resources = Object.freeze({ cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 })
const SWEEP_MS = 60_000
const DRAIN_MS = 3_600_000
const STOP_PATIENCE_MS = 15_000

const LEAVING = Object.freeze({
  code: 'compute.policy' as const,
  message: 'This node is being stopped and takes no more executions',
  hint: 'Choose another node',
  retryable: true,
})

function forgotten(damage = 'The node has lost its record of the execution'): WeirError {
  return new WeirError('execution.lost', damage, {
    retryable: true,
    hint: 'The job is tried again if its type allows',
  })
}
