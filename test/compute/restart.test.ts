import { execFileSync, spawn } from 'node:child_process'
import { mkdtemp, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { eventually, shellJob, startFixture, type Fixture } from './node-fixture.js'

let programDir: string
let program: string
let dataDir: string
let fixture: Fixture | undefined

beforeAll(async () => {
  programDir = await mkdtemp(join(tmpdir(), 'weir-crash-'))
  program = join(programDir, 'crashing-node.mjs')
  buildSync({
    entryPoints: [join(import.meta.dirname, 'crashing-node.ts')],
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  })
})
afterAll(() => rm(programDir, { recursive: true, force: true }))
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'weir-compute-'))
})
afterEach(async () => {
  await fixture?.close()
  fixture = undefined
  await rm(dataDir, { recursive: true, force: true })
})

interface Crash {
  id: string
  sequence: number
  state: string
}

/** Runs a node in a process of its own until its job is where the test wants it, and kills it with SIGKILL. */
async function crash(how: string): Promise<Crash> {
  const child = spawn(process.execPath, [program, dataDir, how], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  for await (const part of child.stdout) {
    text += String(part)
    if (text.includes('\n')) break
  }
  const told = JSON.parse(text) as Crash & { pids: number[] }
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
  // What the engine would have to reap.
  for (const pid of told.pids) process.kill(-pid, 'SIGKILL')
  return told
}

describe('a node that was killed', () => {
  it('reports what was active as lost, runs nothing twice and leaves no directory', async () => {
    const { id, sequence, state } = await crash('run')
    expect(state).toBe('Running')
    const before = await readdir(join(dataDir, 'compute', 'executions', id))
    expect(before).toEqual(expect.arrayContaining(['outputs', 'scratch', 'state.json']))

    fixture = await startFixture({ dataDir, start: false })
    const { orchestrator, node, executor } = fixture
    orchestrator.observed.set(id, {
      state: 'Running',
      sequence,
      message: '',
      code: '',
      hint: '',
      retryable: false,
    })
    await orchestrator.run(shellJob('sleep 600'), { executionId: id })
    await node.start()
    expect(await orchestrator.ended(id)).toMatchObject({
      state: 'Failed',
      code: 'execution.lost',
      message: 'The server was restarted; programs of engine "process" cannot be taken up again',
      retryable: true,
    })
    expect(await fixture.leftovers(id)).toEqual(['log', 'state.json'])
    expect((await fixture.follow(id)).stdout).toBe('begun\n')
    expect(executor.runs).toEqual([])
    expect(node.info().runningExecutions).toBe(0)
  })

  it('reports an end again that nobody had acknowledged', async () => {
    const { id, sequence } = await crash('finish')
    fixture = await startFixture({ dataDir })
    expect(await fixture.orchestrator.ended(id)).toMatchObject({
      state: 'Completed',
      sequence,
      runOutput: { stdout: 'result\n', exitCode: 0 },
      publishedResult: { Type: 'copy' },
    })
    expect(fixture.orchestrator.messages(id)).toContain('Execution: Completed successfully')
  })

  it('does not run an execution again of which it has lost every trace', async () => {
    fixture = await startFixture({ dataDir, start: false })
    const { orchestrator, node, executor } = fixture
    const id = 'e-forgotten'
    orchestrator.observed.set(id, {
      state: 'Running',
      sequence: 41,
      message: '',
      code: '',
      hint: '',
      retryable: false,
    })
    await orchestrator.run(shellJob('true'), { executionId: id })
    await node.start()
    const observed = await orchestrator.ended(id)
    expect(observed).toMatchObject({ state: 'Failed', code: 'execution.lost', retryable: true })
    expect(observed.sequence).toBeGreaterThan(41)
    expect(executor.runs).toEqual([])
  })

  it('starts although state files are damaged, and removes what they belong to', async () => {
    const executions = join(dataDir, 'compute', 'executions')
    for (const name of ['e-empty', 'e-garbage', 'e-other'])
      await mkdir(join(executions, name, 'outputs'), { recursive: true })
    await writeFile(join(executions, 'e-garbage', 'state.json'), '{"format":1,')
    await writeFile(
      join(executions, 'e-other', 'state.json'),
      '{"format":1,"executionId":"e-x","observed":{"sequence":1}}',
    )
    await writeFile(join(executions, 'stray'), '')
    fixture = await startFixture({ dataDir })
    expect(await readdir(executions)).toEqual([])
  })
})

const noRoot = process.getuid?.() === 0 ? '' : ' (skipped: needs root)'
describe.skipIf(noRoot !== '')(`a node whose disk is full${noRoot}`, () => {
  it('runs nothing that it could not remember, says why, and goes on when there is room', async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dataDir])
    try {
      fixture = await startFixture({ dataDir, node: { limits: { diskReserveBytes: 0 } } })
      const { orchestrator, executor } = fixture
      const filler = join(dataDir, 'filler')
      await writeFile(filler, Buffer.alloc(1024 * 1024)).catch(() => undefined)
      const id = await orchestrator.run(shellJob('echo ran'))
      expect(await orchestrator.ended(id)).toMatchObject({
        state: 'Failed',
        code: 'compute.disk',
        retryable: true,
      })
      expect(executor.runs).toEqual([])
      await rm(filler)
      const next = await orchestrator.run(shellJob('echo ran'))
      expect(await orchestrator.ended(next)).toMatchObject({ state: 'Completed' })
    } finally {
      await fixture?.close()
      fixture = undefined
      execFileSync('umount', [dataDir])
    }
  })
})

describe('a node that is closed', () => {
  it('ends what runs, says goodbye, and says it again at the next start when nobody heard', async () => {
    const first = await startFixture({ dataDir })
    const id = await first.orchestrator.run(shellJob('echo begun; sleep 600'))
    await first.orchestrator.in(id, 'Running')
    first.orchestrator.answers = false
    await first.node.close()
    expect(first.executor.children.size).toBe(0)
    expect(first.orchestrator.requests.at(-1)).toMatchObject({ leaving: true })
    await first.close()
    fixture = await startFixture({ dataDir })
    expect(await fixture.orchestrator.ended(id)).toMatchObject({
      state: 'Failed',
      code: 'execution.lost',
      retryable: true,
    })
  })

  it('waits for what runs when it drains, and takes nothing new', async () => {
    fixture = await startFixture({ dataDir })
    const { orchestrator, node } = fixture
    const running = await orchestrator.run(shellJob('sleep 0.5; echo whole'))
    await orchestrator.in(running, 'Running')
    const closing = node.close({ drain: true })
    const late = await orchestrator.run(shellJob('true'))
    expect(await orchestrator.ended(late)).toMatchObject({ state: 'Rejected', retryable: true })
    await closing
    expect(await orchestrator.ended(running)).toMatchObject({
      state: 'Completed',
      runOutput: { stdout: 'whole\n' },
    })
    await eventually(() => orchestrator.requests.at(-1)?.leaving === true)
  })

  it('can be closed before it was started, and twice', async () => {
    fixture = await startFixture({ dataDir, start: false })
    await fixture.node.close()
    await fixture.node.close()
  })
})

describe('what is left of ended executions', () => {
  it('is removed when there are too many', async () => {
    const first = await startFixture({ dataDir })
    const ids: string[] = []
    for (let n = 0; n < 4; n++) {
      const id = await first.orchestrator.run(shellJob(`echo ${n}`))
      await first.orchestrator.ended(id)
      ids.push(id)
    }
    await first.close()
    const second = (fixture = await startFixture({ dataDir, node: { limits: { finishedMax: 2 } } }))
    const left = await Promise.all(ids.map((id) => second.leftovers(id)))
    expect(left).toEqual([[], [], ['log', 'state.json'], ['log', 'state.json']])
    await expect(fixture.follow(ids[0] ?? '')).rejects.toMatchObject({ code: 'execution.not_found' })
    expect((await fixture.follow(ids[3] ?? '')).stdout).toBe('3\n')
  })

  it('is removed when it is old, the audit records with it', async () => {
    const removed: string[] = []
    const auditLog = { read: async () => [], remove: async (id: string) => void removed.push(id) }
    const first = await startFixture({ dataDir })
    const id = await first.orchestrator.run(shellJob('echo x'))
    await first.orchestrator.ended(id)
    await first.close()
    fixture = await startFixture({ dataDir, node: { auditLog, limits: { keepFinishedMs: 0 } } })
    expect(await fixture.leftovers(id)).toEqual([])
    expect(removed).toEqual([id])
  })
})
