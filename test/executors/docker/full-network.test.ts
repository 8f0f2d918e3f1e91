import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DockerExecutor } from '../../../src/executors/docker/index.js'
import { nodeHash } from '../../../src/executors/docker/labels.js'
import { parseRuleAddress, ruleAddresses } from '../../../src/executors/docker/rule-address.js'
import { REACH_PROGRAM, compileC } from './compile-c.js'
import { HOST_PUBLIC, INTERNET, LAN, METADATA, SmallWorld } from './small-world.js'
import {
  docker,
  eventually,
  importBusybox,
  noRoot,
  removeImage,
  runScript,
  skipNote,
  startRun,
  testExecutor,
  testNodeId,
} from './with-docker.js'

const IMAGE = 'weir-test-full:1'
const missing =
  noRoot !== '' ? noRoot : spawnSync('nft', ['--version']).status === 0 ? '' : 'needs nft (package nftables)'

describe.skipIf(missing !== '')(`K-16 a job with the internet${skipNote(missing)}`, () => {
  const world = new SmallWorld()
  let executor: DockerExecutor
  const nodeId = testNodeId()
  const { hostContacts } = world
  /** Who reached the service of this machine, the witness's own questions aside. */
  const strangers = () => hostContacts.filter((address) => address !== INTERNET)
  const reachProgram = missing === '' ? compileC(REACH_PROGRAM) : undefined

  beforeAll(async () => {
    await importBusybox(IMAGE, [], reachProgram === undefined ? {} : { 'bin/reach': reachProgram })
    await world.build()
    executor = testExecutor({ nodeId, full: { dnsServers: [INTERNET] } })
    expect(await executor.network.modes()).toMatchObject({ full: true })
  })

  afterAll(async () => {
    world.destroy()
    await executor?.close()
    await removeImage(IMAGE)
  })

  const run = async (script: string, by = executor) => runScript(by, { image: IMAGE, mode: 'full', script })
  const reach = (target: string) =>
    `nc -w 1 ${target.replace(':', ' ')} </dev/null 2>&1 || echo "no ${target}"; `

  it('the witnesses see whoever comes', async () => {
    expect(world.ask('internet', HOST_PUBLIC, 8080)).toBe('host\n')
    await eventually('the service of this machine saw it', () => hostContacts.length > 0)
    expect(
      spawnSync('busybox', ['nc', '-w', '1', LAN, '80'], { input: '', timeout: 3000 }).stdout.toString(),
    ).toBe('lan\n')
    expect(
      spawnSync('busybox', ['nc', '-w', '1', METADATA, '80'], { input: '', timeout: 3000 }).stdout.toString(),
    ).toBe('lan\n')
    expect(world.lanPackets()).toBeGreaterThan(0)
  })

  it('reaches the internet, any protocol, and resolves names', async () => {
    const { stdout } = await run(
      `nc -w 3 ${INTERNET} 80 </dev/null; nc -w 3 ${INTERNET} 8081 </dev/null; nslookup example.com; cat /etc/resolv.conf`,
    )
    expect(stdout).toContain('internet\ninternet\n')
    expect(stdout).toMatch(/Name:\s+example.com\s+Address:?\s?1?:?\s+93\.184\.216\.34/)
    expect(stdout).toContain(`nameserver ${INTERNET}`)
  })

  it('never reaches the LAN, metadata, this machine or the bridge; nothing even arrives there', async () => {
    const gateway = await gatewayOf(nodeId)
    const before = world.lanPackets()
    const targets = (
      `${LAN}:80 ${METADATA}:80 ${HOST_PUBLIC}:8080 ${HOST_PUBLIC}:22 172.17.0.1:22 ${gateway}:22 192.168.1.1:80 ` +
      '100.64.0.1:80 127.0.0.1:8080 10.213.77.1:80 255.255.255.255:80 224.0.0.1:80'
    ).split(' ')
    const { stdout } = await run(targets.map(reach).join(''))
    for (const target of targets) expect(stdout).toContain(`no ${target}`)
    expect(stdout).not.toMatch(/^(?:host|lan)$/m)
    for (const line of stdout.split('\n').filter((text) => text.includes('refused'))) {
      expect(line).toContain('127.0.0.1')
    }
    expect(world.lanPackets()).toBe(before)
    expect(strangers()).toEqual([])
  })

  it('does not get around that by binding to its interface, by ping or by IPv6', async (context) => {
    if (reachProgram === undefined) context.skip('needs a C compiler')
    const before = world.lanPackets()
    const targets = [LAN, METADATA, HOST_PUBLIC, '172.17.0.1', await gatewayOf(nodeId)]
    const { stdout } = await run(
      `reach ${INTERNET} 80; reach ${INTERNET} 80 eth0; ` +
        targets.map((target) => `reach ${target} 80; reach ${target} 8080 eth0; `).join('') +
        'ip -6 addr show dev eth0 | grep -c inet6; ip -6 route show default',
    )
    expect(stdout.split('\n')).toEqual([
      ...Array<string>(2).fill('tcp connected, ping answered'),
      ...Array<string>(targets.length * 2).fill('tcp no, ping no'),
      '0',
      '',
    ])
    expect(world.lanPackets()).toBe(before)
    expect(strangers()).toEqual([])
  })

  it('K-04 K-22 L-13 never reaches another job, not by broadcast either, and nobody comes in', async () => {
    const other = await startRun(executor, {
      image: IMAGE,
      mode: 'full',
      script: 'ip -4 -o addr show dev eth0; nc -u -l -p 7001 & nc -ll -p 7000 -e echo reached',
    })
    await eventually('the other job listens', () => other.stdout().includes('inet '))
    const address = /inet ([0-9.]+)/.exec(other.stdout())?.[1] ?? ''
    const { stdout } = await run(
      reach(`${address}:7000`) + (reachProgram === undefined ? '' : `reach ${address} 7000 eth0`),
    )
    // To everybody on the wire, as a flood would be.
    const wire = address.replace(/\.\d+$/, '.255')
    await run(
      [`${wire}`, '255.255.255.255', '224.0.0.1', address]
        .map((to) => `echo reached | nc -u -w 1 ${to} 7001 2>/dev/null; `)
        .join(''),
    )
    expect(other.stdout()).not.toContain('reached')
    expect(stdout).toContain(`no ${address}:7000`)
    expect(stdout).not.toContain('reached')
    if (reachProgram !== undefined) expect(stdout).toContain('tcp no, ping no')
    expect(world.ask('lan', address, 7000)).toBe('')
    const fromHost = spawnSync('busybox', ['nc', '-w', '1', address, '7000'], { input: '', timeout: 3000 })
    expect(fromHost.stdout.toString()).toBe('')
    await other.running.stop(0)
    await other.end()
  })

  it('stays guarded inside its namespace when somebody removes the rules of the host', async () => {
    const job = await startRun(executor, {
      image: IMAGE,
      mode: 'full',
      script: `sleep 1; ${reach(`${LAN}:80`)} ${reach(`${METADATA}:80`)} ${reach(`${HOST_PUBLIC}:8080`)} nc -w 2 ${INTERNET} 80 </dev/null`,
    })
    const before = world.lanPackets()
    spawnSync('nft', ['delete', 'table', 'inet', `weir_${nodeHash(nodeId)}`])
    await job.end()
    expect(job.stdout()).not.toMatch(/^(?:lan|host)$/m)
    expect(job.stdout()).toContain('internet')
    expect(world.lanPackets()).toBe(before)
    expect(strangers()).toEqual([])
    await executor.isolationProbe()
    expect(spawnSync('nft', ['list', 'table', 'inet', `weir_${nodeHash(nodeId)}`]).status).toBe(0)
  })

  it('stays guarded by the host when the rules inside are gone', async () => {
    const slot = await executor.network.acquire(
      'full',
      { executionId: 'e-inner' },
      AbortSignal.timeout(10_000),
    )
    const holder = (slot as unknown as { networkMode: string }).networkMode.slice('container:'.length)
    const { State } = await docker.getContainer(holder).inspect()
    const inside = ['--net', `--target=${State.Pid}`]
    spawnSync('nsenter', [...inside, 'nft', 'flush', 'ruleset'])
    for (const address of [LAN, METADATA, '172.17.0.1']) {
      spawnSync('nsenter', [
        ...inside,
        'ip',
        'route',
        'replace',
        `${address}/32`,
        'via',
        await gatewayOf(nodeId),
        'dev',
        'eth0',
        'onlink',
      ])
    }
    const before = world.lanPackets()
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      slot,
      script:
        [`${LAN}:80`, `${METADATA}:80`, `${HOST_PUBLIC}:8080`, '172.17.0.1:22'].map(reach).join('') +
        `nc -w 2 ${INTERNET} 80 </dev/null`,
    })
    expect(stdout).not.toMatch(/^(?:lan|host)$|refused/m)
    expect(stdout).toContain('internet\n')
    expect(world.lanPackets()).toBe(before)
    expect(strangers()).toEqual([])
  })

  it('reaches exactly the address and port that the operator lists', async () => {
    const open = testExecutor({
      full: {
        exceptions: [`${LAN}:8080`, `${HOST_PUBLIC}:8080`],
        self: [`${INTERNET}:8081`],
        dnsServers: [INTERNET],
      },
    })
    try {
      const { stdout } = await run(
        [`${LAN}:8080`, `${HOST_PUBLIC}:8080`, `${LAN}:80`, `${INTERNET}:8081`, `${INTERNET}:80`]
          .map(reach)
          .join(''),
        open,
      )
      expect(stdout.split('\n').filter((line) => !line.startsWith('nc:'))).toEqual([
        'lan',
        'host',
        `no ${LAN}:80`,
        `no ${INTERNET}:8081`,
        'internet',
        '',
      ])
    } finally {
      await open.close()
    }
  })

  it('K-18 is withdrawn when the rules of the host vanish, and offered again when they are back', async () => {
    const node = testNodeId()
    const seen: string[] = []
    const watched = testExecutor({
      nodeId: node,
      full: {},
      // The watch looks every thirty seconds; here time passes faster.
      clock: {
        now: () => Date.now(),
        sleep: async (ms, signal) => sleep(Math.min(ms, 40), undefined, { signal, ref: false }),
      },
      logger: { info: () => {}, warn: (details) => seen.push(String(details.problem)) },
    })
    try {
      expect(await watched.network.modes()).toMatchObject({ full: true })
      spawnSync('nft', ['delete', 'table', 'inet', `weir_${nodeHash(node)}`])
      await eventually('it is noticed', () =>
        seen.some((line) => line.includes('rules of the host were removed')),
      )
      await eventually('it is repaired', async () => (await watched.network.modes()).full)
      expect(spawnSync('nft', ['list', 'table', 'inet', `weir_${nodeHash(node)}`]).status).toBe(0)
    } finally {
      await watched.close()
    }
  })

  it('leaves no bridge, no cable and no rules behind', async () => {
    const node = testNodeId()
    const brief = testExecutor({ nodeId: node, full: {} })
    await brief.network.modes()
    expect(spawnSync('ip', ['link', 'show', `weir-${nodeHash(node)}`]).status).toBe(0)
    await brief.close()
    expect(spawnSync('ip', ['link', 'show', `weir-${nodeHash(node)}`]).status).not.toBe(0)
    expect(spawnSync('nft', ['list', 'table', 'inet', `weir_${nodeHash(node)}`]).status).not.toBe(0)
    expect(spawnSync('ip', ['-o', 'link']).stdout.toString()).not.toContain(`wv${nodeHash(node).slice(0, 6)}`)
  })
})

describe('addresses in the rules of the full network', () => {
  it.each([
    '10.9.9.9',
    '10.9.9.9:0',
    '10.9.9.9:65536',
    '10.9:80',
    'host:80',
    '10.0.0.0/8:80',
    '::1:80',
    '10.9.9.9:80 accept',
    '',
  ])('refuses the exception %j', (text) => {
    expect(() => parseRuleAddress(text, { portRequired: true })).toThrow(
      expect.objectContaining({ code: 'config.invalid' }) as Error,
    )
  })
  it('looks names up, leaves IPv6 out, and refuses a name without address', async () => {
    const resolve = async (name: string) =>
      name === 'two.test' ? Promise.resolve(['10.0.0.1', '10.0.0.2']) : Promise.reject(new Error('none'))
    const read = async (...texts: string[]) => ruleAddresses(texts, { portRequired: true }, resolve)
    expect(await read('two.test:80', '10.0.0.3:81', '[fd00::1]:80')).toEqual([
      { address: '10.0.0.1', port: 80 },
      { address: '10.0.0.2', port: 80 },
      { address: '10.0.0.3', port: 81 },
    ])
    await expect(read('two.test')).rejects.toMatchObject({ code: 'config.invalid' })
    await expect(read('bad name:80')).rejects.toMatchObject({ code: 'config.invalid' })
    await expect(read('none.test:80')).rejects.toThrow('none')
  })

  it('reads address and port', () => {
    expect(parseRuleAddress('10.9.9.9:8080', { portRequired: true })).toEqual({
      address: '10.9.9.9',
      port: 8080,
    })
    expect(parseRuleAddress('198.51.100.7', { portRequired: false })).toEqual({
      address: '198.51.100.7',
      port: 0,
    })
  })
})

async function gatewayOf(nodeId: string): Promise<string> {
  const { IPAM } = await docker.getNetwork(`weir-${nodeHash(nodeId)}`).inspect()
  return String(IPAM.Config[0].Gateway)
}
