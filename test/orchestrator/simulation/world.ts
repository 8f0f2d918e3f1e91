import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_LIMITS, createOrchestrator, type Orchestrator } from '../../../src/orchestrator/index.js'
import {
  isTerminalJobState,
  isTerminalObservedState,
  queueTimeoutMs,
  totalTimeoutMs,
} from '../../../src/model/index.js'
import type { DesiredExecution, Execution, SyncRequest, SyncResponse } from '../../../src/model/index.js'
import { SYNC_SUBJECT, type Change, type Message, type Transport } from '../../../src/ports/index.js'
import { createInProcessTransport, type Faults } from '../../../src/transports/index.js'
import type { Behaviour } from '../simulated-node.js'
import { sampleSpec } from '../samples.js'
import { VirtualClock } from '../virtual-time.js'
import { Dice, hashOf } from './dice.js'
import { DurableLog, SOUND_DISK, type DiskFaults } from './durable-log.js'
import type { Nature } from './engine.js'
import { checkEnd, type EndView } from './end-promises.js'
import { LightNode } from './light-node.js'
import { ClockError, ProcessLife, processClock, processTransport } from './process-life.js'
import { ProgramPromises } from './program-promises.js'
import { RealNode } from './real-node.js'
import { applyChange, checkChange, noRecords, type Records } from './record-promises.js'
import { checkPlacements, type PlacementContext } from './placement-promises.js'
import { Users, randomLabel, temperOf, type Temper } from './users.js'
import type { Departure, NodeOffer, WorldNode } from './world-node.js'

export interface WorldOptions {
  seed: number
  /** Steps in which nothing is disturbed, to find out which ones matter. */
  skip?: ReadonlySet<number>
  /** At most so many nodes and steps. */
  nodesMax?: number
  stepsMax?: number
  /** Gets every line of the world's log. */
  onLine?: (line: string) => void
}

/** What one world came to; equal for equal seeds. */
export interface WorldOutcome {
  seed: number
  /** Over every line of the log. */
  hash: number
  steps: number
  /** How often what happened. */
  counts: Record<string, number>
}

/** A promise was broken. */
export class BrokenPromise extends Error {
  readonly seed: number
  readonly steps: number
  readonly promises: readonly string[]
  readonly lastLines: readonly string[]

  constructor(seed: number, steps: number, promises: readonly string[], lastLines: readonly string[]) {
    super(`seed ${seed}: ${promises.slice(0, 4).join('; ')}`)
    this.name = 'BrokenPromise'
    this.seed = seed
    this.steps = steps
    this.promises = promises
    this.lastLines = lastLines
  }
}

/**
 * One orchestrator, some nodes, their users and their operator, on machines, disks, clocks and a network that misbehave.
 * Then everything heals and time passes. Throws {@link BrokenPromise}. The seed alone decides what happens.
 */
export async function simulate(options: WorldOptions): Promise<WorldOutcome> {
  const world = new World(options)
  // Work that is cut into slices by the time it takes would be cut otherwise each time.
  performance.now = () => world.time.now()
  try {
    return await world.run()
  } finally {
    await world.close()
    delete (performance as { now?: unknown }).now
  }
}

export const SIMULATED_LIMITS = Object.freeze({
  ...DEFAULT_LIMITS,
  disconnectAfterMs: 15_000,
  lostGraceMs: 10_000,
  sweepMs: 2_500,
  retryBackoffMsMax: 15_000,
  overdueGraceMs: 20_000,
  queueRecheckMs: 20_000,
  forgetEveryMs: 30_000,
})

const LINES_KEPT = 80

class World {
  readonly time = new VirtualClock()
  readonly seed: number
  readonly steps: number
  readonly log: DurableLog
  readonly records: Records = noRecords()
  readonly nodes = new Map<string, WorldNode>()
  readonly users: Users
  readonly programs: ProgramPromises
  readonly counts: Record<string, number> = {}
  readonly #options: WorldOptions
  readonly #network: Transport
  readonly #setUp: Dice
  readonly #clocks = new Map<string, ClockError>()
  readonly #cut = new Map<string, { towards: boolean; back: boolean }>()
  readonly #refusing = new Map<string, string>()
  readonly #broken: string[] = []
  readonly #lines: string[] = []
  readonly #offerChangedMs = new Map<string, number>()
  /** When something of a job or a node was stored last. */
  readonly #touchedMs = new Map<string, number>()
  /** Until then something kept the orchestrator from doing its work in time. */
  #unwellMs = 0
  readonly #dir: string
  readonly #approveNodes: boolean
  /** Few nodes, and many who want them. */
  readonly #isCrowded: boolean
  readonly #limits: typeof SIMULATED_LIMITS
  readonly #usualDisk: DiskFaults
  readonly #placing: PlacementContext
  #faults: Partial<Faults>
  #life: ProcessLife | undefined
  #orchestrator: Orchestrator | undefined
  #hash = 0
  #isCalm = false
  #nodesMade = 0
  #starts = 0

  constructor(options: WorldOptions) {
    const { seed } = options
    this.seed = seed
    this.#options = options
    const dice = (this.#setUp = new Dice(seed, 'world'))
    this.steps = Math.min(dice.whole(6, 22), options.stepsMax ?? Infinity)
    this.#dir = mkdtempSync(join(SCRATCH, 'weir-world-'))
    this.#approveNodes = dice.happens(0.8)
    this.#isCrowded = dice.happens(0.2)
    this.#faults = dice.happens(0.2)
      ? {}
      : {
          loss: dice.between(0, 0.3),
          repeat: dice.between(0, 0.3),
          delayMsMin: 0,
          delayMsMax: dice.pick([5, 200, 2_500]),
        }
    this.#usualDisk = { ...SOUND_DISK, flushMsMax: dice.pick([0, 0, 5, 100, 800]) }
    // A slow disk and few jobs at a time would be too little for so many.
    const jobsPerPass = this.#usualDisk.flushMsMax < 100 ? dice.pick([2, 8, 64]) : 64
    this.#limits = { ...SIMULATED_LIMITS, jobsPerPass }
    this.#placing = {
      limits: this.#limits,
      // Who changed a moment ago may be known in memory and not be stored yet.
      isSettled: (nodeId) => this.time.now() - (this.#offerChangedMs.get(nodeId) ?? 0) > 90_000,
      isCalm: (id) =>
        this.#wellForMs() > CALM_MS && this.time.now() - (this.#touchedMs.get(id) ?? 0) > CALM_MS,
    }
    this.log = new DurableLog(this.time, new Dice(seed, 'disk'))
    this.log.faults = this.#usualDisk
    this.log.onDurable = (change, revision) => this.#durable(change, revision)
    this.users = new Users((line) => this.say(line))
    this.programs = new ProgramPromises({
      time: this.time,
      records: this.records,
      broken: (promise) => this.breaks(promise),
      say: (line) => this.say(line),
    })
    this.#network = createInProcessTransport({
      clock: this.time,
      chance: new Dice(seed, 'network').chance,
      faults: (subject, { direction, body }) => this.#faultsOf(subject, direction, body),
    })
  }

  async run(): Promise<WorldOutcome> {
    this.#startOrchestrator()
    const wanted = this.#isCrowded
      ? this.#setUp.whole(1, 3)
      : this.#setUp.happens(0.02)
        ? 40
        : this.#setUp.whole(1, 12)
    for (let index = 0; index < Math.min(wanted, this.#options.nodesMax ?? Infinity); index++) this.#addNode()
    await this.time.pass(0)
    for (let step = 0; step < this.steps; step++) {
      const dice = new Dice(this.seed, 'step', step)
      this.say(`--- step ${step}`)
      if (this.#options.skip?.has(step) !== true) this.#disturb(dice)
      this.#wellForMs()
      await this.time.pass(dice.between(0, 20_000))
      this.#checkLimits()
      this.#checkLost()
      this.#throwBroken()
    }
    await this.#healAndCheck()
    const { jobs, executions } = this.records
    for (const job of jobs.values()) this.#count(`${job.spec.Type} ${job.state}`)
    this.#count('executions', executions.size)
    this.#count('commits', this.log.commits)
    return { seed: this.seed, hash: this.#hash, steps: this.steps, counts: this.counts }
  }

  async close(): Promise<void> {
    this.#life?.kill()
    for (const node of this.nodes.values()) node.destroy()
    await this.#network.close()
    await this.log.close()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  say(line: string): void {
    const full = `${String(this.time.now() - START_MS).padStart(7)} ${line}`
    this.#hash = hashOf(full, this.#hash)
    this.#lines.push(full)
    if (this.#lines.length > 2 * LINES_KEPT) this.#lines.splice(0, LINES_KEPT)
    this.#options.onLine?.(full)
  }

  breaks(promise: string): void {
    this.say(`BROKEN: ${promise}`)
    this.#broken.push(promise)
  }

  #count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by
  }

  #throwBroken(): void {
    const problems = [...this.#broken, ...this.users.broken]
    if (problems.length > 0)
      throw new BrokenPromise(this.seed, this.steps, problems, this.#lines.slice(-LINES_KEPT))
  }

  // What goes wrong, and what people do.

  #disturb(dice: Dice): void {
    const what = dice.weighted({
      submit: 34,
      stop: 5,
      ask: 5,
      insist: 4,
      'node leaves': 12,
      'node returns': 10,
      'orchestrator crashes': 6,
      'orchestrator is restarted': 3,
      partition: 9,
      'disk of the orchestrator': 8,
      'disk of a node': 4,
      'clock is set': 5,
      'node refuses': 4,
      'node is added': 4,
      membership: 5,
      'offer changes': 8,
    })
    const orchestrator = this.#orchestrator
    const node = dice.pick([...this.nodes.values()])
    const jobs = [...this.users.acknowledged.jobs.keys()]
    switch (what) {
      case 'submit':
        for (
          let times = dice.pick(this.#isCrowded ? [4, 8, 12] : [1, 1, 2, 5]);
          times > 0 && orchestrator !== undefined;
          times--
        ) {
          this.users.submit(orchestrator, dice, this.#isCrowded)
        }
        break
      case 'stop':
        if (orchestrator !== undefined && jobs.length > 0) this.users.stop(orchestrator, dice.pick(jobs))
        break
      case 'ask':
        if (orchestrator !== undefined && jobs.length > 0) this.users.ask(orchestrator, dice.pick(jobs))
        break
      case 'insist':
        if (orchestrator !== undefined) this.users.insist(orchestrator, dice)
        break
      case 'node leaves':
        if (node.isAlive) this.#leaves(node, dice.pick(['killed', 'killed', 'power cut', 'wiped', 'closed']))
        break
      case 'node returns':
        for (const one of this.nodes.values()) if (!one.isAlive && dice.happens(0.7)) this.#returns(one)
        break
      case 'orchestrator crashes':
        return this.#crashSomewhere(dice)
      case 'orchestrator is restarted':
        return this.#closeOrchestrator(dice)
      case 'partition':
        return this.#partition(dice)
      case 'disk of the orchestrator':
        return this.#spoilDisk(dice)
      case 'disk of a node':
        return this.#spoilNodeDisk(node, dice)
      case 'clock is set':
        return this.#setClock(node, dice)
      case 'node refuses': {
        this.say(`${node.nodeId} refuses everything for a while`)
        this.#count('refusals by probes')
        this.#refusing.set(node.nodeId, 'not now')
        this.time.schedule(dice.between(2_000, 40_000), () => this.#refusing.delete(node.nodeId))
        return
      }
      case 'node is added':
        if (this.nodes.size < 45) this.#addNode()
        return
      case 'membership':
        return this.#decideOnNode(node, dice)
      case 'offer changes':
        return this.#changeOffer(node, dice)
    }
    if (orchestrator !== undefined) this.#count(what)
  }

  #leaves(node: WorldNode, how: Departure): void {
    this.say(`${node.nodeId} is ${how}`)
    this.#count(`nodes ${how}`)
    node.leave(how)
    if (how === 'wiped') this.programs.wiped(node.nodeId)
  }

  #returns(node: WorldNode): void {
    this.say(`${node.nodeId} returns`)
    this.#count('nodes returned')
    node.start()
  }

  /** Now, or in the middle of one of the next commits. */
  #crashSomewhere(dice: Dice): void {
    if (dice.happens(0.3)) return this.#crashOrchestrator(dice)
    let left = dice.whole(1, 20)
    const life = this.#life
    this.log.onCommit = () => {
      if (this.#life !== life || --left > 0) return
      this.log.onCommit = () => undefined
      this.#crashOrchestrator(dice)
    }
  }

  #crashOrchestrator(dice: Dice): void {
    if (this.#life === undefined) return
    this.#life.kill()
    this.#life = undefined
    this.#orchestrator = undefined
    const lost = this.log.crash()
    this.say(`the orchestrator crashes; ${lost} commits that nobody heard of are lost`)
    this.#count('orchestrator crashes')
    this.#count('commits lost with a crash', lost)
    this.#comeBack(dice)
  }

  #closeOrchestrator(dice: Dice): void {
    const [life, orchestrator] = [this.#life, this.#orchestrator]
    if (life === undefined || orchestrator === undefined) return
    this.say('the orchestrator is closed')
    this.#count('orchestrator restarts')
    this.#orchestrator = undefined
    void orchestrator.close().then(() => {
      if (this.#life !== life) return
      life.kill()
      this.#life = undefined
      this.say('the orchestrator is gone')
      this.#comeBack(dice)
    })
    // Its supervisor loses patience.
    this.time.schedule(20_000, () => {
      if (this.#life === life) this.#crashOrchestrator(dice)
    })
  }

  #comeBack(dice: Dice): void {
    if (dice.happens(0.15)) void this.#restoreOlderCopy(dice)
    if (dice.happens(0.3)) this.#adopt(dice.pick([...this.nodes.values()]), dice)
    this.time.schedule(1 + dice.pick([0, dice.between(0, 2_000), dice.between(0, 45_000)]), () => {
      if (this.#life === undefined) this.#startOrchestrator()
    })
  }

  /** An operator's copy knows less: nodes then hold what nobody knows. */
  async #restoreOlderCopy(dice: Dice): Promise<void> {
    const ids = [...this.records.jobs.keys()]
    if (ids.length === 0) return
    const id = dice.pick(ids)
    const token = this.records.jobs.get(id)?.idempotencyToken
    this.say(`${id} is not in the copy that was restored`)
    this.#count('jobs lost with a restored copy')
    this.users.forget(id, token)
    const evaluations = [...this.records.evaluations.values()].filter(({ jobId }) => jobId === id)
    await this.log.put({ deleteJobs: [id], deleteEvaluations: evaluations.map((one) => one.id) })
  }

  #partition(dice: Dice): void {
    const all = [...this.nodes.keys()]
    const group = dice.happens(0.6) ? [dice.pick(all)] : all.filter(() => dice.happens(0.5))
    const way = dice.pick([
      { towards: true, back: true },
      { towards: true, back: false },
      { towards: false, back: true },
    ])
    this.say(
      `cut off${way.towards ? ' towards' : ''}${way.back ? ' from' : ''} the orchestrator: ${group.join(' ')}`,
    )
    this.#count('partitions')
    for (const nodeId of group) this.#cut.set(nodeId, way)
    this.time.schedule(dice.between(1_000, 80_000), () => {
      for (const nodeId of group) if (this.#cut.get(nodeId) === way) this.#cut.delete(nodeId)
      this.say(`no longer cut off: ${group.join(' ')}`)
    })
  }

  #spoilDisk(dice: Dice): void {
    const how = dice.weighted({ slow: 4, refuses: 2, loses: 5, unreadable: 1 })
    this.say(`the disk of the orchestrator: ${how}`)
    this.#count(`disk of the orchestrator: ${how}`)
    const faults = (this.log.faults = {
      flushMsMin: 0,
      flushMsMax: dice.pick([5, 300, 5_000]),
      full: how === 'refuses' || how === 'loses' ? how : ('no' as const),
      unreadable: how === 'unreadable',
    })
    this.time.schedule(dice.between(500, how === 'slow' ? 60_000 : 15_000), () => {
      if (this.log.faults === faults) this.log.faults = this.#usualDisk
      this.#unwellMs = this.time.now()
      this.say('the disk of the orchestrator is well again')
    })
  }

  #spoilNodeDisk(node: WorldNode, dice: Dice): void {
    if (!(node instanceof RealNode)) return
    const isFull = dice.happens(0.5)
    this.say(`the disk of ${node.nodeId} is ${isFull ? 'full' : 'slow'}`)
    this.#count(`disks of nodes ${isFull ? 'full' : 'slow'}`)
    const faults = (node.disk = { isFull, slowMsMax: dice.pick([20, 500, 3_000]) })
    this.time.schedule(dice.between(500, 40_000), () => {
      if (node.disk === faults) node.disk = { isFull: false, slowMsMax: 0 }
    })
  }

  #setClock(node: WorldNode, dice: Dice): void {
    const who = dice.happens(0.3) ? 'orchestrator' : node.nodeId
    const byMs = Math.round(
      dice.pick([-1, 1]) * dice.pick([dice.between(1, 2_000), dice.between(0, 120_000)]),
    )
    this.say(`the clock of ${who} is set by ${byMs} ms`)
    this.#count('clocks set')
    this.#clockOf(who).step(this.time.now(), byMs)
    if (who === 'orchestrator') this.#unwellMs = this.time.now()
  }

  #decideOnNode(node: WorldNode, dice: Dice): void {
    const action = dice.pick(['approve', 'approve', 'reject', 'delete'] as const)
    const orchestrator = this.#orchestrator
    if (orchestrator === undefined) return
    this.say(`the operator: ${action} ${node.nodeId}`)
    orchestrator.updateNode(node.nodeId, action, 'simulated').then(
      () => {
        this.#count(`nodes: ${action}`)
        this.programs.decidedOn(node.nodeId)
        this.say(`${node.nodeId}: ${action} done`)
      },
      (error: unknown) => this.say(`${node.nodeId}: ${action} refused: ${String(error)}`),
    )
  }

  #changeOffer(node: WorldNode, dice: Dice): void {
    const next = randomOffer(dice, node.kind)
    node.offer = dice.happens(0.5) ? { ...node.offer, labels: next.labels } : next
    this.#offerChangedMs.set(node.nodeId, this.time.now())
    this.say(`${node.nodeId} offers ${JSON.stringify(node.offer)}`)
    this.#count('offers changed')
    // The real one reads its configuration when it starts.
    if (node.kind === 'light' || !node.isAlive) return
    this.#leaves(node, dice.pick(['closed', 'killed']))
    this.time.schedule(dice.between(100, 3_000), () => {
      if (!node.isAlive) this.#returns(node)
    })
  }

  #adopt(node: WorldNode, dice: Dice): void {
    if (node.adopt === undefined || !node.isAlive) return
    const executionId = `e-${dice.chance.uuid()}`
    this.say(`${node.nodeId} holds ${executionId}, which nobody knows`)
    this.#count('strangers')
    node.adopt({
      executionId,
      jobId: `j-${dice.chance.uuid()}`,
      jobSpec: sampleSpec(),
      slot: 0,
      attempt: 0,
      state: 'Running',
      message: '',
      createTimeMs: this.time.now(),
      jobCreateTimeMs: this.time.now(),
    })
  }

  // The parts.

  #startOrchestrator(): void {
    const life = (this.#life = new ProcessLife())
    this.#starts += 1
    const clock = processClock(this.time, this.#clockOf('orchestrator'), life)
    const transport = processTransport(this.#network, life, (subject) => {
      this.#count(subject.endsWith('.nudge') ? 'nudges' : 'reads')
    })
    const orchestrator = createOrchestrator({
      store: this.log.forProcess(life),
      transport: {
        ...transport,
        serve: (subject, handler) => transport.serve(subject, this.#watched(handler)),
      },
      clock,
      chance: new Dice(this.seed, 'orchestrator', this.#starts).chance,
      nodeId: 'n-orchestrator',
      limits: this.#limits,
      approveNodes: this.#approveNodes,
    })
    this.say('the orchestrator starts')
    this.#unwellMs = this.time.now()
    orchestrator.start().then(
      () => {
        if (this.#life === life) this.#orchestrator = orchestrator
      },
      (error: unknown) => {
        this.say(`the orchestrator does not start: ${String(error)}`)
        if (this.#life !== life) return
        life.kill()
        this.#life = undefined
        this.log.crash()
        this.time.schedule(2_000, () => {
          if (this.#life === undefined) this.#startOrchestrator()
        })
      },
    )
  }

  /** Notes which nodes were heard, and says in each answer when it was made. */
  #watched(handler: (body: Message, signal: AbortSignal) => Promise<Message>) {
    return async (body: Message, signal: AbortSignal): Promise<Message> => {
      this.#count('syncs')
      const { nodeId, leaving, knownRevision, observed } = body as SyncRequest
      // A goodbye counts even when what came with it cannot be stored.
      if (leaving) this.programs.saidGoodbye(nodeId)
      else this.programs.spoke(nodeId)
      const answer = await handler(body, signal)
      const { revision, complete, desired } = answer as SyncResponse
      this.#options.onLine?.(
        `        ${nodeId} knows ${knownRevision % 1e7}, reports ${observed.length}; hears of ${desired.length} up to ${revision % 1e7}${complete ? ', all' : ''}`,
      )
      if (!leaving) this.programs.heard(nodeId)
      return { ...(answer as object), answeredMs: this.time.now() }
    }
  }

  #addNode(): void {
    const nodeId = `n-${this.#nodesMade++}`
    const dice = new Dice(this.seed, 'node', nodeId)
    const kind = dice.happens(this.nodes.size > 12 ? 0 : REAL_SHARE) ? 'real' : 'light'
    const offer = randomOffer(dice, kind)
    const common = {
      nodeId,
      time: this.time,
      network: this.#networkOf(nodeId),
      watch: this.programs,
      clockError: this.#clockOf(nodeId),
      offer,
      canResume: dice.happens(0.5),
    }
    const node: WorldNode =
      kind === 'light'
        ? new LightNode({
            ...common,
            keepsLimits: dice.happens(0.7),
            behave: (execution) => this.#behaviourOf(nodeId, execution),
          })
        : new RealNode({
            ...common,
            onRequest: () => undefined,
            dice: new Dice(this.seed, 'machine', nodeId),
            dataDir: join(this.#dir, nodeId),
            natureOf: (executionId, { task: { Env } }) => this.#natureOf(executionId, Env.TEMPER as Temper),
            refuses: () => this.#refusing.get(nodeId),
            logger: {
              debug: () => undefined,
              info: () => undefined,
              warn: (fields, message) => this.say(`${nodeId} warns: ${message} ${plain(fields)}`),
              error: (fields, message) => this.say(`${nodeId} ERROR: ${message} ${plain(fields)}`),
            },
          })
    this.nodes.set(nodeId, node)
    this.programs.watches(node)
    this.say(`${nodeId} is added: ${kind}, ${JSON.stringify(offer)}`)
    this.#count(`${kind} nodes`)
    node.start()
  }

  /** The network as the processes of one node see it; what they are answered is watched. */
  #networkOf(nodeId: string): Transport {
    const network = this.#network
    return {
      ...network,
      serve: (subject, handler) => network.serve(subject, handler),
      close: async () => undefined,
      request: async (subject, body, timeoutMs) => {
        const answer = await network.request(subject, body, timeoutMs)
        const { incarnation } = body as SyncRequest
        const { answeredMs } = answer as { answeredMs: number }
        if (subject === SYNC_SUBJECT) this.programs.informed(nodeId, incarnation, answeredMs)
        return answer
      },
    }
  }

  #clockOf(who: string): ClockError {
    const known = this.#clocks.get(who)
    if (known !== undefined) return known
    const dice = new Dice(this.seed, 'clock', who)
    const error = dice.happens(0.4)
      ? new ClockError()
      : new ClockError(1 + dice.between(-0.002, 0.002), dice.between(-600_000, 600_000))
    this.#clocks.set(who, error)
    return error
  }

  #faultsOf(subject: string, direction: 'request' | 'answer', body: Message): Partial<Faults> {
    const isSync = subject === SYNC_SUBJECT
    const nodeId = isSync ? (body as SyncRequest).nodeId : (subject.split('.')[1] ?? '')
    const cut = this.#cut.get(nodeId)
    const isTowards = isSync === (direction === 'request')
    const isCut = cut !== undefined && (isTowards ? cut.towards : cut.back)
    if (isCut) this.#count('messages lost in partitions')
    return isCut ? { ...this.#faults, loss: 1 } : this.#faults
  }

  #natureOf(executionId: string, temper: Temper): Nature {
    const dice = new Dice(this.seed, 'program', executionId)
    const calm = this.#isCalm
    const runMs = {
      short: dice.between(0, 2_000),
      long: dice.between(5_000, 40_000),
      endless: Infinity,
      moody: dice.between(0, 15_000),
      hopeless: 1_000,
    }[temper]
    const isMoody = temper === 'moody' && dice.happens(0.6)
    return {
      startMs: dice.pick([0, 0, dice.between(0, 4_000)]),
      runMs,
      exitCode: dice.pick([0, 0, 0, 3]),
      ...(isMoody && !calm && { fails: 'retryable' as const }),
      ...(temper === 'hopeless' && { fails: 'hopeless' as const }),
      isStubborn: dice.happens(0.2),
      stdout: dice.pick(['', 'hello\n']),
    }
  }

  #behaviourOf(nodeId: string, { executionId, jobSpec }: DesiredExecution): Behaviour {
    const reason = this.#refusing.get(nodeId)
    if (reason !== undefined) return { runMs: 0, reject: reason, retryable: true }
    const { runMs, fails, exitCode, stdout } = this.#natureOf(executionId, temperOf(jobSpec))
    return {
      runMs,
      exitCode,
      stdout,
      ...(fails !== undefined && { fail: 'broken', retryable: fails === 'retryable' }),
    }
  }

  // What has to be true.

  #durable(change: Change, revision: Revision): void {
    this.#note(change, revision)
    for (const promise of checkChange(change, revision, this.records, this.#limits.triesMax))
      this.breaks(promise)
    for (const promise of checkPlacements(change, this.records, this.#placing)) this.breaks(promise)
    for (const one of change.executions ?? []) this.programs.stored(one)
    applyChange(change, revision, this.records)
    const now = this.time.now()
    for (const { id } of change.jobs ?? []) this.#touchedMs.set(id, now)
    for (const { nodeId, jobId } of change.executions ?? []) this.#touchedMs.set(nodeId, now).set(jobId, now)
    for (const { info } of change.nodes ?? []) this.#touchedMs.set(info.nodeId, now)
  }

  #wellForMs(): number {
    const isWell = this.#orchestrator !== undefined && this.log.faults === this.#usualDisk
    if (!isWell) this.#unwellMs = this.time.now()
    return this.time.now() - this.#unwellMs
  }

  /** Nobody waits for ever for a node that does not speak. */
  #checkLost(): void {
    const { disconnectAfterMs, lostGraceMs, sweepMs } = this.#limits
    for (const [nodeId] of this.records.nodes) {
      const silentMs = this.time.now() - Math.max(this.programs.lastSpokenMs(nodeId) ?? 0, this.#unwellMs)
      if (silentMs < disconnectAfterMs + lostGraceMs + 2 * sweepMs + LATE_MS || this.#wellForMs() < silentMs)
        continue
      const waited = [...this.records.executions.values()].find(
        (one) =>
          one.nodeId === nodeId &&
          one.desired.state === 'Running' &&
          !isTerminalObservedState(one.observed.state),
      )
      if (waited !== undefined)
        this.breaks(`${waited.id} is waited for although ${nodeId} is silent for ${silentMs} ms`)
    }
  }

  /** Limits of jobs are kept, give or take what a busy orchestrator needs. */
  #checkLimits(): void {
    const late = LATE_MS
    if (this.#wellForMs() < late) return
    const shown = this.#clockOf('orchestrator').shown(this.time.now())
    for (const job of this.records.jobs.values()) {
      if (isTerminalJobState(job.state)) continue
      const [totalMs, queueMs] = [totalTimeoutMs(job.spec), queueTimeoutMs(job.spec)]
      const ageMs = shown - job.createTimeMs
      if (totalMs !== undefined && ageMs > totalMs + late)
        this.breaks(`${job.id} lives ${ageMs} ms, its limit is ${totalMs}`)
      const hasBegun = (this.records.byJob.get(job.id) ?? []).length > 0
      const mayWait = job.spec.Type === 'daemon' || hasBegun
      if (!mayWait && ageMs > queueMs + late)
        this.breaks(`${job.id} waits ${ageMs} ms for nodes, its limit is ${queueMs}`)
    }
  }

  #note(change: Change, revision: Revision): void {
    const parts = [
      ...(change.jobs ?? []).map(
        (job) => `${job.id} ${job.state}${job.message === '' ? '' : ` "${job.message.slice(0, 60)}"`}`,
      ),
      ...(change.executions ?? []).map(shown),
      ...(change.nodes ?? []).map((one) => `${one.info.nodeId} ${one.membership} ${one.connection}`),
      ...(change.deleteNodes ?? []).map((id) => `without ${id}`),
      ...(change.evaluations ?? []).map((one) => `look at ${one.jobId.slice(0, 10)} (${one.trigger})`),
    ]
    this.say(`r${revision} ${parts.join(' | ')}`)
  }

  async #healAndCheck(): Promise<void> {
    this.say('--- everything heals')
    this.#isCalm = true
    this.#faults = {}
    this.#cut.clear()
    this.#refusing.clear()
    this.log.faults = this.#usualDisk
    this.log.onCommit = () => undefined
    await this.time.pass(1_000)
    for (const node of this.nodes.values()) {
      if (node instanceof RealNode) node.disk = { isFull: false, slowMsMax: 0 }
      if (!node.isAlive) this.#returns(node)
    }
    // Every plan that was made for later has happened.
    await this.time.pass(60_000)
    this.#faults = {}
    this.#cut.clear()
    this.#refusing.clear()
    this.log.faults = SOUND_DISK
    for (const node of this.nodes.values()) {
      if (node instanceof RealNode) node.disk = { isFull: false, slowMsMax: 0 }
      if (!node.isAlive) this.#returns(node)
    }
    if (this.#orchestrator === undefined) {
      this.breaks('the orchestrator does not come back')
      this.#throwBroken()
      return
    }
    for (const { info } of await this.#orchestrator.nodes({ membership: 'PENDING' })) {
      // Not waited for: that takes time, and time passes only below.
      void this.#orchestrator.updateNode(info.nodeId, 'approve', '')
    }
    this.users.insist(this.#orchestrator, new Dice(this.seed, 'last wish'))
    await this.#until('steady', 200_000)
    for (const job of this.records.jobs.values()) {
      const isLasting = job.spec.Type === 'service' || job.spec.Type === 'daemon'
      if (isLasting && !isTerminalJobState(job.state)) this.users.stop(this.#orchestrator, job.id)
    }
    await this.#until('over', 500_000)
    await this.#checkQuiet()
    this.#throwBroken()
  }

  /** Lets time pass until all is as it has to be, at most so long. */
  async #until(phase: EndView['phase'], patienceMs: number): Promise<void> {
    let problems: string[] = []
    for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += LOOK_MS) {
      await this.time.pass(LOOK_MS)
      problems = await this.#problems(phase)
      this.#throwBroken()
      if (problems.length === 0) return
    }
    for (const problem of problems) this.breaks(`${phase}: ${problem}`)
    this.#throwBroken()
  }

  async #problems(phase: EndView['phase']): Promise<string[]> {
    return checkEnd({
      phase,
      records: this.records,
      snapshot: await this.log.snapshot(),
      store: this.log.memory,
      nodes: [...this.nodes.values()],
      acknowledged: this.users.acknowledged,
      finished: this.programs.finished,
      begun: this.programs.begun,
      steppedBack: (who) => this.#clocks.get(who)?.steps.some(({ byMs }) => byMs < 0) ?? false,
    })
  }

  /** Nothing is left to do, so nothing is done but to say that one is there. */
  async #checkQuiet(): Promise<void> {
    const [before, commitsBefore] = [{ ...this.counts }, this.log.commits]
    await this.time.pass(60_000)
    const syncs = (this.counts.syncs ?? 0) - (before.syncs ?? 0)
    const nudges = (this.counts.nudges ?? 0) - (before.nudges ?? 0)
    const commits = this.log.commits - commitsBefore
    const usual = this.nodes.size * (60 / 5 + 2)
    if (syncs > usual) this.breaks(`quiet: ${syncs} syncs of ${this.nodes.size} nodes in a minute`)
    if (nudges > 0) this.breaks(`quiet: ${nudges} nudges although nothing happens`)
    // The time of the last contact is written down once a minute.
    if (commits > this.nodes.size * 2) this.breaks(`quiet: ${commits} commits although nothing happens`)
  }
}

type Revision = number
/** Memory is faster than a disk, and nothing here has to survive. */
const SCRATCH = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
const START_MS = 1_800_000_000_000
/** After so long without news the orchestrator has had its time to act. */
const CALM_MS = 6_000
/** How late a limit may be noticed; a clock that was set back makes timers late by as much as they were long. */
const LATE_MS = 25_000
/** Between two looks at whether all is well again. */
const LOOK_MS = 20_000
/** How many of the nodes run the real compute node. */
const REAL_SHARE = 0.5

function shown({ id, nodeId, slot, attempt, desired, observed }: Execution): string {
  return `${id.slice(0, 10)} ${slot}.${attempt} ${nodeId} ${desired.state}/${observed.state}#${observed.sequence}`
}

function plain(fields: object): string {
  return Object.entries(fields)
    .map(([key, value]) => `${key}=${value instanceof Error ? value.message : String(value)}`)
    .join(' ')
    .replaceAll(/\/[^ ]*weir-world-[^/]*/g, '')
}

function randomOffer(dice: Dice, kind: WorldNode['kind']): NodeOffer {
  const labels: Record<string, string> = {}
  for (const key of ['zone', 'disk', 'cores']) if (dice.happens(0.7)) labels[key] = randomLabel(key, dice)
  const acceptsNetworkedJobs = kind === 'light' && dice.happens(0.3)
  return {
    labels,
    cpu: dice.pick([1, 2, 4, 8]),
    memoryBytes: dice.pick([2e9, 8e9]),
    publishers: dice.happens(0.7) ? ['local'] : [],
    acceptsNetworkedJobs,
    allow: acceptsNetworkedJobs && dice.happens(0.7) ? ['example.com'] : [],
  }
}
