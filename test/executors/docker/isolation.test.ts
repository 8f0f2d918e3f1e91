import { spawnSync } from 'node:child_process'
import { createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DockerExecutor } from '../../../src/executors/docker/index.js'
import { isolationFindings, readRights } from '../../../src/executors/docker/isolation-report.js'
import { KERNEL_PROGRAM, SOCKET_PROGRAM, compileC } from './compile-c.js'
import {
  docker,
  importBusybox,
  importImage,
  noRoot,
  removeImage,
  runScript,
  skipNote,
  testExecutor,
} from './with-docker.js'

const IMAGE = 'weir-test-isolation:1'
const KERNEL = 'weir-test-kernel:1'
const SOCKETS = 'weir-test-sockets:1'

describe.skipIf(noRoot !== '')(`a job without network, or with listed hosts only${skipNote(noRoot)}`, () => {
  let executor: DockerExecutor
  let witness: Server
  let port = 0
  const contacts: string[] = []
  const host = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address

  beforeAll(async () => {
    await importBusybox(IMAGE)
    // The witness: a listener on the loopback of this machine, which sees whether anything arrives.
    witness = createServer((socket: Socket) => {
      contacts.push(String(socket.remoteAddress))
      socket.end('reached')
    })
    await new Promise<void>((resolve) => witness.listen(0, '127.0.0.1', resolve))
    port = (witness.address() as AddressInfo).port
    executor = testExecutor({
      attach: async () => Promise.resolve({ id: 'stand-in', proxyUrl: 'http://127.0.0.1:3128' }),
      detach: async () => Promise.resolve(),
    })
  })

  afterAll(async () => {
    await executor.close()
    await new Promise((resolve) => witness.close(resolve))
    await removeImage(IMAGE)
  })

  const run = async (mode: 'none' | 'http', script: string) =>
    runScript(executor, { image: IMAGE, mode, script })

  it.each(['none', 'http'] as const)(
    'K-14 K-01 K-09 in mode %s has a loopback interface and nothing else, for IPv6 too',
    async (mode) => {
      const { stdout } = await run(
        mode,
        `ip -o link; ip route; ip -6 route show table main; for target in 127.0.0.1:${port} ${host}:22 172.17.0.1:22 169.254.169.254:80 1.1.1.1:443 8.8.8.8:53; do
         nc -w 2 \${target%:*} \${target#*:} </dev/null 2>&1 || echo "no $target"; done
       nc -w 2 ::1 ${port} </dev/null 2>&1 || echo no-v6
       for target in fe80::1%lo ff02::1%lo 2606:2800::10 ::ffff:1.1.1.1 64:ff9b::101:101 fd00::1; do
         nc -w 1 $target 443 </dev/null 2>/dev/null && echo "reached $target"; done
       ip -6 -o addr | grep -v ' ::1/128 ' | grep inet6 && echo another-address
       ip -6 addr add fd00::2/64 dev lo 2>/dev/null || echo no-v6-address
       (echo 1 > /proc/sys/net/ipv6/conf/lo/accept_ra) 2>/dev/null || echo no-advertisement`,
      )
      const interfaces = stdout.split('\n').filter((line) => /^\d+: /.test(line))
      expect(interfaces).toHaveLength(1)
      expect(interfaces[0]).toMatch(/^1: lo/)
      expect(stdout).not.toContain('default')
      for (const target of [
        `127.0.0.1:${port}`,
        '172.17.0.1:22',
        '169.254.169.254:80',
        '1.1.1.1:443',
        '8.8.8.8:53',
      ]) {
        expect(stdout).toContain(`no ${target}`)
      }
      expect(stdout).toContain('no-v6\n')
      expect(stdout).toMatch(/no-v6-address\nno-advertisement\n$/)
      expect(stdout).not.toMatch(/reached |another-address/)
      expect(contacts).toEqual([])
    },
  )

  it('has a working loopback of its own, for IPv4 and IPv6', async () => {
    const { stdout } = await run(
      'none',
      `(echo four | nc -l -p 7000 & echo six | nc -l -p 7001 & sleep 0.5; nc -w 2 127.0.0.1 7000 </dev/null; nc -w 2 ::1 7001 </dev/null) 2>&1; nc -l -p 80 & sleep 0.2; nc -w 1 127.0.0.1 80 </dev/null && echo low`,
    )
    expect(stdout).toContain('four')
    expect(stdout).toContain('six')
    expect(stdout).toContain('low\n')
  })

  it('K-04 L-13 cannot reach another job on the same node', async () => {
    const started = runScript(executor, {
      image: IMAGE,
      mode: 'http',
      script: 'nc -l -p 7000 & sleep 2; kill $!; echo unreached',
    })
    const other = await run(
      'http',
      'sleep 0.7; nc -w 1 127.0.0.1 7000 </dev/null || echo refused; nc -w 1 weir-job 7000 </dev/null || echo refused',
    )
    expect(other.stdout).toBe('refused\nrefused\n')
    expect((await started).stdout).toBe('unreached\n')
  })

  it('K-06 K-07 K-08 cannot make raw sockets, change its network or its packet rules', async () => {
    const { stdout } = await run(
      'http',
      `arping -c 1 -I lo 10.0.0.1 2>&1 | grep -o -i 'operation not permitted'
       traceroute -I -w 1 -m 1 127.0.0.1 2>&1 | grep -o -i 'operation not permitted\\|permission denied'
       ip link set lo promisc on 2>/dev/null || echo no-promisc
       ip link add d0 type dummy 2>/dev/null || echo no-link
       ip addr add 10.9.9.9/8 dev lo 2>/dev/null || echo no-address
       ip route add default via 127.0.0.2 2>/dev/null || echo no-route
       ip route replace local default dev lo 2>/dev/null || echo no-local
       (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null || echo no-sysctl
       tc qdisc add dev lo root netem 2>/dev/null || echo no-tc
       mknod /tmp/tun c 10 200 2>/dev/null || echo no-mknod`,
    )
    expect(stdout.toLowerCase().split('\n').filter(Boolean)).toEqual([
      'operation not permitted',
      'operation not permitted',
      'no-promisc',
      'no-link',
      'no-address',
      'no-route',
      'no-local',
      'no-sysctl',
      'no-tc',
      'no-mknod',
    ])
  })

  it('K-11 P-15 cannot leave its namespaces, nor mount anything in new ones', async () => {
    const { stdout } = await run(
      'none',
      `unshare -n true 2>/dev/null || echo no-net
       unshare -U true 2>/dev/null || echo no-user
       unshare -m true 2>/dev/null || echo no-mount
       nsenter -t 1 -n true 2>/dev/null || echo no-enter
       chroot /tmp true 2>/dev/null || echo no-chroot
       mount -t cgroup none /tmp 2>/dev/null || echo no-cgroup
       mount -t proc none /tmp 2>/dev/null || echo no-proc`,
    )
    expect(stdout).toBe('no-net\nno-user\nno-mount\nno-enter\nno-chroot\nno-cgroup\nno-proc\n')
  })

  it('K-06 K-07 gets no socket that is not of its own network: raw, packet, netlink audit, vsock', async (context) => {
    const program = compileC(SOCKET_PROGRAM)
    if (program === undefined) context.skip('needs a C compiler')
    try {
      await importImage(SOCKETS, { sockets: program ?? '' })
      const { stdout } = await runScript(executor, {
        image: SOCKETS,
        mode: 'none',
        params: { Entrypoint: ['/sockets'] },
      })
      expect(stdout).toBe('raw no\npacket no\nvsock no\nbluetooth no\nstream yes\nunix yes\n')
    } finally {
      await removeImage(SOCKETS)
    }
  })

  it('P-14 P-15 gets nothing of the kernel that is for administrators, also in name spaces that it makes', async (context) => {
    const program = compileC(KERNEL_PROGRAM)
    if (program === undefined) context.skip('needs a C compiler')
    try {
      await importImage(KERNEL, { kernel: program ?? '' })
      const { stdout } = await runScript(executor, {
        image: KERNEL,
        mode: 'none',
        params: { Entrypoint: ['/kernel'] },
      })
      const lines = stdout.trim().split('\n')
      expect(lines).toHaveLength(15)
      for (const line of lines) expect(line).toMatch(/^[a-z0-9 _]+ refused$/)
    } finally {
      await removeImage(KERNEL)
    }
  })

  it('P-23 gets no device that it did not ask for, whatever its environment says', async () => {
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      mode: 'none',
      env: { NVIDIA_VISIBLE_DEVICES: 'all', NVIDIA_DRIVER_CAPABILITIES: 'all', CUDA_VISIBLE_DEVICES: '0' },
      script: 'cd /dev; find . -type b; find . -type c | sort | tr "\\n" " "',
    })
    const usual = ['full', 'null', 'ptmx', 'random', 'tty', 'urandom', 'zero']
    const found = stdout
      .trim()
      .split(/\s+/)
      .map((path) => path.replace('./', ''))
    expect(
      found.filter((name) => !usual.includes(name) && !/^(?:pts\/(?:\d+|ptmx)|console)$/.test(name)),
    ).toEqual([])
  })

  it('P-24 shares no files and no memory with the job before or beside it', async () => {
    const script = `cat /tmp/left /dev/shm/left /var/tmp/left /outputs/left 2>/dev/null
      for at in /tmp /dev/shm /var/tmp; do mkdir -p $at; echo secret > $at/left; done; ls /proc | grep -c '^[0-9]'; sleep 0.5`
    const both = await Promise.all([run('none', script), run('http', script)])
    const after = await run('none', script)
    for (const { stdout } of [...both, after]) {
      expect(stdout).not.toContain('secret')
      expect(Number(stdout.trim())).toBeLessThan(8)
    }
  })

  it('J-16 is offered "http" after a canary could not get out', async () => {
    expect(await executor.network.modes()).toMatchObject({ http: true, full: false })
  })

  it('is given its own namespace by the engine when there are no holders', async () => {
    const slot = { mode: 'none' as const, release: async () => Promise.resolve() }
    const { stdout } = await runScript(executor, { image: IMAGE, slot, script: 'ip -o link; hostname' })
    expect(stdout).toMatch(/^1: lo[^\n]*\nweir-job\n$/)
  })

  it('is refused a network that another executor made', async () => {
    const slot = { mode: 'http' as const, release: async () => Promise.resolve() }
    await expect(runScript(executor, { image: IMAGE, slot, script: 'true' })).rejects.toMatchObject({
      code: 'engine.failed',
    })
  })
})

describe.skipIf(noRoot !== '')(`the isolation probe${skipNote(noRoot)}`, () => {
  it('J-16 finds a namespace with a way to the host, says what answered, and withdraws the mode', async () => {
    let cables = 0
    const executor = testExecutor({
      // A gateway that, by mistake, connects the job's namespace to this machine.
      attach: async (netnsPath) => {
        const pid = /^\/proc\/(\d+)\/ns\/net$/.exec(netnsPath)?.[1] ?? ''
        const name = `wxleak${process.pid % 10_000}-${cables++}`
        const commands = [
          `link add ${name} type veth peer name leak netns ${pid}`,
          `addr add 10.199.99.1/30 dev ${name}`,
          `link set ${name} up`,
        ]
        for (const command of commands) spawnSync('ip', command.split(' '))
        for (const command of [
          'addr add 10.199.99.2/30 dev leak',
          'link set leak up',
          'route add default via 10.199.99.1',
        ]) {
          spawnSync('nsenter', [`--net=${netnsPath}`, 'ip', ...command.split(' ')])
        }
        return Promise.resolve({ id: 'leaky', proxyUrl: 'http://127.0.0.1:3128' })
      },
      canary: { selfPorts: [1] },
    })
    try {
      const report = await executor.network.modes()
      expect(report.http).toBe(false)
      expect(report.problems.join('\n')).toContain('mode http: the job has the interface leak')
      expect(report.problems.join('\n')).toMatch(
        /mode http: this machine answers a job at [0-9.]+ port 1 \(tcp\)/,
      )
      await expect(
        executor.network.acquire('http', { executionId: 'e-x' }, AbortSignal.timeout(5000)),
      ).rejects.toMatchObject({
        code: 'engine.unavailable',
        hint: expect.stringContaining('interface leak') as string,
      })
    } finally {
      await executor.close()
    }
  })

  it('judges rights: capabilities, privileges, system calls', () => {
    const tight = 'CapBnd:\t00000000000000fb\nNoNewPrivs:\t1\nSeccomp:\t2\n'
    const none = { interfaces: ['lo'], results: [] }
    expect(isolationFindings('none', none, readRights(tight))).toEqual([])
    expect(isolationFindings('none', none, readRights(tight.replace('fb', '20fb')))).toEqual([
      'the job has the capability NET_RAW',
    ])
    expect(isolationFindings('none', none, readRights('')).length).toBeGreaterThanOrEqual(7)
  })

  it('takes "connection refused" by another machine for an answer, and by the own loopback not', () => {
    const rights = readRights('CapBnd:\t0\nNoNewPrivs:\t1\nSeccomp:\t2\n')
    const result = {
      protocol: 'tcp' as const,
      address: '192.168.1.1',
      port: 1,
      what: 'this machine',
      outcome: 'answered' as const,
      stayedInside: false,
    }
    expect(isolationFindings('http', { interfaces: ['lo'], results: [result] }, rights)).toEqual([])
    expect(isolationFindings('full', { interfaces: ['lo', 'eth0'], results: [result] }, rights)).toEqual([
      'this machine answers a job at 192.168.1.1 port 1 (tcp)',
    ])
  })

  it('offers no http without a gateway, and says why', async () => {
    const executor = testExecutor()
    expect(await executor.network.modes()).toEqual({
      http: false,
      full: false,
      problems: ['mode http is not switched on', 'mode full is not switched on'],
    })
    const before = await docker.listContainers({ all: true })
    await executor.close()
    expect(before.length).toBeGreaterThanOrEqual(0)
  })
})
