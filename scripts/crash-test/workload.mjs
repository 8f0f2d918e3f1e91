import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { PACKAGE_ROOT } from '../../dist/package-root.js'

const LINES = 12
const ENDED = ['Completed', 'Failed', 'Stopped']

/**
 * What the jobs are, and what each must have come to. Containers count lines and leave marks in a directory that all of
 * them see, so that two executions of one job at the same time are found out.
 */
const KINDS = {
  counter: { engine: 'docker', script: counting(LINES, 'sleep 0.25', 0), end: 'Completed', exitCode: 0 },
  quick: { engine: 'docker', script: counting(3, 'true', 0), end: 'Completed', exitCode: 0 },
  'exit 3': { engine: 'docker', script: counting(2, 'true', 3), end: 'Completed', exitCode: 3 },
  published: {
    engine: 'docker',
    script: `${counting(4, 'sleep 0.1', 0)}; seq 1 20000 > /outputs/numbers`,
    end: 'Completed',
    exitCode: 0,
    publishes: true,
  },
  stopped: { engine: 'docker', script: 'exec sleep 3600', end: 'Stopped', isStopped: true },
  'too long': { engine: 'docker', script: 'exec sleep 3600', end: 'Failed', timeoutSeconds: 3 },
  service: { engine: 'docker', type: 'service', script: 'exec sleep 3600', end: 'Running' },
  ops: { engine: 'docker', type: 'ops', script: counting(2, 'true', 0), end: 'Completed', exitCode: 0 },
  hello: { engine: 'wasm', module: 'hello', end: 'Completed', exitCode: 0 },
  'wasm exit 3': { engine: 'wasm', module: 'exit-3', end: 'Completed', exitCode: 3 },
  'no node': { engine: 'wasm', module: 'noop', cpu: '100000', end: 'Failed' },
}

/** How often each kind is drawn. */
const WEIGHTS = { counter: 5, quick: 3, published: 2, hello: 4, stopped: 2 }
/** They never end, so there are few. */
const ONCE = ['service']

/** Submits jobs for as long as it is told to, across crashes, and keeps what the server acknowledged. */
export class Workload {
  /** One per job that was sent at least once. */
  sent = []
  #parts
  #isStopping = false
  #stops = new Set()

  constructor(parts) {
    this.#parts = parts
  }

  async submitUntilStopped(activeMax) {
    while (!this.#isStopping) {
      if (this.active.length < activeMax) await this.#submitOne()
      await this.#look()
      await sleep(100)
    }
  }

  async stopSubmitting() {
    this.#isStopping = true
    await Promise.allSettled(this.#stops)
  }

  /** Every job that ends, ends; bounded. */
  async waitForEnds(timeoutMs) {
    const end = Date.now() + timeoutMs
    while (Date.now() < end && this.active.length > 0) {
      await this.#look()
      await sleep(250)
    }
  }

  /** Nothing that runs on is left behind. */
  async endServices() {
    for (const { id, expected } of this.sent) {
      if (expected.end === 'Running') await this.#parts.client.stop(id, 'the crash test is over')
    }
    await this.#nothingRuns(30_000)
  }

  summary() {
    const acknowledged = this.sent.filter(({ id }) => id !== undefined)
    const states = new Map()
    for (const { state = 'unknown' } of acknowledged) states.set(state, (states.get(state) ?? 0) + 1)
    const counts = [...states].map(([state, count]) => `${count} ${state}`).join(', ')
    return `${acknowledged.length} acknowledged: ${counts}`
  }

  async #submitOne() {
    const { client, random } = this.#parts
    const name = `job-${this.sent.length}`
    const kind = this.#draw()
    const entry = { name, token: `token-of-${name}`, kind, expected: KINDS[kind], state: 'Pending' }
    const spec = this.#spec(entry)
    this.sent.push(entry)
    // The same token until somebody answers: it must come to one job, whatever was written before the crash.
    entry.id = (await this.#insist(() => client.submit(spec, { idempotencyToken: entry.token })))?.JobID
    if (entry.id === undefined || entry.expected.isStopped !== true) return
    const stopping = this.#stopSoon(entry, random() * 3_000)
    this.#stops.add(stopping)
    void stopping.finally(() => this.#stops.delete(stopping))
  }

  async #stopSoon(entry, waitMs) {
    await sleep(waitMs)
    const answer = await this.#insist(() => this.#parts.client.stop(entry.id, 'crash test'))
    entry.stopAcknowledged = answer !== undefined
  }

  /** Until the server answers; a refusal is kept as a problem. */
  async #insist(call) {
    for (const end = Date.now() + 120_000; Date.now() < end; ) {
      try {
        return await call()
      } catch (error) {
        // `job.terminal` is the answer to a stop whose first acknowledgement was lost.
        if (error.code === 'job.terminal') return {}
        if (!isAway(error)) throw error
        await sleep(50)
      }
    }
    return undefined
  }

  async #nothingRuns(timeoutMs) {
    for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(100)) {
      const nodes = await this.#parts.client.nodes()
      if (nodes.every(({ Info }) => (Info.ComputeNodeInfo?.RunningExecutions ?? 0) === 0)) return
    }
  }

  async #look() {
    for (const entry of this.sent) {
      if (entry.id === undefined || this.#isOver(entry)) continue
      try {
        entry.state = (await this.#parts.client.job(entry.id)).Job.State.StateType
      } catch (error) {
        // What is gone for good is found by the verdict.
        if (!isAway(error)) entry.state = `${error.code}`
      }
    }
  }

  /** Those that are not where they have to come to. */
  get active() {
    return this.sent.filter((entry) => entry.id === undefined || !this.#isOver(entry))
  }

  #isOver({ state, expected }) {
    return ENDED.includes(state) || (expected.end === 'Running' && state === 'Running')
  }

  #draw() {
    const { random, image } = this.#parts
    const kinds = Object.keys(KINDS).filter(
      (kind) =>
        (image !== '' || KINDS[kind].engine !== 'docker') &&
        !(ONCE.includes(kind) && this.sent.some((entry) => entry.kind === kind)),
    )
    const tickets = kinds.flatMap((kind) => Array.from({ length: WEIGHTS[kind] ?? 1 }, () => kind))
    return tickets[Math.floor(random() * tickets.length)]
  }

  #spec({ name, expected }) {
    const { image, marks } = this.#parts
    const { engine, script, module, type = 'batch', timeoutSeconds, cpu = '0.05', publishes } = expected
    const isContainer = engine === 'docker'
    return {
      Name: name,
      Type: type,
      Count: 1,
      Labels: { crash: name },
      Tasks: [
        {
          Name: 'main',
          Engine: isContainer
            ? { Type: engine, Params: { Image: image, Entrypoint: ['sh', '-c'], Parameters: [script] } }
            : { Type: engine, Params: { EntryModule: inlineModule(module) } },
          Env: { MARK: name },
          ...(isContainer
            ? {
                InputSources: [
                  {
                    Source: { Type: 'localDirectory', Params: { SourcePath: marks, ReadWrite: true } },
                    Target: '/marks',
                  },
                ],
              }
            : {}),
          ...(publishes === true
            ? {
                Publisher: { Type: 'local' },
                ResultPaths: [{ Name: 'outputs', Path: '/outputs' }],
              }
            : {}),
          Resources: { CPU: cpu, Memory: isContainer ? '32mb' : '128mb' },
          Timeouts:
            timeoutSeconds === undefined
              ? { QueueTimeout: expected.end === 'Failed' ? 0 : 600 }
              : { TotalTimeout: timeoutSeconds },
        },
      ],
    }
  }
}

/** What a program of this kind prints. */
export function expectedOutput({ name, expected }) {
  if (expected.engine === 'wasm') return expected.module === 'hello' ? undefined : ''
  const [, lines = '0'] = /-lt (\d+)/.exec(expected.script) ?? []
  return Array.from({ length: Number(lines) }, (_, line) => `${name} line ${line}\n`).join('')
}

/** Each line is also a mark of its execution in a file that all tries of the job share. */
function counting(lines, pause, exitCode) {
  const both = 'echo "$WEIR_EXECUTION_ID" >> "/marks/$MARK"; echo "$MARK line $i"'
  const count = `i=0; while [ $i -lt ${lines} ]; do ${both}; i=$((i+1)); ${pause}; done`
  return exitCode === 0 ? count : `${count}; exit ${exitCode}`
}

function inlineModule(name) {
  const bytes = readFileSync(join(PACKAGE_ROOT, `test/fixtures/wasm/bin/${name}.wasm`)).toString('base64')
  return {
    Source: { Type: 'inline', Params: { URL: `data:application/wasm;base64,${bytes}` } },
    Target: `/${name}.wasm`,
  }
}

/** True when nobody answered, or the server was just going. */
export function isAway(error) {
  return (
    ['api.unreachable', 'api.overload', 'store.unavailable'].includes(error.code) || error.retryable === true
  )
}
