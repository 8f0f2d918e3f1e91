import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createTestWorld, DNS_SERVER, Namespace, type TestWorld } from '../../src/conformance/index.js'
import { type GatewayClient, type GatewayClientOptions, startGateway } from '../../src/egress/index.js'
import type { EgressLease } from '../../src/ports/index.js'
import { createAuditFile, verifyAuditFile } from '../../src/stores/audit-file.js'
import { buildHello } from './hello.js'
import { namespacesMissing } from './network.js'

const missing = namespacesMissing()
const title = 'the gateway process, when something breaks'
const ANSWERED = /^HTTP\/1\.1 200 /
/** Under load everything takes longer; what must not happen is looked for in the witnesses. */
const PATIENT = { timeout: 20_000 }

describe.skipIf(missing !== undefined)(
  missing === undefined ? title : `${title} (skipped: ${missing})`,
  () => {
    const tag = `wf${process.pid % 10_000}`
    let world: TestWorld
    let job: Namespace
    let dir: string
    let gateway: GatewayClient
    let lease: EgressLease
    let count = 0
    const open: Socket[] = []

    beforeAll(async () => {
      world = await createTestWorld(tag)
      job = Namespace.create(`${tag}j`)
    })
    afterAll(() => {
      job?.close()
      world?.close()
    })
    beforeEach(() => {
      dir = mkdtempSync(join(tmpdir(), 'weir-faults-'))
      world.witnesses.reset({}, {})
    })
    afterEach(async () => {
      for (const socket of open.splice(0)) socket.destroy()
      await gateway.close()
      rmSync(dir, { recursive: true, force: true })
    })

    async function start(more: Partial<GatewayClientOptions> = {}, words: string[] = []): Promise<void> {
      const auditDir = more.auditDir ?? dir
      gateway = await startGateway({
        nodeId: 'n-1',
        auditDir,
        audit: createAuditFile({ dir: auditDir }),
        dnsServers: [DNS_SERVER],
        dnsTimeoutMs: 700,
        launcher: [...words, 'ip', 'netns', 'exec', world.uplink.name],
        ...more,
      })
      await gateway.setNodePolicy({ allow: ['.example.com'], deny: [], privateExceptions: [], self: [] })
      const attachment = await gateway.attach(job.path)
      lease = await gateway.open(who(++count), { mode: 'http', allow: ['.example.com'] }, attachment)
    }
    const who = (number: number) => ({ jobId: 'j-1', executionId: `e-${number}` })

    async function client(): Promise<Socket> {
      const socket = await job.connect('127.0.0.1', 3128)
      socket.on('error', () => {})
      open.push(socket)
      return socket
    }

    /** What comes for an ordinary request; empty when nobody answers. */
    async function ask(): Promise<string> {
      try {
        const socket = await client()
        let text = ''
        socket.on('data', (data: Buffer) => (text += data.toString('latin1')))
        socket.on('end', () => socket.end())
        socket.write('GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n')
        await new Promise((resolve) => socket.once('close', resolve))
        return text
      } catch {
        return ''
      }
    }

    async function openTunnel(host = 'example.com'): Promise<Socket> {
      const socket = await client()
      socket.write(`CONNECT ${host}:443 HTTP/1.1\r\nHost: ${host}:443\r\n\r\n`)
      const answer = await new Promise<Buffer>((resolve) => socket.once('data', resolve))
      if (!answer.toString().startsWith('HTTP/1.1 200 ')) throw new Error(answer.toString())
      const answered = new Promise((resolve) => socket.once('data', resolve))
      socket.write(buildHello({ sni: host }))
      await answered
      return socket
    }

    it('K-17 is killed inside a tunnel: no byte more leaves, the tunnel is on record, and the next request works', async () => {
      await start()
      const tunnel = await openTunnel()
      const { bytes } = world.witnesses.ok
      const closed = new Promise((resolve) => tunnel.once('close', resolve))
      process.kill(gateway.pid ?? 0, 'SIGKILL')
      await expect.poll(() => isRunning(), PATIENT).toBe(false)
      tunnel.write('after the end')
      await closed
      await expect.poll(ask, PATIENT).toMatch(ANSWERED)
      expect(world.witnesses.ok.bytes.includes('after the end')).toBe(false)
      expect(world.witnesses.ok.bytes.subarray(0, bytes.length)).toEqual(bytes)
      await lease.close()
      const records = await createAuditFile({ dir }).read(`e-${count}`, 0, 10)
      expect(records.map(({ kind, end }) => `${kind} ${end}`).slice(0, 2)).toEqual([
        'connect error',
        'restart error',
      ])
      expect(await verifyAuditFile(dir, `e-${count}`)).toMatchObject({ intact: true })
    })

    it('stands still: nothing leaves, and it is replaced by one that serves', async () => {
      await start({ watchMs: 200 })
      const stopped = gateway.pid ?? 0
      process.kill(stopped, 'SIGSTOP')
      const hanging = ask()
      await expect.poll(() => gateway.pid !== undefined && gateway.pid !== stopped, PATIENT).toBe(true)
      expect([await hanging, world.witnesses.touched, world.witnesses.queries]).toEqual(['', [], []])
      expect(await ask()).toMatch(ANSWERED)
      expect(await lease.close()).toMatchObject({ allowed: 1 })
    })

    it('hears from its name server nothing, nonsense or a refusal: nothing is dialled until it answers again', async () => {
      const server = await world.uplink.udp('11.0.0.2', 5300)
      const upstream = await world.uplink.udp('11.0.0.2', 0)
      let behaviour: (query: Buffer) => Buffer | undefined = () => undefined
      const asked = new Map<number, number>()
      server.on('message', (query, from) => {
        const answer = behaviour(query)
        if (answer === undefined) return
        if (answer !== query) {
          server.send(answer, from.port, from.address)
          return
        }
        asked.set(query.readUInt16BE(0), from.port)
        upstream.send(query, 53, DNS_SERVER)
      })
      upstream.on('message', (answer) =>
        server.send(answer, asked.get(answer.readUInt16BE(0)) ?? 0, '11.0.0.2'),
      )
      try {
        await start({ dnsServers: ['11.0.0.2:5300'] })
        const changed = (change: (answer: Buffer) => void) => (query: Buffer) => {
          const answer = Buffer.from(query)
          answer.writeUInt16BE(0x8180, 2)
          change(answer)
          return answer
        }
        const bad: ((query: Buffer) => Buffer | undefined)[] = [
          () => undefined,
          () => Buffer.from('nonsense'),
          () => Buffer.alloc(0),
          (query) => query.subarray(0, 11),
          changed((answer) => answer.writeUInt16BE((answer.readUInt16BE(0) + 1) & 0xffff, 0)),
          changed((answer) => answer.writeUInt16BE(0x8185, 2)),
          changed((answer) => answer.writeUInt16BE(0xffff, 6)),
          changed((answer) => answer.fill(0xc0, 12)),
        ]
        for (const one of bad) {
          behaviour = one
          expect(await ask()).toMatch(/^HTTP\/1\.1 50[24] [\s\S]*egress\.dns_failed/)
        }
        expect(world.witnesses.touched).toEqual([])
        behaviour = (query) => query
        expect(await ask()).toMatch(ANSWERED)
      } finally {
        server.close()
        upstream.close()
      }
      // The server is gone altogether.
      expect(await ask()).toContain('egress.dns_failed')
    })

    it('M-20 has no room for records on its disk: nothing leaves until there is some', async () => {
      const disk = mkdtempSync(join(tmpdir(), 'weir-small-'))
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk])
      try {
        await start({ auditDir: disk })
        expect(await ask()).toMatch(ANSWERED)
        spawnSync('dd', ['if=/dev/zero', `of=${join(disk, 'other')}`, 'bs=1k', 'count=512'], {
          stdio: 'ignore',
        })
        // The last block that the file has already may hold some records more.
        await expect.poll(ask, PATIENT).toMatch(/^HTTP\/1\.1 503 [\s\S]*egress\.audit_failed/)
        world.witnesses.reset({}, {})
        expect(await ask()).toMatch(/^HTTP\/1\.1 503 /)
        expect([world.witnesses.touched, gateway.pid === undefined]).toEqual([[], false])
        rmSync(join(disk, 'other'))
        expect(await ask()).toMatch(ANSWERED)
        await lease.close()
        expect(await verifyAuditFile(disk, `e-${count}`)).toMatchObject({ intact: true })
      } finally {
        await gateway.close()
        execFileSync('umount', [disk])
        rmSync(disk, { recursive: true })
      }
    })

    it('M-07 runs out of descriptors: it refuses, lives on, and serves others when they are free again', async () => {
      await start({}, ['prlimit', '--nofile=100:100'])
      const { pid } = gateway
      const many = await Promise.allSettled(Array.from({ length: 150 }, openSilently))
      expect(many.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(0)
      await expect.poll(() => descriptors(pid), PATIENT).toBeGreaterThan(90)
      for (const socket of open.splice(0)) socket.destroy()
      await expect.poll(ask, PATIENT).toMatch(ANSWERED)
      expect([gateway.pid, world.witnesses.evil, world.witnesses.internal]).toEqual([pid, 0, 0])
    })

    async function openSilently(): Promise<void> {
      const socket = await client()
      socket.write('CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n')
    }

    it('K-25 listens in the namespace of the job, and to nobody else; K-05 N-16 each job has its own way out', async () => {
      await start()
      const other = Namespace.create(`${tag}k`)
      try {
        const attachment = await gateway.attach(other.path)
        const second = await gateway.open(who(++count), { mode: 'http', allow: ['exact.test'] }, attachment)
        const inodes = execFileSync('ls', ['-l', `/proc/${gateway.pid}/fd`], { encoding: 'utf8' })
        for (const at of ['tcp', 'tcp6']) {
          // The gateway's own namespace is the uplink: none of its sockets may listen there.
          const table = readFileSync(`/proc/${gateway.pid}/net/${at}`, 'utf8').split('\n').slice(1)
          const listening = table
            .map((line) => line.trim().split(/\s+/))
            .filter(([, , , state]) => state === '0A')
          for (const columns of listening) expect(inodes).not.toContain(`socket:[${columns[9]}]`)
        }
        await expect(world.uplink.connect('127.0.0.1', 3128)).rejects.toThrow(/ECONNREFUSED/)
        await expect(world.uplink.connect('11.0.0.2', 3128)).rejects.toThrow(/ECONNREFUSED/)
        // The credential of the first counts for nothing at the listener of the second.
        const socket = await other.connect('127.0.0.1', 3128)
        open.push(socket)
        let text = ''
        socket.on('data', (data: Buffer) => (text += data.toString('latin1')))
        socket.write(
          `GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nProxy-Authorization: Basic ${Buffer.from(`e-${count - 1}:x`).toString('base64')}\r\n\r\n`,
        )
        await expect.poll(() => text, PATIENT).toContain('egress.not_in_job_list')
        expect([(await lease.summary()).records, (await second.summary()).refused]).toEqual([0, 1])
        await second.close()
      } finally {
        other.close()
      }
    })

    it('L-10 L-11 uses no proxy above it, whatever its environment says', async () => {
      const names = ['http_proxy', 'https_proxy', 'all_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY']
      const words = names.map((name) => `${name}=http://10.9.9.9:8080`)
      await start({}, ['env', ...words, 'NODE_USE_ENV_PROXY=1'])
      expect(await ask()).toMatch(ANSWERED)
      await openTunnel()
      expect(world.witnesses.touched).toEqual(['OK'])
      await expect(openTunnel('evil.test')).rejects.toThrow(/403/)
      expect([world.witnesses.evil, world.witnesses.internal]).toEqual([0, 0])
    })

    it('is told rules that it cannot read: the old ones stay in force', async () => {
      await start()
      const bad = { allow: ['a..b', '*com'], deny: [], privateExceptions: [], self: [] }
      await expect(gateway.setNodePolicy(bad)).rejects.toMatchObject({ code: 'pattern.invalid' })
      expect(await ask()).toMatch(ANSWERED)
      process.kill(gateway.pid ?? 0, 'SIGKILL')
      await expect.poll(() => isRunning(), PATIENT).toBe(false)
      await expect.poll(ask, PATIENT).toMatch(ANSWERED)
    })

    it('finds its records damaged: the execution is not served, and others are', async () => {
      await start()
      await lease.close()
      const executionId = who(++count).executionId
      writeFileSync(join(dir, `${executionId}.jsonl`), 'not a record\n')
      const attachment = await gateway.attach(job.path)
      const opening = gateway.open(who(count), { mode: 'http', allow: ['.example.com'] }, attachment)
      await expect(opening).rejects.toMatchObject({ code: 'egress.audit_failed' })
      expect(await ask()).toMatch(/^HTTP\/1\.1 503 /)
      await gateway.open(who(++count), { mode: 'http', allow: ['.example.com'] }, attachment)
      expect(await ask()).toMatch(ANSWERED)
    })

    async function isRunning(): Promise<boolean> {
      return (await gateway.status()).running
    }
  },
)

function descriptors(pid: number | undefined): number {
  return execFileSync('ls', [`/proc/${pid}/fd`], { encoding: 'utf8' }).split('\n').length - 1
}
