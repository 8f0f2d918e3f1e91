import { setTimeout as sleep } from 'node:timers/promises'
import type { JobState } from '../../../src/model/index.js'
import { GoCli, goTask } from './go-cli.js'
import { startNetwork, type Network, type NetworkOptions } from './network.js'

/** Ids of jobs of every type and in every state that lasts. */
export interface PopulatedNetwork extends Network {
  jobs: Record<
    | 'completed'
    | 'published'
    | 'exitThree'
    | 'failed'
    | 'stopped'
    | 'queued'
    | 'opsCompleted'
    | 'opsFailed'
    | 'service'
    | 'daemon',
    string
  >
  cli: GoCli
}

/** A network in which something of everything happened, by running real programs. */
export async function startPopulatedNetwork(options: NetworkOptions = {}): Promise<PopulatedNetwork> {
  const network = await startNetwork(options)
  const cli = new GoCli(network.url)
  const submit = async (type: string, script: string, task: object = {}, job: object = {}) =>
    (await cli.submit({ Type: type, Tasks: [goTask(['sh', '-c', script], task)], ...job })).JobID as string
  const mars = { Constraints: [{ Key: 'region', Operator: '=', Values: ['mars'] }] }
  const results = {
    Publisher: { Type: 'local' },
    ResultPaths: [{ Name: 'outputs', Path: '/outputs' }],
    Env: { GREETING: 'hello' },
    Timeouts: { ExecutionTimeout: 60, QueueTimeout: 10, TotalTimeout: 90 },
    InputSources: [
      { Source: { Type: 'inline', Params: { URL: 'data:,abc' } }, Alias: 'in', Target: '/inputs/a' },
    ],
  }
  const jobs = {
    completed: await submit('batch', 'echo out; echo err >&2', {}, { Labels: { team: 'x' } }),
    published: await submit('batch', 'echo hi', results),
    exitThree: await submit('batch', 'exit 3'),
    failed: await submit('batch', '', { Engine: NO_PROGRAM }),
    stopped: await submit('batch', 'sleep 600'),
    queued: await submit('batch', 'true', { Timeouts: { QueueTimeout: 600 } }, mars),
    opsCompleted: await submit('ops', 'echo ops'),
    opsFailed: await submit('ops', 'true', {}, mars),
    service: await submit('service', 'echo serving; sleep 600'),
    daemon: await submit('daemon', 'echo here; sleep 600'),
  }
  await cli.stop(jobs.stopped)
  const expected: Record<keyof typeof jobs, JobState> = {
    completed: 'Completed',
    published: 'Completed',
    exitThree: 'Completed',
    failed: 'Failed',
    stopped: 'Stopped',
    queued: 'Queued',
    opsCompleted: 'Completed',
    opsFailed: 'Failed',
    service: 'Running',
    daemon: 'Running',
  }
  for (const [name, state] of Object.entries(expected)) {
    await untilState(cli, jobs[name as keyof typeof jobs], state)
  }
  for (const id of [jobs.service, jobs.daemon]) {
    await until(async () => (await cli.executions(id)).Items[0]?.ComputeState.StateType === 6)
  }
  return { ...network, jobs, cli }
}

/** A program that does not exist: the engine fails, not the program. */
const NO_PROGRAM = {
  Type: 'docker',
  Params: { Image: 'busybox', Entrypoint: null, Parameters: ['/nowhere/no-program'] },
}

export async function untilState(cli: GoCli, id: string, state: JobState): Promise<void> {
  await until(async () => (await cli.describe(id)).Job.State.StateType === state, `job ${id} is not ${state}`)
}

async function until(holds: () => Promise<boolean>, what = 'it does not happen'): Promise<void> {
  const end = Date.now() + 20_000
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(what)
    await sleep(10)
  }
}
