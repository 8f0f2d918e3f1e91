import type { JobSpec, JobType } from '../../../src/model/index.js'
import type { Orchestrator } from '../../../src/orchestrator/index.js'
import { isWeirError } from '../../../src/errors.js'
import { sampleSpec } from '../samples.js'
import type { Dice } from './dice.js'

/** What users were told, which has to stay true. */
export interface Acknowledged {
  /** Job by id, with what was asked for. */
  jobs: Map<string, JobSpec>
  /** By idempotency token: the jobs that answers named; more than one is a broken promise. */
  tokens: Map<string, Set<string>>
  /** Jobs whose stop was acknowledged. */
  stopped: Set<string>
}

/** How the programs of a job behave; written into its environment. */
export type Temper = 'short' | 'long' | 'endless' | 'moody' | 'hopeless'

export function temperOf({ Tasks: [{ Env }] }: JobSpec): Temper {
  return (Env.TEMPER ?? 'short') as Temper
}

/** People who submit, stop and ask, and who try again when they get no answer. */
export class Users {
  readonly acknowledged: Acknowledged = { jobs: new Map(), tokens: new Map(), stopped: new Set() }
  /** Nobody answered yet, or with an error that may pass. */
  readonly #open = new Map<string, JobSpec>()
  readonly #say: (line: string) => void
  /** Reads that found something that cannot be. */
  readonly broken: string[] = []
  readonly #forgotten = new Set<string>()
  #tokens = 0

  constructor(say: (line: string) => void) {
    this.#say = say
  }

  /** The records of the job are lost by no fault of the orchestrator. */
  forget(jobId: string, token: string | undefined): void {
    this.#forgotten.add(jobId)
    this.acknowledged.jobs.delete(jobId)
    this.acknowledged.stopped.delete(jobId)
    if (token !== undefined) this.acknowledged.tokens.delete(token)
  }

  submit(orchestrator: Orchestrator, dice: Dice, isCrowd = false): void {
    const spec = isCrowd && dice.happens(0.8) ? crowdSpec(dice) : randomSpec(dice)
    const token = dice.happens(0.5) ? `token-${++this.#tokens}` : undefined
    this.#send(orchestrator, spec, token)
    // Impatient: the same again before there is an answer.
    if (token !== undefined && dice.happens(0.3)) this.#send(orchestrator, spec, token)
  }

  /** Those who got no answer, or lost it, ask once more. */
  insist(orchestrator: Orchestrator, dice: Dice): void {
    const known = [...this.acknowledged.tokens.keys()]
    for (const [token, spec] of this.#open) this.#send(orchestrator, spec, token)
    if (known.length === 0 || !dice.happens(0.5)) return
    const token = dice.pick(known)
    const [jobId = ''] = this.acknowledged.tokens.get(token) ?? []
    const spec = this.acknowledged.jobs.get(jobId)
    if (spec !== undefined) this.#send(orchestrator, spec, token)
  }

  stop(orchestrator: Orchestrator, jobId: string): void {
    this.#say(`a user stops ${jobId}`)
    orchestrator.stop(jobId, 'simulated').then(
      () => {
        if (!this.#forgotten.has(jobId)) this.acknowledged.stopped.add(jobId)
        this.#say(`${jobId} is stopped`)
      },
      (error: unknown) => this.#say(`stopping ${jobId}: ${String(error)}`),
    )
  }

  /** Looks at a job in every way there is. */
  ask(orchestrator: Orchestrator, jobId: string): void {
    const look = async (): Promise<void> => {
      const job = await orchestrator.job(jobId.slice(0, 12))
      const executions = await orchestrator.executions(jobId)
      const { events } = await orchestrator.history(jobId, { level: 'all', afterSequence: 0, limit: 0 })
      await orchestrator.results(jobId)
      await orchestrator.jobs({ orderBy: 'created_at', reverse: true, limit: 5, offset: 0 })
      if (job.id !== jobId || events.length === 0) this.broken.push(`a look at ${jobId} finds ${job.id}`)
      if (executions.some((one) => one.jobId !== jobId)) this.broken.push(`${jobId} shows strange executions`)
    }
    look().catch((error: unknown) => {
      if (isWeirError(error, 'store.unavailable', 'job.ambiguous') || this.#forgotten.has(jobId)) return
      this.broken.push(`a look at acknowledged ${jobId} fails: ${String(error)}`)
    })
  }

  #send(orchestrator: Orchestrator, spec: JobSpec, token: string | undefined): void {
    if (token !== undefined) this.#open.set(token, spec)
    orchestrator
      .submit({ spec, clientMeta: {}, ...(token === undefined ? {} : { idempotencyToken: token }) })
      .then(
        ({ jobId }) => {
          this.#say(
            `submitted ${jobId}: ${spec.Type} x${spec.Count} priority ${spec.Priority} ${token ?? ''}`,
          )
          // The answer may come just after the records are lost.
          if (this.#forgotten.has(jobId)) return
          this.acknowledged.jobs.set(jobId, spec)
          if (token === undefined) return
          this.#open.delete(token)
          const known = this.acknowledged.tokens.get(token) ?? new Set()
          this.acknowledged.tokens.set(token, known.add(jobId))
        },
        (error: unknown) => this.#say(`submission ${token ?? ''} refused: ${String(error)}`),
      )
  }
}

const TYPES: Readonly<Record<JobType, number>> = { batch: 10, ops: 3, service: 3, daemon: 3 }

function randomSpec(dice: Dice): JobSpec {
  const Type = dice.weighted(TYPES)
  const isLasting = Type === 'service' || Type === 'daemon'
  const temper = dice.weighted<Temper>({
    short: 8,
    long: 4,
    endless: isLasting ? 20 : 2,
    moody: 4,
    hopeless: 1,
  })
  const isNetworked = dice.happens(0.08)
  return sampleSpec({
    Type,
    Count: Type === 'batch' || Type === 'service' ? dice.pick([1, 1, 1, 2, 2, 3, 5]) : 1,
    Priority: dice.happens(0.3) ? dice.whole(0, 100) : 0,
    Constraints: dice.happens(Type === 'daemon' ? 0.7 : 0.3) ? [randomConstraint(dice)] : [],
    task: {
      Env: { TEMPER: temper },
      Publisher: { Type: dice.happens(0.15) ? 'local' : '' },
      Network: isNetworked ? { Type: 'HTTP', Domains: ['example.com'] } : { Type: 'None', Domains: [] },
      Resources: {
        CPU: dice.pick(['500m', '500m', '1', '2', '3.5', '7']),
        Memory: dice.pick(['100mb', '1gb', '']),
        Disk: '',
        GPU: '',
      },
      Timeouts: {
        ExecutionTimeout: dice.happens(0.3) || (temper === 'endless' && !isLasting) ? dice.whole(3, 40) : 0,
        QueueTimeout: dice.happens(0.85) ? dice.whole(5, 120) : 0,
        TotalTimeout: dice.happens(0.2) ? dice.whole(20, 150) : 0,
      },
    },
  })
}

/** One of many jobs that want the same few nodes, patient and of different weight. */
function crowdSpec(dice: Dice): JobSpec {
  return sampleSpec({
    Type: 'batch',
    Priority: dice.whole(0, 3),
    task: {
      Env: { TEMPER: dice.pick(['short', 'long', 'long']) },
      Resources: { CPU: dice.pick(['500m', '1', '2', '3.5']), Memory: '100mb', Disk: '', GPU: '' },
      Timeouts: { ExecutionTimeout: 0, QueueTimeout: 240, TotalTimeout: 0 },
    },
  })
}

function randomConstraint(dice: Dice): JobSpec['Constraints'][number] {
  const Key = `${dice.happens(0.15) ? 'favour_' : ''}${dice.pick(['zone', 'disk', 'cores'])}`
  const value = (): string => randomLabel(Key.replace('favour_', ''), dice)
  switch (dice.whole(0, 8)) {
    case 0:
      return { Key, Operator: '=', Values: [value()] }
    case 1:
      return { Key, Operator: '==', Values: [value()] }
    case 2:
      return { Key, Operator: '!=', Values: [value()] }
    case 3:
      return { Key, Operator: 'in', Values: [value(), value()] }
    case 4:
      return { Key, Operator: 'notin', Values: [value(), value()] }
    case 5:
      return { Key, Operator: 'exists', Values: [] }
    case 6:
      return { Key, Operator: '!', Values: [] }
    case 7:
      return { Key, Operator: 'gt', Values: [String(dice.whole(0, 12))] }
    default:
      return { Key, Operator: 'lt', Values: [String(dice.whole(0, 12))] }
  }
}

/** A value that a label of this name may have. */
export function randomLabel(key: string, dice: Dice): string {
  if (key === 'cores') return String(dice.whole(1, 12))
  return key === 'zone' ? dice.pick(['a', 'b', 'c']) : dice.pick(['ssd', 'hdd'])
}
