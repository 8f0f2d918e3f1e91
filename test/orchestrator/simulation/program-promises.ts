import { executionTimeoutMs, isTerminalObservedState } from '../../../src/model/index.js'
import type { Execution, Resources } from '../../../src/model/index.js'
import type { VirtualClock } from '../virtual-time.js'
import type { ProgramWatch } from './engine.js'
import { RealNode } from './real-node.js'
import type { Records } from './record-promises.js'
import type { WorldNode } from './world-node.js'

/**
 * How long a program may go on after its node was told, in two answers of the orchestrator, that it is not wanted:
 * the grace between SIGTERM and SIGKILL, and some time to act.
 */
const STOP_GRACE_MS = 5_000
/** A node that was heard so short a time ago is not lost. */
const NOT_LOST_MS = 12_000

export interface ProgramParts {
  time: VirtualClock
  records: Records
  broken: (promise: string) => void
  say: (line: string) => void
}

/**
 * What is promised about programs that really run, whatever the records say.
 *
 * Of one slot two may run side by side only while the node of the older one does not know: the orchestrator never wants
 * two, and a node that was told ends what is not wanted within its grace. How long a node is not told is up to the
 * network: it does not stop anything by itself.
 */
export class ProgramPromises implements ProgramWatch {
  /** Ran to their end by themselves. */
  readonly finished = new Set<string>()
  readonly begun = new Map<string, string>()
  readonly #running = new Map<string, string>()
  readonly #parts: ProgramParts
  readonly #nodes = new Map<string, WorldNode>()
  /** Only as long as silence alone makes a node lost. */
  readonly #heardMs = new Map<string, number>()
  readonly #spokenMs = new Map<string, number>()
  /** When it became durable that an execution is not wanted. */
  readonly #unwantedMs = new Map<string, number>()
  /** Answers after that, per execution and process. */
  readonly #told = new Map<string, number>()

  constructor(parts: ProgramParts) {
    this.#parts = parts
  }

  watches(node: WorldNode): void {
    this.#nodes.set(node.nodeId, node)
  }

  began(nodeId: string, executionId: string, resources: Resources | undefined): void {
    const { say, broken, records } = this.#parts
    say(`${nodeId} runs ${executionId.slice(0, 10)}`)
    if (this.begun.has(executionId)) broken(`${executionId} begins twice`)
    this.begun.set(executionId, nodeId)
    this.#running.set(executionId, nodeId)
    const known = records.executions.get(executionId)
    if (known !== undefined && known.nodeId !== nodeId) broken(`${executionId} runs on ${nodeId}`)
    if (resources !== undefined) this.#checkCapacity(nodeId)
    this.#watchLimit(nodeId, executionId)
  }

  /** A node that is there ends what runs too long. */
  #watchLimit(nodeId: string, executionId: string): void {
    const { records, time, broken } = this.#parts
    const job = records.jobs.get(records.executions.get(executionId)?.jobId ?? '')
    const limitMs = job === undefined ? undefined : executionTimeoutMs(job.spec)
    const node = this.#nodes.get(nodeId)
    if (limitMs === undefined || !(node instanceof RealNode)) return
    const { starts } = node
    time.schedule(limitMs * 1.01 + STOP_GRACE_MS, () => {
      if (!this.#running.has(executionId) || !node.isAlive || node.starts !== starts) return
      broken(`${executionId} runs on ${nodeId} longer than ${limitMs} ms`)
    })
  }

  ended(nodeId: string, executionId: string, byItself: boolean): void {
    this.#parts.say(`${nodeId} ran ${executionId.slice(0, 10)}${byItself ? '' : ', until it was ended'}`)
    this.#running.delete(executionId)
    if (byItself) this.finished.add(executionId)
  }

  /** The machine is a new one: what nobody had heard of when the old one went, it may begin again. */
  wiped(nodeId: string): void {
    for (const [executionId, begunOn] of this.begun) {
      const known = this.#parts.records.executions.get(executionId)
      if (begunOn === nodeId && (known?.observed.sequence ?? 0) === 0) this.begun.delete(executionId)
    }
  }

  /** When a node spoke last, goodbyes included. */
  lastSpokenMs(nodeId: string): number | undefined {
    return this.#spokenMs.get(nodeId)
  }

  /** It has asked something, whatever comes of it. */
  spoke(nodeId: string): void {
    this.#spokenMs.set(nodeId, this.#parts.time.now())
  }

  heard(nodeId: string): void {
    this.#heardMs.set(nodeId, this.#parts.time.now())
    this.spoke(nodeId)
  }

  saidGoodbye(nodeId: string): void {
    this.spoke(nodeId)
    this.#heardMs.delete(nodeId)
  }

  /** The operator removed it, perhaps: then it is gone at once. */
  decidedOn(nodeId: string): void {
    this.#heardMs.delete(nodeId)
  }

  /** To be told before the records know. */
  stored(one: Execution): void {
    const before = this.#parts.records.executions.get(one.id)
    if (one.desired.state !== 'Stopped' || before?.desired.state === 'Stopped') return
    this.#unwantedMs.set(one.id, this.#parts.time.now())
    if (!one.desired.message.includes('node has disappeared')) return
    if (isTerminalObservedState(one.observed.state)) return
    const heardMs = this.#heardMs.get(one.nodeId)
    const silentMs = this.#parts.time.now() - (heardMs ?? -Infinity)
    const exists = this.#parts.records.nodes.has(one.nodeId)
    if (exists && silentMs < NOT_LOST_MS) {
      this.#parts.broken(`${one.nodeId} is given up although it was heard ${Math.round(silentMs)} ms ago`)
    }
  }

  /** An answer has reached a process of the node. */
  informed(nodeId: string, incarnation: string, answeredMs: number): void {
    const { time, broken } = this.#parts
    for (const [executionId, runsOn] of this.#running) {
      const sinceMs = this.#unwantedMs.get(executionId)
      if (runsOn !== nodeId || sinceMs === undefined || sinceMs >= answeredMs) continue
      const key = `${executionId} ${incarnation}`
      const told = (this.#told.get(key) ?? 0) + 1
      this.#told.set(key, told)
      if (told !== 2) continue
      const node = this.#nodes.get(nodeId)
      const begun = node?.starts
      time.schedule(STOP_GRACE_MS, () => {
        if (!this.#running.has(executionId) || node?.isAlive !== true || node.starts !== begun) return
        broken(
          `${executionId} runs on ${nodeId}, which was told ${STOP_GRACE_MS} ms ago that nobody wants it`,
        )
      })
    }
  }

  #checkCapacity(nodeId: string): void {
    const node = this.#nodes.get(nodeId)
    if (!(node instanceof RealNode)) return
    const used = node.engine.running.reduce(
      (sum, { resources }) => ({
        cpu: sum.cpu + resources.cpu,
        memoryBytes: sum.memoryBytes + resources.memoryBytes,
      }),
      { cpu: 0, memoryBytes: 0 },
    )
    const { cpu, memoryBytes } = node.offeredAtStart
    if (used.cpu > cpu + 1e-6 || used.memoryBytes > memoryBytes) {
      this.#parts.broken(
        `${nodeId} runs ${used.cpu} cores and ${used.memoryBytes} bytes of ${cpu} and ${memoryBytes}`,
      )
    }
  }
}
