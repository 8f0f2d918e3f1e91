import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/index.js'
import { WeirError } from '../../src/errors.js'
import type { NetworkEgressPolicy } from '../../src/model/index.js'
import { editNodeAllowlist, startNode } from '../../src/node/index.js'
import { openNetworkEgress } from '../../src/node/network-egress.js'
import { openNetworkList } from '../../src/node/network-list.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-network-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

describe('a node that follows the list of the network', () => {
  const POLICY: NetworkEgressPolicy = { version: 3, allow: ['.example.com'], deny: [] }

  async function follow(apply: (policy: NetworkEgressPolicy) => Promise<void> = async () => {}) {
    const warnings: string[] = []
    const file = join(dir, 'network-egress.json')
    const follower = await openNetworkEgress({ file, apply, warn: ({ message }) => warnings.push(message) })
    return { follower, warnings, file }
  }

  it('begins with the one it was told last, also without the orchestrator', async () => {
    const { follower } = await follow()
    expect(follower.first).toBeUndefined()
    expect(follower.known()).toBeUndefined()
    follower.heard(POLICY)
    const known = follower.known()
    await follower.close()
    const next = (await follow()).follower
    expect(next.first).toEqual(POLICY)
    expect(next.known()).toBe(known)
  })

  it('allows nothing after a start with a kept list that is damaged, until it is told again', async () => {
    await writeFile(join(dir, 'network-egress.json'), '{"version":3,"allow":[".exam')
    const { follower, warnings } = await follow()
    expect(follower.first).toMatchObject({ allow: [] })
    expect(follower.known()).toBeUndefined()
    expect(warnings.join()).toContain('nothing is allowed')
  })

  it('allows nothing after it was told a list that it cannot read, until it is told one that it can', async () => {
    const applied: NetworkEgressPolicy[] = []
    const { follower, warnings } = await follow(async (policy) => void applied.push(policy))
    follower.heard(POLICY)
    await expect.poll(() => applied).toEqual([POLICY])
    for (const told of [
      { version: 4, allow: ['*com'], deny: [] },
      'damaged',
      { version: 4, allow: null, deny: [] },
    ])
      follower.heard(told)
    expect(follower.known()).toBeUndefined()
    await expect.poll(() => applied.slice(1)).toEqual([{ version: 0, allow: [], deny: [] }])
    expect(warnings).toHaveLength(3)
    follower.heard({ ...POLICY, version: 5 })
    await expect.poll(() => applied.at(-1)).toEqual({ ...POLICY, version: 5 })
    expect(applied).toHaveLength(3)
    await follower.close()
  })

  it('puts the newest in force, tries again what failed, and takes nothing that it cannot read', async () => {
    const applied: number[] = []
    const { follower, warnings } = await follow(async ({ version }) => {
      applied.push(version)
      if (applied.length === 1)
        throw new WeirError('egress.unavailable', 'the gateway is being started again')
    })
    follower.heard({ version: 9, allow: ['*com'], deny: [] })
    expect(follower.known()).toBeUndefined()
    follower.heard(POLICY)
    follower.heard({ ...POLICY, version: 4 })
    await expect.poll(() => applied.at(-1)).toBe(4)
    await expect
      .poll(async () => JSON.parse(await readFile(join(dir, 'network-egress.json'), 'utf8')) as unknown, {
        timeout: 5_000,
      })
      .toMatchObject({ version: 4 })
    expect(warnings).toHaveLength(2)
    await follower.close()
  })
})

describe('the orchestrator’s list of the network', () => {
  const list = (...settings: string[]) =>
    openNetworkList({ config: loadConfig({ dataDir: dir, settings }), file: join(dir, 'kept', 'list.json') })

  it('restricts nothing without a key, and allows nothing with an empty one', async () => {
    expect((await list()).policy).toEqual({ version: 0, deny: [] })
    expect((await list('Orchestrator.Egress.Deny=evil.test')).policy).toEqual({
      version: 1,
      deny: ['evil.test'],
    })
    expect((await list('Orchestrator.Egress.Allow=')).policy).toEqual({ version: 2, allow: [], deny: [] })
  })

  it('gets another version with each change, also over restarts, and keeps it while nothing changes', async () => {
    expect((await list('Orchestrator.Egress.Allow=a.test')).policy.version).toBe(1)
    expect((await list('Orchestrator.Egress.Allow=a.test')).policy.version).toBe(1)
    expect((await list('Orchestrator.Egress.Allow=b.test')).policy.version).toBe(2)
    expect((await list()).policy).toEqual({ version: 3, deny: [] })
  })

  it('refuses to start with a list that it cannot read, naming each bad line', async () => {
    const file = join(dir, 'list')
    await writeFile(file, 'a.test\n*com\nhttps://b.test/path\n')
    const opening = list(`Orchestrator.Egress.AllowFile=${file}`)
    await expect(opening).rejects.toThrow(/list:2[\s\S]*list:3/)
  })
})

describe('the list file that commands write', () => {
  const open = () =>
    openNetworkList({
      config: loadConfig({ dataDir: dir, settings: [] }),
      file: join(dir, 'network-egress.json'),
      standardFile: join(dir, 'allowed-hosts'),
    })

  it('is begun on purpose only, and its loss does not open the network, also over a restart', async () => {
    const list = await open()
    await expect(list.edit({ add: ['example.com'] })).rejects.toMatchObject({ code: 'network.no_list' })
    expect(await list.edit({ add: ['example.com'] }, { begin: true, dryRun: true })).toMatchObject({
      version: 0,
    })
    expect(await list.edit({ add: ['example.com'] }, { begin: true })).toMatchObject({ version: 1 })
    await list.edit({ remove: ['example.com'] })
    expect((await open()).policy).toEqual({ version: 2, allow: [], deny: [] })
    await rm(join(dir, 'allowed-hosts'))
    await expect(list.edit({ add: ['example.org'] })).rejects.toThrow('is gone')
    await expect(open()).rejects.toThrow('is gone')
    await rm(join(dir, 'network-egress.json'))
    expect((await open()).policy).toEqual({ version: 0, deny: [] })
  })

  it('is not written when nodes could not be told the list', async () => {
    const list = await open()
    const long = Array.from(
      { length: 3_000 },
      (_, index) => `h${index}.${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.test`,
    )
    await expect(list.edit({ add: long }, { begin: true })).rejects.toThrow('that nodes can be told')
    expect(list.policy).toEqual({ version: 0, deny: [] })
  })
})

describe('the list file of a node', () => {
  const add = (pattern: string) =>
    editNodeAllowlist(loadConfig({ dataDir: dir }), { add: [pattern] }, { dryRun: false })

  it('loses nothing when several commands change it at once, and is not changed past a lock', async () => {
    const hosts = Array.from({ length: 8 }, (_, index) => `h${index}.example.com`)
    await Promise.all(hosts.map(add))
    const lines = (await readFile(join(dir, 'allowed-hosts'), 'utf8')).trim().split('\n')
    expect(lines.toSorted()).toEqual(hosts)
    await writeFile(join(dir, 'allowed-hosts.lock'), '')
    await expect(add('late.example.com')).rejects.toMatchObject({
      code: 'config.invalid',
      hint: expect.stringContaining('allowed-hosts.lock'),
    })
    expect((await readFile(join(dir, 'allowed-hosts'), 'utf8')).trim().split('\n')).toEqual(lines)
  })

  it('is changed past the lock of a process that was killed, whose leavings are removed', async () => {
    const module = join(PACKAGE_ROOT, 'dist', 'edit-whole.js')
    const script = `import(${JSON.stringify(module)}).then(({ editWhole }) =>
      editWhole(${JSON.stringify(join(dir, 'allowed-hosts'))}, () => process.kill(process.pid, 'SIGKILL')))`
    expect(spawnSync(process.execPath, ['-e', script]).signal).toBe('SIGKILL')
    expect(await readdir(dir)).toEqual(['allowed-hosts.lock'])
    await Promise.all(['a.example.com', 'b.example.com', 'c.example.com'].map(add))
    expect(await readdir(dir)).toEqual(['allowed-hosts'])
    expect((await readFile(join(dir, 'allowed-hosts'), 'utf8')).trim().split('\n')).toHaveLength(3)
  })
})

describe('a node and its own orchestrator', () => {
  it('put a change of the list file in force at the gateway, and the gateway says so', async () => {
    const file = join(dir, 'hosts')
    await writeFile(file, '.example.com\n')
    const settings = [
      'JobAdmissionControl.AcceptNetworkedJobs=true',
      'Engines.Disabled=docker,wasm',
      'Egress.Allow=www.example.com,packages.example.net',
      `Orchestrator.Egress.AllowFile=${file}`,
      'Publishers.Types.Local.Port=0',
      'Logging.Level=silent',
    ]
    const node = await startNode({
      config: loadConfig({ dataDir: join(dir, 'data'), settings }),
      roles: { orchestrator: true, compute: true },
      listen: { host: '127.0.0.1', port: 0 },
      store: 'memory',
    })
    try {
      const { jobs } = node
      if (jobs === undefined) throw new Error('the test is wrong')
      const said = async (host: string) => {
        const question = { host, services: [{ scheme: 'https', port: 443 } as const], domains: [host] }
        const { verdicts } = await jobs.explainEgress(node.nodeId, question)
        return verdicts[0]?.allowed === true ? 'allowed' : verdicts[0]?.code
      }
      const TIMELY = { timeout: 10_000 }
      await expect(
        jobs.explainEgress('n-zzz', { host: 'packages.example.net', services: [], domains: [] }),
      ).rejects.toMatchObject({ code: 'node.not_found', hint: expect.stringContaining('weir node list') })
      await expect.poll(() => said('packages.example.net'), TIMELY).toBe('egress.not_in_network_list')
      expect(await said('www.example.com')).toBe('allowed')
      expect(await said('ipfs.io')).toBe('egress.not_in_node_list')
      await writeFile(file, 'packages.example.net\n')
      await expect.poll(() => said('packages.example.net'), TIMELY).toBe('allowed')
      expect(await said('www.example.com')).toBe('egress.not_in_network_list')
      await expect.poll(() => node.nodeInfo().egress.networkVersion, TIMELY).toBe(2)
    } finally {
      await node.close()
    }
  })
})
