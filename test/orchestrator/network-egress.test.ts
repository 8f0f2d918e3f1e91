import { afterEach, describe, expect, it } from 'vitest'
import {
  keyPairOf,
  type NodeInfo,
  packEgressLists,
  type SyncRequest,
  type SyncResponse,
} from '../../src/model/index.js'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import { REAL_CHANCE, REAL_CLOCK } from '../../src/node/real-time.js'
import { nudgeSubject, SYNC_SUBJECT } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleInfo, sampleSpec } from './samples.js'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** A real orchestrator, and nodes that say what a test lets them say. */
async function network(options: Partial<Parameters<typeof createOrchestrator>[0]> = {}) {
  const transport = createInProcessTransport({ clock: REAL_CLOCK, chance: REAL_CHANCE })
  const store = openMemoryStore()
  const orchestrator = createOrchestrator({
    store,
    transport,
    clock: REAL_CLOCK,
    chance: REAL_CHANCE,
    nodeId: 'n-o',
    ...options,
  })
  await orchestrator.start()
  closing.push(
    () => store.close(),
    () => transport.close(),
    () => orchestrator.close(),
  )
  const say = async (
    nodeId: string,
    egress: Partial<NodeInfo['egress']>,
    more: Partial<SyncRequest> = {},
  ): Promise<SyncResponse> => {
    const info = sampleInfo(nodeId)
    const request: SyncRequest = {
      nodeId,
      incarnation: 'i-1',
      info: {
        ...info,
        egress: { ...info.egress, acceptsNetworkedJobs: true, httpEngines: ['docker'], ...egress },
      },
      knownRevision: 0,
      observed: [],
      leaving: false,
      ...more,
    }
    return (await transport.request(SYNC_SUBJECT, request, 5_000)) as SyncResponse
  }
  return { orchestrator, transport, say }
}

function httpJob(...Domains: string[]) {
  return sampleSpec({ task: { Network: { Type: 'HTTP', Domains } } })
}

/** What becomes of a job that cannot be placed. */
async function refusal(orchestrator: Orchestrator, ...domains: string[]): Promise<string> {
  const { jobId } = await orchestrator.submit({ spec: httpJob(...domains), clientMeta: {} })
  await expect.poll(async () => (await orchestrator.job(jobId)).state).toBe('Failed')
  return (await orchestrator.job(jobId)).message
}

describe('the list of the network', () => {
  it('is told to a node once, as long as the node has it in force, and again when it changes', async () => {
    const { orchestrator, transport, say } = await network({
      networkEgress: { version: 1, allow: ['.example.com'], deny: [] },
    })
    const nudges: number[] = []
    await transport.serve(nudgeSubject('n-1'), async () => nudges.push(1))
    const first = await say('n-1', {})
    expect(first.networkEgress).toEqual({ version: 1, allow: ['.example.com'], deny: [] })
    const { digestNetworkPolicy } = await import('../../src/model/index.js')
    const networkEgress = digestNetworkPolicy({ version: 1, allow: ['.example.com'], deny: [] })
    expect((await say('n-1', {}, { networkEgress })).networkEgress).toBeUndefined()
    await orchestrator.setNetworkEgress({ version: 2, allow: [], deny: ['evil.test'] })
    await expect.poll(() => nudges.length).toBeGreaterThan(0)
    expect((await say('n-1', {}, { networkEgress })).networkEgress).toMatchObject({ version: 2, allow: [] })
  })

  it('goes in a message of its own when it is long, before any execution', async () => {
    const allow = Array.from({ length: 5_000 }, (_, index) => `host${index}.example.com`)
    const { say } = await network({ networkEgress: { version: 1, allow, deny: [] } })
    const answer = await say('n-1', {})
    expect(answer).toMatchObject({ desired: [], complete: false, revision: 0 })
    expect(answer.networkEgress?.allow).toHaveLength(5_000)
  })

  it('keeps jobs from every node, in words that name what is missing and whose list it is, until it changes', async () => {
    const { orchestrator, say } = await network({
      networkEgress: { version: 1, allow: ['.example.com'], deny: ['evil.example.com'] },
    })
    await say('n-1', { allow: ['.example.com', 'packages.example.net'] })
    await say('n-2', { allow: ['packages.example.net'] })
    expect(await refusal(orchestrator, 'packages.example.net')).toContain(
      'of a network whose list lacks domain packages.example.net',
    )
    expect(await refusal(orchestrator, 'evil.example.com')).toContain('denies domain evil.example.com')
    expect(await refusal(orchestrator, 'www.example.com', 'nowhere.test')).toContain(
      'lacks domain nowhere.test',
    )
    await orchestrator.setNetworkEgress({ version: 2, deny: [] })
    const { jobId } = await orchestrator.submit({ spec: httpJob('packages.example.net'), clientMeta: {} })
    await expect.poll(async () => (await orchestrator.executions(jobId)).length).toBe(1)
  })

  it('lets a job that waits go on when it opens', async () => {
    const { orchestrator, say } = await network({ networkEgress: { version: 1, allow: [], deny: [] } })
    await say('n-1', { allow: ['.example.com'] })
    const spec = httpJob('www.example.com')
    const [task] = spec.Tasks
    const { jobId } = await orchestrator.submit({
      spec: { ...spec, Tasks: [{ ...task, Timeouts: { ...task.Timeouts, QueueTimeout: 600 } }] },
      clientMeta: {},
    })
    await expect.poll(async () => (await orchestrator.job(jobId)).state).toBe('Queued')
    await orchestrator.setNetworkEgress({ version: 2, deny: [] })
    await expect.poll(async () => (await orchestrator.executions(jobId)).length).toBe(1)
  })
})

describe('the long lists of nodes', () => {
  const lists = { allow: Array.from({ length: 1_000 }, (_, index) => `host${index}.example.com`), deny: [] }
  const packed = packEgressLists(lists)
  const byDigest = { listsDigest: packed.digest, allowCount: 1_000, denyCount: 0, allow: [], deny: [] }

  it('are asked for once, shared by all nodes with the same digest, and count for placement when they are known', async () => {
    const { orchestrator, say } = await network()
    expect((await say('n-1', byDigest)).wantsEgressLists).toBe(true)
    expect(await refusal(orchestrator, 'host7.example.com')).toContain('has not told its egress lists yet')
    expect((await say('n-1', byDigest, { egressLists: packed })).wantsEgressLists).toBeUndefined()
    expect((await say('n-2', byDigest)).wantsEgressLists).toBeUndefined()
    const check = await orchestrator.checkEgress({ domains: ['host7.example.com'] })
    expect(check.nodes.map(({ nodeId, fits }) => `${nodeId} ${fits}`)).toEqual(['n-1 true', 'n-2 true'])
  })

  it('hold what keys open to signed jobs as well', async () => {
    const { orchestrator, say } = await network()
    const keys = [
      { name: 'release', key: keyPairOf(new Uint8Array(32)).publicKey, allow: ['key.example.net'] },
    ]
    const egressLists = packEgressLists({ ...lists, keys })
    const told = { ...byDigest, listsDigest: egressLists.digest, keyCount: 1 }
    expect((await say('n-1', told)).wantsEgressLists).toBe(true)
    await say('n-1', told, { egressLists })
    const fits = async (signedBy: string[]): Promise<number> =>
      (await orchestrator.checkEgress({ domains: ['key.example.net', 'host7.example.com'], signedBy }))
        .fitting
    expect([await fits([]), await fits([keys[0]?.key ?? ''])]).toEqual([0, 1])
  })

  it('count only when they are those of their digest, so that no node can change what is known of another', async () => {
    const { orchestrator, say } = await network()
    await say('n-1', byDigest, { egressLists: packed })
    const forged = { digest: packed.digest, data: packEgressLists({ allow: ['.test'], deny: [] }).data }
    await say('n-2', byDigest, { egressLists: forged })
    const other = { ...byDigest, listsDigest: 'another' }
    expect(
      (await say('n-3', other, { egressLists: { ...forged, digest: 'another' } })).wantsEgressLists,
    ).toBe(true)
    expect((await say('n-3', other, { egressLists: packed })).wantsEgressLists).toBe(true)
    const check = await orchestrator.checkEgress({ domains: ['evil.test'] })
    expect(check.fitting).toBe(0)
  })
})

describe('checkEgress', () => {
  it('says for each node what prevents it and whose list, counts per host, and reads whole jobs', async () => {
    const { orchestrator, say } = await network({
      networkEgress: { version: 4, allow: ['.example.com', 'packages.example.net'], deny: [] },
    })
    await say('n-1', { allow: ['.example.com'] })
    await say('n-2', { allow: ['packages.example.net'], deny: ['.example.com'] })
    await say('n-3', { acceptsNetworkedJobs: false })
    await say('n-4', { mode: 'all', allow: [] })
    const check = await orchestrator.checkEgress({
      domains: ['https://www.example.com', 'packages.example.net', 'ipfs.io'],
      engine: 'docker',
    })
    expect(check).toMatchObject({ fitting: 0, networkVersion: 4 })
    expect(check.patterns).toEqual([
      {
        pattern: 'https://www.example.com',
        accepting: 2,
        refusing: 2,
        reason: 'does not accept networked jobs',
      },
      {
        pattern: 'packages.example.net',
        accepting: 2,
        refusing: 2,
        reason: 'does not accept networked jobs',
      },
      { pattern: 'ipfs.io', accepting: 0, refusing: 4, reason: "not in the node's list" },
    ])
    const missing = check.nodes.map((node) =>
      node.missing.map(({ pattern, owner, rule }) => `${pattern} ${owner} ${rule}`.trim()),
    )
    expect(missing).toEqual([
      ['packages.example.net node', 'ipfs.io node'],
      ['https://www.example.com node .example.com', 'ipfs.io node'],
      [],
      ['ipfs.io network'],
    ])
    expect(
      (await orchestrator.checkEgress({ domains: ['packages.example.net'], engine: 'wasm' })).fitting,
    ).toBe(0)
    const job = await orchestrator.checkEgress({ domains: [], spec: httpJob('packages.example.net') })
    expect(job.nodes.filter(({ fits }) => fits).map(({ nodeId }) => nodeId)).toEqual(['n-2', 'n-4'])
  })
})

describe('a learning job', () => {
  const learn = (user?: string, ExecutionTimeout = 60) =>
    sampleSpec({
      Meta: user === undefined ? {} : { 'bacalhau.org/client.id': user },
      task: {
        Network: { Type: 'HTTP', Domains: [], Learn: true },
        Timeouts: { ExecutionTimeout, QueueTimeout: 0, TotalTimeout: 0 },
      },
    })

  it('is placed only where its user may learn, for as long as it asks', async () => {
    const { orchestrator, say } = await network()
    await say('n-1', { mode: 'all', allow: [] })
    await say('n-2', { learning: { users: ['t-own'], timeoutMaxMs: 3_600_000 } })
    await say('n-3', { learning: { users: ['everyone', 't-own'], timeoutMaxMs: 30_000 } })
    const check = async (spec: ReturnType<typeof learn>) =>
      (await orchestrator.checkEgress({ domains: [], spec })).nodes.map(
        ({ fits, reasons }) => fits || reasons.map(({ message }) => message).join(),
      )
    expect(await check(learn('t-own'))).toEqual([
      'does not accept learning jobs',
      true,
      'does not let jobs learn for 60 s, only for 30 s',
    ])
    expect(await check(learn('t-other'))).toEqual([
      'does not accept learning jobs',
      'does not accept learning jobs of t-other',
      'does not accept learning jobs of t-other',
    ])
    // Where nobody has to say who they are.
    expect(await check(learn(undefined, 30))).toEqual([expect.any(String), expect.any(String), true])
    const { jobId } = await orchestrator.submit({
      spec: learn(),
      clientMeta: { 'bacalhau.org/client.id': 't-x' },
    })
    await expect.poll(async () => (await orchestrator.job(jobId)).state).toBe('Failed')
    expect((await orchestrator.job(jobId)).message).toContain('learning jobs of t-x')
  })

  it('is not judged by what a node says without sense', async () => {
    const { say } = await network()
    const nonsense = { users: 'all', timeoutMaxMs: 1 } as unknown as NodeInfo['egress']['learning']
    await expect(say('n-1', nonsense === undefined ? {} : { learning: nonsense })).rejects.toThrow()
  })
})
