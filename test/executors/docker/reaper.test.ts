import { randomUUID } from 'node:crypto'
import { fork, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { nodeHash } from '../../../src/executors/docker/labels.js'
import {
  SOCKET,
  containersOf,
  docker,
  eventually,
  importBusybox,
  noRoot,
  removeImage,
  skipNote,
  startRun,
  testExecutor,
  testNodeId,
  withNodeId,
} from './with-docker.js'

const IMAGE = 'weir-test-reaper:1'

describe.skipIf(noRoot !== '')(`what a crashed node left behind${skipNote(noRoot)}`, () => {
  beforeAll(async () => importBusybox(IMAGE))
  afterAll(async () => removeImage(IMAGE))

  it('P-22 is removed at start: containers, volumes, namespaces, bridge and packet rules; 0 leftovers', async () => {
    const nodeId = testNodeId()
    const [lost, kept] = [`e-${randomUUID()}`, `e-${randomUUID()}`]
    await crashedNode(nodeId, [lost, kept])
    expect((await containersOf(nodeId)).length).toBeGreaterThanOrEqual(4)
    const executor = testExecutor({ nodeId })
    try {
      const first = await executor.reap(new Set([kept]))
      expect(first.filter((line) => line.startsWith('job'))).toEqual([`job ${lost}`])
      const left = await containersOf(nodeId)
      expect(left.map(({ Labels }) => Labels['weir.kind']).sort()).toEqual(['holder', 'job'])
      // The kept job still has its network: the bridge stays as well.
      expect(left.every(({ State }) => State === 'running')).toBe(true)
      expect(spawnSync('ip', ['link', 'show', `weir-${nodeHash(nodeId)}`]).status).toBe(0)
      await executor.reap(new Set())
      expect(await containersOf(nodeId)).toEqual([])
      expect(spawnSync('ip', ['link', 'show', `weir-${nodeHash(nodeId)}`]).status).not.toBe(0)
      expect(spawnSync('nft', ['list', 'table', 'inet', `weir_${nodeHash(nodeId)}`]).status).not.toBe(0)
      expect((await executor.reap(new Set())).filter((line) => !line.includes('another node'))).toEqual([])
    } finally {
      await executor.close()
    }
  })

  it('P-22 goes also when that node never comes back under its name: its idle holders, not its jobs', async () => {
    const gone = testNodeId()
    await crashedNode(gone, [`e-${randomUUID()}`])
    const executor = testExecutor()
    try {
      const removed = await executor.reap(new Set())
      expect(removed.filter((line) => line.includes('of another node that is gone')).length).toBeGreaterThan(
        0,
      )
      const left = await containersOf(gone)
      expect(left.map(({ Labels }) => Labels['weir.kind']).sort()).toEqual(['holder', 'job'])
    } finally {
      await executor.close()
      const heir = testExecutor({ nodeId: gone })
      await heir.reap(new Set())
      await heir.close()
    }
  })

  it('P-22 is told from what the living node uses, and from other nodes', async () => {
    const nodeId = testNodeId()
    const other = testNodeId()
    const executor = withNodeId(testExecutor({ nodeId, holderPoolSize: 1 }), nodeId)
    const neighbour = withNodeId(testExecutor({ nodeId: other }), other)
    try {
      const started = await startRun(executor, { image: IMAGE, script: 'sleep 30' })
      const foreign = await startRun(neighbour, { image: IMAGE, script: 'sleep 30' })
      expect((await executor.reap(new Set())).filter((line) => !line.includes('another node'))).toEqual([])
      for (const job of [started, foreign]) {
        await job.running.stop(0)
        await job.end()
      }
    } finally {
      await executor.close()
      await neighbour.close()
    }
    expect([...(await containersOf(nodeId)), ...(await containersOf(other))]).toEqual([])
  })

  it('is nothing after a node was closed, even while jobs ran', async () => {
    const nodeId = testNodeId()
    const executor = withNodeId(testExecutor({ nodeId, holderPoolSize: 2 }), nodeId)
    await executor.network.warm()
    const started = await startRun(executor, { image: IMAGE, script: "trap '' TERM; sleep 300" })
    await executor.close()
    expect((await started.end()).exitCode).toBe(137)
    expect(await containersOf(nodeId)).toEqual([])
  })

  it('keeps holders ready, uses each once, and makes new ones', async () => {
    const nodeId = testNodeId()
    const executor = withNodeId(testExecutor({ nodeId, holderPoolSize: 2 }), nodeId)
    const holders = async () =>
      (await containersOf(nodeId)).filter(
        ({ Labels, State }) => Labels['weir.kind'] === 'holder' && State === 'running',
      )
    try {
      await executor.network.warm()
      const ready = (await holders()).map(({ Id }) => Id)
      expect(ready).toHaveLength(2)
      const slot = await executor.network.acquire('none', { executionId: 'e-1' }, AbortSignal.timeout(5000))
      await slot.release()
      await slot.release()
      await executor.network.warm()
      await eventually('two are ready again', async () => (await holders()).length === 2)
      const now = (await holders()).map(({ Id }) => Id)
      expect(now.filter((id) => ready.includes(id))).toHaveLength(1)
      // A holder that died meanwhile (the engine was restarted) is not given to a job.
      for (const id of now) await docker.getContainer(id).kill()
      const fresh = await executor.network.acquire('none', { executionId: 'e-2' }, AbortSignal.timeout(5000))
      const mode = (fresh as unknown as { networkMode: string }).networkMode
      expect(now.map((id) => `container:${id}`)).not.toContain(mode)
      await fresh.release()
    } finally {
      await executor.close()
    }
  })

  it('bounds how many networks there are', async () => {
    const executor = testExecutor({
      limits: { holdersMax: 1 },
      attach: async () => Promise.resolve({ id: 'x', proxyUrl: '' }),
    })
    try {
      await executor.network.modes()
      const one = await executor.network.acquire('http', { executionId: 'e-1' }, AbortSignal.timeout(5000))
      await expect(
        executor.network.acquire('http', { executionId: 'e-2' }, AbortSignal.timeout(5000)),
      ).rejects.toMatchObject({ code: 'engine.unavailable', retryable: true })
      await one.release()
    } finally {
      await executor.close()
    }
  })
})

/** A node in a process of its own, with two jobs and the full network, that is killed. */
async function crashedNode(nodeId: string, executionIds: string[]): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'weir-crash-'))
  const child = fork(
    new URL('crashing-node.mjs', import.meta.url),
    [SOCKET, nodeId, IMAGE, scratch, ...executionIds],
    {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [],
    },
  )
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    child.once('exit', (code) => reject(new Error(`ended with ${code}`)))
  })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
  rmSync(scratch, { recursive: true, force: true })
}
