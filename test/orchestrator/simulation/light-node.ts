import type { DesiredExecution } from '../../../src/model/index.js'
import type { Transport } from '../../../src/ports/index.js'
import { SimulatedNode, type Behaviour } from '../simulated-node.js'
import type { VirtualClock } from '../virtual-time.js'
import type { ProgramWatch } from './engine.js'
import { ClockError, ProcessLife, processClock } from './process-life.js'
import type { Departure, NodeOffer, WorldNode } from './world-node.js'

export interface LightNodeOptions {
  nodeId: string
  time: VirtualClock
  network: Transport
  watch: ProgramWatch
  clockError: ClockError
  behave: (execution: DesiredExecution) => Behaviour
  offer: NodeOffer
  /** Its programs go on when its process dies. */
  canResume: boolean
  keepsLimits: boolean
}

/** The node's half of the conversation in its simplest form: many of them are cheap, and it knows no queue. */
export class LightNode implements WorldNode {
  readonly kind = 'light'
  readonly nodeId: string
  offer: NodeOffer
  starts = 0
  readonly #options: LightNodeOptions
  readonly #node: SimulatedNode

  constructor(options: LightNodeOptions) {
    const { nodeId, time, network, watch, clockError, behave, keepsLimits } = options
    this.#options = options
    this.nodeId = nodeId
    this.offer = options.offer
    this.#node = new SimulatedNode({
      nodeId,
      transport: network,
      clock: processClock(time, clockError, new ProcessLife()),
      syncIntervalMs: 5_000,
      behave,
      keepsLimits,
      info: () => this.#info(),
      onBegin: ({ executionId }) => watch.began(nodeId, executionId, undefined),
      onEnd: ({ executionId }, byItself) => watch.ended(nodeId, executionId, byItself),
    })
  }

  get isAlive(): boolean {
    return this.#node.isAlive
  }

  start(): void {
    this.starts += 1
    void this.#node.start()
  }

  leave(how: Departure): void {
    const goesOn = how === 'killed' && this.#options.canResume
    void this.#node.kill({
      programs: goesOn ? 'go on' : 'end',
      disk: how === 'wiped' ? 'wiped' : 'kept',
    })
  }

  running(): string[] {
    return this.#node.running
  }

  held(): string[] {
    return this.#node.held
  }

  adopt(desired: DesiredExecution): void {
    this.#node.adopt(desired)
  }

  destroy(): void {
    void this.#node.kill()
  }

  #info(): object {
    const { labels, cpu, memoryBytes, publishers, allow, acceptsNetworkedJobs } = this.offer
    const capacity = { cpu, memoryBytes, diskBytes: 1e11, gpu: 0 }
    return {
      labels,
      engines: ['docker'],
      publishers,
      maxCapacity: capacity,
      maxJobRequirements: capacity,
      availableCapacity: capacity,
      egress: {
        acceptsNetworkedJobs,
        httpEngines: acceptsNetworkedJobs ? ['docker'] : [],
        fullEngines: [],
        allow,
        deny: [],
        problems: [],
      },
    }
  }
}
