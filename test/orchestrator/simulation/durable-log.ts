import { WeirError } from '../../../src/errors.js'
import type { Change, JobStore, Revision, Snapshot } from '../../../src/ports/index.js'
import { openMemoryStore } from '../../../src/stores/index.js'
import type { VirtualClock } from '../virtual-time.js'
import type { Dice } from './dice.js'
import type { ProcessLife } from './process-life.js'

/** How the orchestrator's disk misbehaves. */
export interface DiskFaults {
  /** A flush takes a random time between these; all commits that wait share it. */
  flushMsMin: number
  flushMsMax: number
  /** Commits are refused at once, or accepted and lost with the flush. */
  full: 'no' | 'refuses' | 'loses'
  /** Nothing can be read either. */
  unreadable: boolean
}

export const SOUND_DISK: DiskFaults = Object.freeze({
  flushMsMin: 0,
  flushMsMax: 0,
  full: 'no',
  unreadable: false,
})

interface Waiting {
  change: Change
  resolve: (revision: Revision) => void
  reject: (error: WeirError) => void
  revision: Revision
}

/**
 * A store whose commits are seen at once and durable later, as SQLite's are: a crash keeps some of those that were not
 * acknowledged yet, in order, and loses the rest. Numbers are not used twice.
 */
export class DurableLog {
  faults: DiskFaults = SOUND_DISK
  /** Told of each commit when it is durable, in order. */
  onDurable: (change: Change, revision: Revision) => void = () => undefined
  /** Told of each commit when it is seen and not durable yet. */
  onCommit: () => void = () => undefined
  readonly #time: VirtualClock
  readonly #dice: Dice
  readonly #log: Change[] = []
  #memory: JobStore = openMemoryStore()
  /** What the numbers of the memory are behind by. */
  #ahead = 0
  #waiting: Waiting[] = []
  #callOff: (() => void) | undefined
  /** The highest number that anybody has seen. */
  #seen = 0

  constructor(time: VirtualClock, dice: Dice) {
    this.#time = time
    this.#dice = dice
  }

  get commits(): number {
    return this.#log.length
  }

  /** The store as one process sees it, until its death. */
  forProcess(life: ProcessLife): JobStore {
    const own: Partial<JobStore> = {
      snapshot: () => this.snapshot(),
      commit: (change, ifRevision) => this.#commit(change, ifRevision, life),
      close: async () => undefined,
    }
    // Whatever else a store can be asked is asked of the memory there is then.
    return new Proxy({} as JobStore, {
      get: (_, name: keyof JobStore) => {
        if (name === 'watch') return (...args: Parameters<JobStore['watch']>) => this.#memory.watch(...args)
        return (...args: never[]) => {
          if (!life.isAlive) return new Promise(() => undefined)
          if (this.faults.unreadable && name !== 'commit') return life.awaits(Promise.reject(unreadable()))
          const ask = (own[name] ?? this.#memory[name]) as (...args: never[]) => Promise<unknown>
          return life.awaits(ask.apply(this.#memory, args))
        }
      },
    })
  }

  async snapshot(): Promise<Snapshot> {
    const snapshot = await this.#memory.snapshot()
    return this.#ahead === 0 ? snapshot : new RenumberedSnapshot(snapshot, this.#ahead)
  }

  get memory(): JobStore {
    return this.#memory
  }

  /** Writes past the orchestrator, while there is none. */
  async put(change: Change): Promise<void> {
    const revision = (await this.#memory.commit(change)) + this.#ahead
    this.#seen = revision
    this.#persist(change, revision)
  }

  /** The process that wrote is dead: of what it was not told is durable, a part is. Returns how many are lost. */
  crash(): number {
    this.#callOff?.()
    this.#callOff = undefined
    const waiting = this.#waiting.splice(0)
    const kept = this.#dice.whole(0, waiting.length)
    for (const { change, revision } of waiting.slice(0, kept)) this.#persist(change, revision)
    this.#reload()
    return waiting.length - kept
  }

  async close(): Promise<void> {
    this.#callOff?.()
    await this.#memory.close()
  }

  async #commit(change: Change, ifRevision: Revision | undefined, life: ProcessLife): Promise<Revision> {
    if (this.faults.full === 'refuses') throw full()
    const expected = ifRevision === undefined ? undefined : ifRevision - this.#ahead
    const memory = this.#memory
    const revision = (await memory.commit(change, expected)) + this.#ahead
    this.#seen = Math.max(this.#seen, revision)
    // Lost together with what was lost meanwhile.
    if (memory !== this.#memory || !life.isAlive) throw full()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ change, revision, resolve, reject })
      this.onCommit()
      if (this.#waiting.length !== 1) return
      const { flushMsMin, flushMsMax } = this.faults
      const ms = this.#dice.between(flushMsMin, flushMsMax)
      if (ms === 0) void Promise.resolve().then(() => this.#flush())
      else this.#callOff = this.#time.schedule(ms, () => this.#flush())
    })
  }

  #flush(): void {
    this.#callOff = undefined
    const waiting = this.#waiting.splice(0)
    if (this.faults.full !== 'no') {
      this.#reload()
      for (const { reject } of waiting) reject(full())
      return
    }
    for (const { change, revision, resolve } of waiting) {
      this.#persist(change, revision)
      resolve(revision)
    }
  }

  #persist(change: Change, revision: Revision): void {
    this.#log.push(change)
    this.onDurable(change, revision)
  }

  /** Reads the disk anew, at once: a commit of the memory has happened when the call returns. */
  #reload(): void {
    const fresh = openMemoryStore()
    for (const change of this.#log) void fresh.commit(change)
    this.#memory = fresh
    this.#seen += 1
    this.#ahead = this.#seen - this.#log.length
  }
}

/** The same with higher numbers. */
class RenumberedSnapshot implements Snapshot {
  readonly revision: Revision
  readonly #of: Snapshot

  constructor(of: Snapshot, ahead: number) {
    this.#of = of
    this.revision = of.revision + ahead
  }

  activeJobs = () => this.#of.activeJobs()
  job = (id: string) => this.#of.job(id)
  executionsOfJob = (id: string) => this.#of.executionsOfJob(id)
  execution = (id: string) => this.#of.execution(id)
  activeExecutionsOnNode = (id: string) => this.#of.activeExecutionsOnNode(id)
  evaluations = () => this.#of.evaluations()
  nodes = () => this.#of.nodes()
  node = (id: string) => this.#of.node(id)
}

function full(): WeirError {
  return new WeirError('store.unavailable', 'the disk is full', { retryable: true })
}

function unreadable(): WeirError {
  return new WeirError('store.unavailable', 'the disk cannot be read', { retryable: true })
}
