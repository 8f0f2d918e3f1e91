import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createComputeNode, type ComputeLogger, type ComputeNode } from '../../../src/compute/index.js'
import type { Publisher, Transport } from '../../../src/ports/index.js'
import type { VirtualClock } from '../virtual-time.js'
import type { Dice } from './dice.js'
import { Engine, type EngineOptions } from './engine.js'
import { mountFiles } from './files.js'
import { ClockError, ProcessLife, processClock, processTransport } from './process-life.js'
import type { Departure, NodeOffer, WorldNode } from './world-node.js'

/** What may be wrong with the node's own disk. */
export interface NodeDiskFaults {
  isFull: boolean
  /** Each call takes up to so long. */
  slowMsMax: number
}

export interface RealNodeOptions extends Omit<EngineOptions, 'time' | 'now'> {
  time: VirtualClock
  network: Transport
  onRequest: (subject: string) => void
  dice: Dice
  clockError: ClockError
  dataDir: string
  offer: NodeOffer
  logger: ComputeLogger
}

/** The real compute node on a simulated machine: its clock, its programs and its disk can be disturbed. */
export class RealNode implements WorldNode {
  readonly kind = 'real'
  readonly nodeId: string
  readonly engine: Engine
  disk: NodeDiskFaults = { isFull: false, slowMsMax: 0 }
  offer: NodeOffer
  /** What the process that runs now read when it started. */
  offeredAtStart: NodeOffer
  starts = 0
  readonly #options: RealNodeOptions
  readonly #files
  #life: ProcessLife | undefined
  #node: ComputeNode | undefined

  constructor(options: RealNodeOptions) {
    this.#options = options
    this.nodeId = options.nodeId
    this.offer = this.offeredAtStart = options.offer
    this.engine = new Engine({ ...options, now: () => options.clockError.shown(options.time.now()) })
    mkdirSync(options.dataDir, { recursive: true })
    this.#files = mountFiles(options.dataDir, { before: (_path, call) => this.#beforeFileCall(call) })
  }

  get isAlive(): boolean {
    return this.#life?.isAlive === true
  }

  start(): void {
    const { time, network, onRequest, dice, clockError, dataDir, logger } = this.#options
    mkdirSync(dataDir, { recursive: true })
    const life = (this.#life = new ProcessLife())
    const { labels, cpu, memoryBytes, publishers, allow, acceptsNetworkedJobs } = (this.offeredAtStart =
      this.offer)
    this.starts += 1
    const node = (this.#node = createComputeNode({
      nodeId: this.nodeId,
      incarnation: `i-${this.starts}`,
      dataDir,
      transport: processTransport(network, life, onRequest),
      clock: processClock(time, clockError, life),
      chance: dice.chance,
      executors: [this.engine.forProcess(life)],
      sources: [],
      publishers: publishers.map(simulatedPublisher),
      policy: { acceptNetworkedJobs: acceptsNetworkedJobs, allow },
      capacity: { cpu: String(cpu), memory: String(memoryBytes), disk: '100gb', gpu: '0' },
      machine: {
        resources: { cpu: 64, memoryBytes: 64e9, diskBytes: 1e12, gpu: 0 },
        labels: { 'Operating-System': 'linux' },
        problems: [],
      },
      labels,
      limits: {
        syncIntervalMs: 5_000,
        syncTimeoutMs: 4_000,
        syncBackoffMaxMs: 8_000,
        diskCheckMs: 60_000,
        healthIntervalMs: 120_000,
      },
      version: '0.0.0-simulated',
      logger,
    }))
    node.start().catch((error: unknown) => {
      logger.error({ error: String(error) }, 'the node does not start')
      // As its operator does: once more, after a while.
      life.kill()
      time.schedule(5_000, () => {
        if (this.#life === life) this.start()
      })
    })
  }

  leave(how: Departure): void {
    const node = this.#node
    const life = this.#life
    if (how === 'closed' && node !== undefined && life !== undefined) {
      void node.close().then(() => life.kill())
      // Whoever waits for it loses patience.
      this.#options.time.schedule(30_000, () => life.kill())
      return
    }
    life?.kill()
    if (how === 'killed') return
    this.engine.powerCut()
    this.#files.powerCut(() => this.#options.dice.happens(0.5))
    if (how === 'wiped') rmSync(this.#options.dataDir, { recursive: true, force: true })
  }

  running(): string[] {
    return this.engine.running.map(({ executionId }) => executionId)
  }

  held(): string[] {
    const dir = join(this.#options.dataDir, 'compute', 'executions')
    const known = existsSync(dir) ? readdirSync(dir) : []
    const running = new Set(this.running())
    return known.filter((id) => running.has(id))
  }

  destroy(): void {
    this.#life?.kill()
    this.#files.unmount()
    rmSync(this.#options.dataDir, { recursive: true, force: true })
  }

  #beforeFileCall(call: string): Promise<void> | undefined {
    const { time, dice } = this.#options
    const life = this.#life
    if (life === undefined || !life.isAlive) return new Promise(() => undefined)
    if (this.disk.isFull && WRITES.has(call)) {
      return Promise.reject(Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }))
    }
    if (this.disk.slowMsMax === 0) return undefined
    return life.awaits(time.sleep(dice.between(0, this.disk.slowMsMax)))
  }
}

/** Calls that need room. */
const WRITES = new Set(['mkdir', 'writeFile', 'open', 'write', 'rename'])

function simulatedPublisher(type: string): Publisher {
  return {
    type,
    admit: async () => [],
    publish: async ({ executionId }) => ({ Type: type, Params: { From: executionId } }),
  }
}
