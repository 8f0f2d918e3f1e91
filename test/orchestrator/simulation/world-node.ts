import type { DesiredExecution } from '../../../src/model/index.js'

/** What a node of the world is given to offer. */
export interface NodeOffer {
  labels: Record<string, string>
  cpu: number
  memoryBytes: number
  publishers: string[]
  /** Networked jobs are accepted, to these hosts. */
  allow: string[]
  acceptsNetworkedJobs: boolean
}

/** How a node goes away. */
export type Departure =
  /** The process dies, its programs go on where the engine can do that. */
  | 'killed'
  /** So does the whole machine. */
  | 'power cut'
  /** The machine, and its disk is new. */
  | 'wiped'
  /** In an orderly way, saying goodbye. */
  | 'closed'

/** A node of the world, whichever implementation runs in it. */
export interface WorldNode {
  readonly nodeId: string
  readonly kind: 'real' | 'light'
  readonly isAlive: boolean
  /** How often it was started: tells one process from the next. */
  readonly starts: number
  offer: NodeOffer
  start(): void
  leave(how: Departure): void
  /** Executions whose programs run on the machine, whatever the process knows. */
  running(): string[]
  /** Executions that the process holds and that have not ended. */
  held(): string[]
  /** Holds from now on something that nobody wants; ignored by nodes that cannot. */
  adopt?(desired: DesiredExecution): void
  /** When all is over. */
  destroy(): void
}
