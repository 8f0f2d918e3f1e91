import { DEFAULT_LIMITS, createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import { isTerminalJobState, isTerminalObservedState } from '../../src/model/index.js'
import type { Execution, Job } from '../../src/model/index.js'
import type { Change, JobStore } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport, type Faults } from '../../src/transports/index.js'
import { sampleSpec } from './samples.js'
import { SimulatedNode } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const NODES = 4
const STEPS = 12
const STEP_MS = 20_000

/** What one simulated world came to. */
export interface SimulationResult {
  jobs: number
  completed: number
  executions: number
  nodeKills: number
  restarts: number
  /** Executions that nodes held and the orchestrator did not know. */
  strangers: number
}

/**
 * One orchestrator and some nodes on a network that loses, repeats, delays and reorders messages; nodes are killed and
 * come back, the orchestrator is restarted, users submit and stop jobs. Then the network heals and time passes. Throws
 * when a promise is broken, naming the seed: the same seed always gives the same world.
 */
export async function simulate(seed: number): Promise<SimulationResult> {
  const world = new World(seed)
  try {
    return await world.run()
  } catch (error) {
    throw new Error(
      `simulation with seed ${seed}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    )
  } finally {
    await world.close()
  }
}

class World {
  readonly #clock = new VirtualClock()
  readonly #chance
  readonly #store: JobStore = openMemoryStore()
  readonly #transport
  readonly #nodes: SimulatedNode[] = []
  readonly #submitted: string[] = []
  readonly #watching = new AbortController()
  readonly #broken: string[] = []
  #faults: Partial<Faults>
  #orchestrator: Orchestrator | undefined
  #kills = 0
  #restarts = 0
  #strangers = 0

  constructor(seed: number) {
    const chance = (this.#chance = seededChance(seed))
    this.#faults = { loss: 0.15, repeat: 0.2, delayMsMin: 0, delayMsMax: 2_500 }
    this.#transport = createInProcessTransport({ clock: this.#clock, chance, faults: () => this.#faults })
  }

  async run(): Promise<SimulationResult> {
    void this.#checkEachCommit()
    await this.#startOrchestrator()
    for (let index = 0; index < NODES; index++) await this.#addNode(`n-${index}`)
    for (let step = 0; step < STEPS; step++) {
      await this.#disturb()
      await this.#clock.pass(this.#chance.random() * STEP_MS)
    }
    await this.#heal()
    await this.#checkEnd()
    const executions = await this.#allExecutions()
    const jobs = await this.#jobs()
    return {
      jobs: jobs.length,
      completed: jobs.filter((job) => job.state === 'Completed').length,
      executions: executions.length,
      nodeKills: this.#kills,
      restarts: this.#restarts,
      strangers: this.#strangers,
    }
  }

  async close(): Promise<void> {
    this.#watching.abort()
    for (const node of this.#nodes) await node.kill()
    await this.#orchestrator?.close()
    await this.#transport.close()
    await this.#store.close()
  }

  async #startOrchestrator(): Promise<void> {
    const orchestrator = createOrchestrator({
      store: this.#store,
      transport: this.#transport,
      clock: this.#clock,
      chance: this.#chance,
      nodeId: 'n-orchestrator',
      limits: { disconnectAfterMs: 15_000, lostGraceMs: 10_000, sweepMs: 2_500 },
    })
    await orchestrator.start()
    this.#orchestrator = orchestrator
  }

  async #addNode(nodeId: string): Promise<void> {
    const node = new SimulatedNode({
      nodeId,
      transport: this.#transport,
      clock: this.#clock,
      syncIntervalMs: 5_000,
      behave: () => {
        const dice = this.#chance.random()
        if (dice < 0.1) return { runMs: 0, reject: 'not now', retryable: true }
        if (dice < 0.25) return { runMs: 2_000, fail: 'broken' }
        // Short ones end while messages about their start are still under way.
        return { runMs: this.#chance.random() * (dice < 0.6 ? 1_500 : 30_000) }
      },
    })
    this.#nodes.push(node)
    await node.start()
  }

  /** Something goes wrong, or somebody wants something. */
  async #disturb(): Promise<void> {
    const dice = this.#chance.random()
    const node = this.#nodes[Math.floor(this.#chance.random() * NODES)]
    if (dice < 0.2 && node !== undefined) {
      if (node.isAlive) await node.kill()
      else await node.start()
      this.#kills += 1
    } else if (dice < 0.35) {
      await this.#orchestrator?.close()
      this.#orchestrator = undefined
      this.#restarts += 1
      await this.#clock.pass(this.#chance.random() * 30_000)
      await this.#forgetSomething()
      await this.#startOrchestrator()
    } else if (dice < 0.45 && this.#submitted.length > 0) {
      const id = this.#submitted[Math.floor(this.#chance.random() * this.#submitted.length)] ?? ''
      await this.#orchestrator?.stop(id, 'simulated').catch(() => undefined)
    } else {
      const type = this.#chance.random() < 0.8 ? 'batch' : 'ops'
      const Count = type === 'batch' ? 1 + Math.floor(this.#chance.random() * 3) : 1
      const Timeouts = { ExecutionTimeout: 0, QueueTimeout: 120, TotalTimeout: 0 }
      const spec = sampleSpec({ Type: type, Count, task: { Timeouts } })
      const submitted = await this.#orchestrator?.submit({ spec, clientMeta: {} })
      if (submitted !== undefined) this.#submitted.push(submitted.jobId)
    }
  }

  /** While the orchestrator is away its store is restored from an older copy: nodes hold what it does not know. */
  async #forgetSomething(): Promise<void> {
    const dice = this.#chance.random()
    const id = this.#submitted[Math.floor(this.#chance.random() * this.#submitted.length)]
    if (dice < 0.3 && id !== undefined) {
      const known = (await this.#store.snapshot()).executionsOfJob(id)
      this.#strangers += known.filter((one) => !isTerminalObservedState(one.observed.state)).length
      await this.#store.commit({ deleteJobs: [id] })
    } else if (dice < 0.6) {
      const node = this.#nodes[Math.floor(this.#chance.random() * NODES)]
      const executionId = `e-${this.#chance.uuid()}`
      node?.adopt({
        executionId,
        jobId: `j-${this.#chance.uuid()}`,
        jobSpec: sampleSpec(),
        slot: 0,
        attempt: 0,
        state: 'Running',
        message: '',
        createTimeMs: this.#clock.now(),
        jobCreateTimeMs: this.#clock.now(),
      })
      this.#strangers += 1
    }
  }

  /** The network is perfect, all nodes are there, and all timeouts pass. */
  async #heal(): Promise<void> {
    this.#faults = {}
    for (const node of this.#nodes) if (!node.isAlive) await node.start()
    await this.#clock.pass(400_000)
  }

  /** Runs beside the world and looks at each commit as it happens. */
  async #checkEachCommit(): Promise<void> {
    const { revision } = await this.#store.snapshot()
    const states = new Map<string, Job['state']>()
    for await (const { change } of this.#store.watch(revision, this.#watching.signal)) {
      this.#checkJobs(change, states)
      for (const execution of change.executions ?? []) await this.#checkCount(execution)
    }
  }

  #checkJobs(change: Change, states: Map<string, Job['state']>): void {
    for (const job of change.jobs ?? []) {
      const before = states.get(job.id)
      if (before !== undefined && isTerminalJobState(before))
        this.#broken.push(`${job.id} changed after its end`)
      states.set(job.id, job.state)
    }
  }

  async #checkCount({ jobId }: Execution): Promise<void> {
    const snapshot = await this.#store.snapshot()
    const job = snapshot.job(jobId)
    if (job === undefined || job.spec.Type !== 'batch') return
    const active = snapshot
      .executionsOfJob(jobId)
      .filter((one) => one.desired.state === 'Running' && !isTerminalObservedState(one.observed.state))
    if (active.length > job.spec.Count)
      this.#broken.push(`${jobId} wants ${active.length} of ${job.spec.Count}`)
  }

  async #checkEnd(): Promise<void> {
    const problems = [...this.#broken]
    const snapshot = await this.#store.snapshot()
    for (const job of await this.#jobs())
      problems.push(...(await this.#checkJob(job, snapshot.executionsOfJob(job.id))))
    for (const node of this.#nodes) {
      if (node.running.length > 0) problems.push(`${node.nodeId} still runs ${node.running.join(', ')}`)
      const unknown = node.held.filter((id) => snapshot.execution(id) === undefined)
      if (unknown.length > 0) problems.push(`${node.nodeId} keeps ${unknown.join(', ')}, which nobody knows`)
      for (const [id, starts] of node.starts)
        if (starts > 1) problems.push(`${id} was started ${starts} times`)
    }
    for (const job of snapshot.activeJobs()) {
      const open = snapshot
        .executionsOfJob(job.id)
        .filter((one) => !isTerminalObservedState(one.observed.state))
      const shown = open.map(
        (one) => `${one.id} on ${one.nodeId}: ${one.desired.state}/${one.observed.state}`,
      )
      problems.push(`${job.id} is ${job.state} and still active: ${shown.join(', ')}`)
    }
    const left = [...snapshot.evaluations()].map((evaluation) => evaluation.id)
    if (left.length > 0) problems.push(`evaluations are left: ${left.join(', ')}`)
    if (problems.length > 0) throw new Error(problems.slice(0, 5).join('; '))
  }

  async #checkJob(job: Job, executions: readonly Execution[]): Promise<string[]> {
    const problems: string[] = []
    if (!isTerminalJobState(job.state)) problems.push(`${job.id} is ${job.state} for ever: ${job.message}`)
    const completed = executions.filter((one) => one.observed.state === 'Completed')
    const slots = new Set(completed.map((one) => one.slot))
    if (job.spec.Type === 'batch' && job.state === 'Completed' && slots.size < job.spec.Count) {
      problems.push(`${job.id} is Completed with ${slots.size} of ${job.spec.Count} slots`)
    }
    for (let slot = 0; slot < job.spec.Count && job.spec.Type === 'batch'; slot++) {
      const tries = executions.filter((one) => one.slot === slot && one.observed.state !== 'Rejected')
      if (tries.length > DEFAULT_LIMITS.triesMax)
        problems.push(`${job.id} tried slot ${slot} ${tries.length} times`)
    }
    const { events } = await this.#store.history(job.id, { level: 'all', afterSequence: 0, limit: 0 })
    // A job may be queued, and running again, more than once; an execution goes forward only.
    const said = events
      .filter((event) => event.executionId !== undefined)
      .map((event) => `${event.executionId} ${event.topic} ${event.message}`)
    if (new Set(said).size !== said.length)
      problems.push(`${job.id} has a history line twice: ${said.join(' | ')}`)
    if (events[0]?.message !== 'Job submitted') problems.push(`${job.id} has no first line`)
    return problems
  }

  async #jobs(): Promise<Job[]> {
    return (await this.#store.listJobs({ orderBy: 'created_at', reverse: false, limit: 0, offset: 0 })).jobs
  }

  async #allExecutions(): Promise<Execution[]> {
    const snapshot = await this.#store.snapshot()
    return (await this.#jobs()).flatMap((job) => [...snapshot.executionsOfJob(job.id)])
  }
}
