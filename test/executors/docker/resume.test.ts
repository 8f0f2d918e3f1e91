import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DockerExecutor } from '../../../src/executors/docker/index.js'
import { nodeHash } from '../../../src/executors/docker/labels.js'
import type { HeldOutput, OutputSink, RunningExecution } from '../../../src/ports/index.js'
import {
  containersOf,
  docker,
  eventually,
  importBusybox,
  noDocker,
  noRoot,
  removeImage,
  skipNote,
  startRun,
  testExecutor,
  testNodeId,
  withNodeId,
} from './with-docker.js'

const IMAGE = 'weir-test-resume:1'
const soon = () => AbortSignal.timeout(20_000)

/** Keeps what it is given. */
class Kept implements OutputSink {
  readonly held: HeldOutput
  readonly #parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  missed = 0

  constructor(held: Partial<HeldOutput> = {}) {
    this.held = { stdout: 0, stderr: 0, untilMs: 0, ...held }
  }

  write(stream: 'stdout' | 'stderr', data: Uint8Array): void {
    this.#parts[stream].push(Buffer.from(data))
  }

  missing(): void {
    this.missed += 1
  }

  bytes(stream: 'stdout' | 'stderr'): Buffer {
    return Buffer.concat(this.#parts[stream])
  }
}

describe.skipIf(noDocker !== '')(`taking up a container${skipNote(noDocker)}`, () => {
  let nodeId: string
  /** Starts the runs, as the process that is gone. */
  let before: DockerExecutor
  /** Takes them up. */
  let after: DockerExecutor

  beforeAll(async () => {
    await importBusybox(IMAGE)
    nodeId = testNodeId()
    before = withNodeId(testExecutor({ nodeId }), nodeId)
    after = testExecutor({ nodeId })
  })
  afterAll(async () => {
    await after.close()
    await before.close()
    expect(await containersOf(nodeId)).toEqual([])
    await removeImage(IMAGE)
  })

  async function takeUp(executionId: string, output: OutputSink): Promise<RunningExecution> {
    const taken = await after.resume?.({ executionId, output }, soon())
    if (taken === undefined || taken === 'not started') throw new Error(`cannot take it up: ${taken}`)
    return taken
  }

  /** Runs a script that nobody watches to its end; gives the id and what it has written, as the attached stream had it. */
  async function ranAlone(script: string, more: { memoryBytes?: number; outputBytesMax?: number } = {}) {
    const started = await startRun(before, { image: IMAGE, script, ...more })
    await started.running.leave?.()
    const [found] = await docker.listContainers({
      all: true,
      filters: { label: [`weir.execution=${started.executionId}`] },
    })
    await docker.getContainer(found?.Id ?? '').wait()
    return { ...started, containerId: found?.Id ?? '' }
  }

  async function finish(running: RunningExecution, { slot }: { slot: { release(): Promise<void> } }) {
    const exit = await running.exit
    await running.remove?.()
    await slot.release()
    return exit
  }

  it('gives each byte of a strange output once, wherever the earlier process had come to', async () => {
    const zeros = (count: number, as: string) => `head -c ${count} /dev/zero | tr '\\0' '${as}'`
    const script = [
      `printf 'a\\0b\\377\\r\\n\\n\\nx'`,
      zeros(16384, 'q'),
      `printf '\\n'; ${zeros(16384, 'r')}; printf '\\n\\nabc\\n'`,
      zeros(40_000, 'z'),
      `printf '\\nerr1\\nerr' >&2; ${zeros(16_383, '0')}; printf '\\n\\n'`,
      `head -c 5000 /bin/busybox; ${zeros(32_768, 'w')}; printf '\\n'; printf 'no newline at the end'`,
    ].join('; ')
    const whole = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
    const started = await startRun(before, {
      image: IMAGE,
      script,
      onOutput(stream, data) {
        whole[stream as 'stdout'].push(Buffer.from(data))
      },
    })
    await started.running.exit
    const stdout = Buffer.concat(whole.stdout)
    const stderr = Buffer.concat(whole.stderr)
    expect(stdout.length).toBeGreaterThan(120_000)
    for (const at of [0, 1, 8, 9, 16_393, 16_394, 32_779, 50_000, stdout.length - 1, stdout.length]) {
      const kept = new Kept({ stdout: at, stderr: Math.min(at, stderr.length), untilMs: Date.now() })
      const taken = await takeUp(started.executionId, kept)
      expect(await taken.exit).toMatchObject({ exitCode: 0, code: '' })
      expect(kept.bytes('stdout').equals(stdout.subarray(at))).toBe(true)
      expect(kept.bytes('stderr').equals(stderr.subarray(Math.min(at, stderr.length)))).toBe(true)
      expect(kept.missed).toBe(0)
      await taken.leave?.()
    }
    await finish(await takeUp(started.executionId, new Kept()), started)
  })

  it('follows a program that runs on, without waiting for its end', async () => {
    const started = await startRun(before, {
      image: IMAGE,
      script: 'i=0; while [ $i -lt 40 ]; do echo $i; usleep 50000; i=$((i+1)); done; exit 4',
    })
    await eventually('it writes', () => started.stdout().split('\n').length > 4)
    await started.running.leave?.()
    const held = started.stdout()
    const kept = new Kept({ stdout: held.length, untilMs: Date.now() })
    const taken = await takeUp(started.executionId, kept)
    expect(taken.hadEnded).toBe(false)
    expect(Math.abs((taken.startTimeMs ?? 0) - Date.now())).toBeLessThan(20_000)
    await eventually('output comes while it runs', () => kept.bytes('stdout').length > 0)
    expect((await finish(taken, started)).exitCode).toBe(4)
    const all = Array.from({ length: 40 }, (_, index) => `${index}\n`).join('')
    expect(held + kept.bytes('stdout').toString()).toBe(all)
  })

  it('says that output is missing when the engine has thrown some away, and gives none twice', async () => {
    const started = await ranAlone('i=0; while [ $i -lt 200000 ]; do echo "line $i"; i=$((i+1)); done', {
      outputBytesMax: 65_536,
    })
    const kept = new Kept({ stdout: 7, untilMs: 1 })
    const exit = await finish(await takeUp(started.executionId, kept), started)
    expect(exit.exitCode).toBe(0)
    expect(kept.missed).toBeGreaterThan(0)
    const lines = kept.bytes('stdout').toString().trimEnd().split('\n')
    const first = Number(lines[0]?.split(' ')[1])
    expect(first).toBeGreaterThan(0)
    expect(lines).toEqual(Array.from({ length: 200_000 - first }, (_, index) => `line ${first + index}`))
  })

  it('tells the same ends as one that was watched: out of memory, a signal of its own', async () => {
    const oom = await ranAlone('x=x; while :; do x=$x$x; done', { memoryBytes: 32 * 1024 * 1024 })
    const end = await finish(await takeUp(oom.executionId, new Kept()), oom)
    expect(end).toMatchObject({ code: 'execution.out_of_memory', exitCode: 137 })
    expect(end.endTimeMs).toBeGreaterThan(Date.now() - 60_000)
    const killed = await ranAlone('kill -9 $$')
    expect(await finish(await takeUp(killed.executionId, new Kept()), killed)).toMatchObject({
      code: '',
      exitCode: 137,
    })
  })

  it('stops one that was paused meanwhile', async () => {
    const started = await startRun(before, {
      image: IMAGE,
      script: "trap 'exit 9' TERM; while :; do sleep 0.1; done",
    })
    await started.running.leave?.()
    const [found] = await docker.listContainers({
      filters: { label: [`weir.execution=${started.executionId}`] },
    })
    await docker.getContainer(found?.Id ?? '').pause()
    const taken = await takeUp(started.executionId, new Kept())
    expect(taken.hadEnded).toBe(false)
    await taken.stop(3000)
    expect((await finish(taken, started)).exitCode).toBe(9)
  })

  it('tells a container that never began from one that is gone, and leaves those of other nodes alone', async () => {
    const executionId = `e-${randomUUID()}`
    const made = await docker.createContainer({
      Image: IMAGE,
      Cmd: ['/bin/true'],
      Labels: { 'weir.node': nodeId, 'weir.kind': 'job', 'weir.execution': executionId },
    })
    const resume = (id: string, executor = after) =>
      executor.resume?.({ executionId: id, output: new Kept() }, soon())
    const stranger = testExecutor()
    expect(await resume(executionId, stranger)).toBeUndefined()
    expect(await resume(executionId)).toBe('not started')
    await expect(made.inspect()).rejects.toMatchObject({ statusCode: 404 })
    expect(await resume(executionId)).toBeUndefined()
    await stranger.close()
  })

  it('is refused where the engine keeps no output, and ends the program', async () => {
    const forgetful = withNodeId(testExecutor({ nodeId, survivesRestart: false }), nodeId)
    const started = await startRun(forgetful, { image: IMAGE, script: 'sleep 300' })
    expect(started.running.leave).toBeUndefined()
    await expect(
      after.resume?.({ executionId: started.executionId, output: new Kept() }, soon()),
    ).rejects.toMatchObject({ code: 'execution.lost', retryable: true })
    await started.end()
    await forgetful.close()
  })

  it.skipIf(noRoot !== '')(
    `goes on in the full network, with the rules of now in front of it${skipNote(noRoot)}`,
    { timeout: 60_000 },
    async () => {
      const id = testNodeId()
      const first = withNodeId(testExecutor({ nodeId: id, full: {} }), id)
      const started = await startRun(first, { image: IMAGE, script: 'sleep 600', mode: 'full' })
      await started.running.leave?.()
      await started.slot.leave?.()
      await first.close()
      expect(spawnSync('ip', ['link', 'show', `weir-${nodeHash(id)}`]).status).toBe(0)

      const next = testExecutor({ nodeId: id, full: { self: ['198.51.100.7'] } })
      await next.reap(new Set([started.executionId]))
      const who = { executionId: started.executionId, ended: false }
      const slot = await next.network.adopt('full', who, AbortSignal.timeout(30_000))
      expect((slot as unknown as { address: string }).address).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
      const [found] = await docker.listContainers({
        filters: { label: [`weir.execution=${started.executionId}`] },
      })
      const { State } = await docker.getContainer(found?.Id ?? '').inspect()
      const rules = spawnSync('nsenter', [
        '--net',
        `--target=${State.Pid}`,
        'nft',
        'list',
        'table',
        'inet',
        'weir',
      ])
      expect(rules.stdout.toString()).toContain('198.51.100.7')
      const taken = await next.resume?.({ executionId: started.executionId, output: new Kept() }, soon())
      if (taken === undefined || taken === 'not started') throw new Error('cannot take it up')
      await taken.stop(0)
      await taken.remove?.()
      await slot.release()

      const refusing = testExecutor({ nodeId: id })
      await expect(refusing.network.adopt('full', who, soon())).rejects.toMatchObject({
        code: 'engine.unavailable',
      })
      await refusing.close()
      await next.close()
      expect(await containersOf(id)).toEqual([])
      expect(spawnSync('ip', ['link', 'show', `weir-${nodeHash(id)}`]).status).not.toBe(0)
    },
  )

  it('leaves a program alone that is let go, also when its engine room is closed', async () => {
    const own = withNodeId(testExecutor({ nodeId, holderPoolSize: 1 }), nodeId)
    const started = await startRun(own, { image: IMAGE, script: 'sleep 1; echo whole' })
    await started.running.leave?.()
    await started.slot.leave?.()
    await own.close()
    const who = { executionId: started.executionId, ended: false }
    expect(
      (await after.reap(new Set([started.executionId]))).filter((line) => !line.includes('another')),
    ).toEqual([])
    const slot = await after.network.adopt('none', who, soon())
    const kept = new Kept()
    const taken = await takeUp(started.executionId, kept)
    expect(await finish(taken, { slot })).toMatchObject({ exitCode: 0 })
    expect(kept.bytes('stdout').toString()).toBe('whole\n')
    expect((await containersOf(nodeId)).filter(({ Labels }) => Labels['weir.kind'] === 'job')).toEqual([])
  })
})
