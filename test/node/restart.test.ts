import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { WeirClient } from '../../src/client/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { verifyAuditFile } from '../../src/stores/audit-file.js'
import { INTERNET, SmallWorld } from '../executors/docker/small-world.js'
import {
  containersOf,
  eventually,
  importBusybox,
  noDocker,
  noRoot,
  removeImage,
  skipNote,
} from '../executors/docker/with-docker.js'
import { containerJob, endOf, noSandbox } from './running-node.js'
import { containerOf, Serving } from './serving.js'

// Of this run alone: another run's end removes its own.
const IMAGE = `weir-test-restart:${process.pid}`

// Servers are started several times in each, also on machines that are busy.
vi.setConfig({ testTimeout: 120_000 })

/** Writes numbered lines to both outputs, `everyMs` apart. Goes on behind line `pauseAt` only after a SIGUSR1. */
function counting(lines: number, everyMs: number, exitCode = 0, pauseAt = 0): string[] {
  const pause = `[ $i -ne ${pauseAt} ] || until [ $go ]; do usleep 20000; done`
  const script = `trap go=1 USR1; i=1; while [ $i -le ${lines} ]; do echo "out $i"; echo "err $i" >&2; usleep ${everyMs * 1000}; ${pause}; i=$((i+1)); done; exit ${exitCode}`
  return ['sh', '-c', script]
}

function numbered(word: string, lines: number): string {
  return Array.from({ length: lines }, (_, index) => `${word} ${index + 1}\n`).join('')
}

async function submitted(client: WeirClient, job: object): Promise<string> {
  return (await client.submit(job)).JobID
}

/** Lines that a container has written, as the engine knows it. */
async function linesWritten(executionId: string): Promise<number> {
  const container = await containerOf(executionId)
  const text = (await container.logs({ stdout: true, follow: false })).toString('latin1')
  return text.split('\n').length - 1
}

let dataDir: string
let server: Serving

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'weir-restart-'))
  server = new Serving(dataDir)
})
afterEach(async () => {
  await server.close()
  await rm(dataDir, { recursive: true, force: true })
})

describe.skipIf(noDocker !== '')(`containers of a server that is killed${skipNote(noDocker)}`, () => {
  beforeAll(() => importBusybox(IMAGE))
  afterAll(() => removeImage(IMAGE))

  const LINES = 200
  const TAKEN_UP = 'Execution: The node was restarted; the running program was taken up again'

  it('run on and are taken up again: each line of output is there once, the exit code is true', async () => {
    await server.start()
    const job = await submitted(
      server.client,
      containerJob(IMAGE, counting(LINES, 30, 7, LINES - 20), { Publisher: { Type: 'local' } }),
    )
    const execution = await server.until(job, 'Running')
    await eventually('there is output', async () => (await linesWritten(execution)) > 20)
    await server.kill()
    const before = await linesWritten(execution)
    await eventually('it runs on', async () => (await linesWritten(execution)) > before + 20)
    await server.start()
    const following = server.logs(job).catch(() => undefined)
    // Once more, in the middle of what was taken up.
    await sleep(300)
    await server.kill()
    await following
    await server.start()
    await eventually('it is taken up', async () => (await server.history(job)).includes(TAKEN_UP))
    await (await containerOf(execution)).kill({ signal: 'SIGUSR1' })
    await endOf(server.client, job)
    expect(await server.logs(job)).toEqual({ stdout: numbered('out', LINES), stderr: numbered('err', LINES) })
    const executions = await server.executions(job)
    expect(executions).toHaveLength(1)
    expect(executions[0]).toMatchObject({
      ID: execution,
      RunOutput: { ExitCode: 7 },
      PublishedResult: { Type: 'urlDownload' },
    })
    await eventually(
      'nothing is left in the engine',
      async () =>
        (await containersOf(server.nodeId)).filter(({ Labels }) => Labels['weir.kind'] === 'job').length ===
        0,
    )
  })

  it('are collected when they ended while it was away', async () => {
    await server.start()
    const job = await submitted(server.client, containerJob(IMAGE, counting(20, 50, 3)))
    const execution = await server.until(job, 'Running')
    await server.kill()
    await (await containerOf(execution)).wait()
    await server.start()
    const end = await endOf(server.client, job)
    expect(end.State.StateType).toBe('Completed')
    expect(await server.logs(job)).toEqual({ stdout: numbered('out', 20), stderr: numbered('err', 20) })
    const [only, ...others] = await server.executions(job)
    expect(others).toEqual([])
    expect(only?.RunOutput?.ExitCode).toBe(3)
    expect(await server.history(job)).toContain(
      'Execution: The node was restarted; the program had ended meanwhile',
    )
  })

  it('survive a planned stop as well, and a stop can end them instead', async () => {
    await server.start()
    const job = await submitted(server.client, containerJob(IMAGE, ['sleep', '600']))
    const first = await server.until(job, 'Running')
    await server.stop()
    expect((await (await containerOf(first)).inspect()).State.Running).toBe(true)
    await server.start({ 'Compute.OnStop': 'stop' })
    await eventually('it is taken up', async () =>
      (await server.history(job)).some((line) => line.includes('taken up')),
    )
    expect(await server.executions(job)).toHaveLength(1)
    await server.stop()
    expect(await containersOf(server.nodeId)).toEqual([])
    await server.start()
    expect(await server.until(job, 'Failed')).toBe(first)
    const [stopped] = await server.executions(job)
    expect(stopped?.ComputeState.Message).toBe('The node was stopped while the execution was active')
    expect(await server.until(job, 'Running')).not.toBe(first)
    await server.client.stop(job, 'enough')
    await server.until(job, 'Cancelled')
  })
})

describe.skipIf(noRoot !== '')(`a networked job of a server that is killed${skipNote(noRoot)}`, () => {
  const world = new SmallWorld()
  beforeAll(async () => {
    await importBusybox(IMAGE)
    await world.build()
  })
  afterAll(async () => {
    world.destroy()
    await removeImage(IMAGE)
  })

  it('reaches nothing meanwhile, its listed hosts afterwards, and its chain of records holds', async () => {
    const networked = {
      'JobAdmissionControl.AcceptNetworkedJobs': true,
      'Egress.Allow': ['ok.test:8082'],
      'Egress.Hosts': { 'ok.test': INTERNET },
    }
    server = new Serving(dataDir, networked)
    await server.start()
    const ask = `printf 'GET http://ok.test:8082/ HTTP/1.1\\r\\nHost: ok.test:8082\\r\\nConnection: close\\r\\n\\r\\n' | nc -w 2 127.0.0.1 3128 2>&1`
    const script = `while :; do if ${ask} | grep -q 'web of internet'; then echo yes; else echo no; fi; usleep 100000; done`
    const job = await submitted(
      server.client,
      containerJob(IMAGE, ['sh', '-c', script], { Network: { Type: 'HTTP', Domains: ['ok.test:8082'] } }),
    )
    const execution = await server.until(job, 'Running')
    const container = await containerOf(execution)
    const answers = async () =>
      (await container.logs({ stdout: true, follow: false }))
        .toString('latin1')
        .split('\n')
        .map((line) => /(yes|no)$/.exec(line)?.[1] ?? '')
        .filter((word) => word !== '')
    await eventually('it reaches the host', async () => (await answers()).at(-1) === 'yes')
    await server.kill()
    await eventually('it reaches nothing', async () => (await answers()).at(-1) === 'no')
    const away = (await answers()).length
    await eventually('still', async () => (await answers()).length > away + 3)
    expect((await answers()).slice(away)).not.toContain('yes')
    await server.start()
    await eventually('it reaches the host again', async () => (await answers()).at(-1) === 'yes')
    await server.client.stop(job, 'enough')
    await server.until(job, 'Cancelled')
    expect(await server.executions(job)).toHaveLength(1)

    expect(await verifyAuditFile(join(dataDir, 'audit'), execution)).toMatchObject({ intact: true })
    const records = (await readFile(join(dataDir, 'audit', `${execution}.jsonl`), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; decision: string })
    const restart = records.findIndex(({ kind }) => kind === 'restart')
    expect(restart).toBeGreaterThan(0)
    expect(records.slice(restart + 1).some(({ decision }) => decision === 'allow')).toBe(true)
    const [only] = await server.executions(job)
    expect(only?.Egress).toMatchObject({ Records: records.length })
  })

  it('is stopped, with the reason, when its network is not offered any more', async () => {
    server = new Serving(dataDir, {
      'Egress.Allow': ['ok.test:8082'],
      'Egress.Hosts': { 'ok.test': INTERNET },
    })
    await server.start({ 'JobAdmissionControl.AcceptNetworkedJobs': true })
    const job = await submitted(
      server.client,
      containerJob(IMAGE, ['sh', '-c', 'echo begun; sleep 300'], {
        Network: { Type: 'HTTP', Domains: ['ok.test:8082'] },
      }),
    )
    const execution = await server.until(job, 'Running')
    await server.kill()
    await server.start({ 'JobAdmissionControl.AcceptNetworkedJobs': false })
    await server.until(job, 'Failed')
    const [first] = await server.executions(job)
    expect(first?.ComputeState.Message).toMatch(/The program was stopped because of its network: /)
    await eventually(
      'nothing is left in the engine',
      async () =>
        (await containersOf(server.nodeId)).filter(({ Labels }) => Labels['weir.execution'] === execution)
          .length === 0,
    )
  })
})

describe.skipIf(noSandbox !== '')(`WebAssembly of a server that is killed${skipNote(noSandbox)}`, () => {
  it('is reported lost, says why, and is tried again', async () => {
    await server.start()
    const module = await readFile(join(PACKAGE_ROOT, 'test/fixtures/wasm/bin/sleep-hour.wasm'))
    const job = await submitted(server.client, {
      Type: 'batch',
      Tasks: [
        {
          Name: 'main',
          Engine: {
            Type: 'wasm',
            Params: {
              EntryModule: {
                Source: {
                  Type: 'inline',
                  Params: { URL: `data:application/wasm;base64,${module.toString('base64')}` },
                },
                Target: '/sleep-hour.wasm',
              },
            },
          },
        },
      ],
    })
    const first = await server.until(job, 'Running')
    await server.kill()
    await server.start()
    expect(await server.until(job, 'Failed')).toBe(first)
    const [lost] = await server.executions(job)
    expect(lost?.ComputeState.Message).toBe(
      'The server was restarted; WebAssembly programs cannot be taken up again',
    )
    expect(await server.history(job)).toContain(
      'Execution: The server was restarted; WebAssembly programs cannot be taken up again',
    )
    expect(await server.until(job, 'Running')).not.toBe(first)
    await server.client.stop(job, 'enough')
  })
})
