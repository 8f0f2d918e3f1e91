import { spawnSync } from 'node:child_process'
import type { Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/model/index.js'
import type { CorpusRow } from './corpus-row.js'
import { ask, encodeQuestion, readAnswer } from './dns-questions.js'
import { buildHello, type HelloSpec } from './hello.js'
import { namespacesMissing } from './network.js'
import { createProcessTarget, type ProcessTarget } from './process-target.js'

const missing = namespacesMissing()
const title = 'a program that knows nothing of the proxy'
const ALERT_DENIED = '15030300020231'
const ALERT_FAILED = '15030300020250'
/** Any address will do: nobody dials it. */
const ANYWHERE = '1.2.3.4'

describe.skipIf(missing !== undefined)(
  missing === undefined ? title : `${title} (skipped: ${missing})`,
  () => {
    let target: ProcessTarget

    beforeAll(async () => {
      target = await createProcessTarget()
    })
    afterAll(() => target?.close())
    beforeEach(() => prepare())

    describe('asks for names', () => {
      it('gets one address of each family for a listed name, the same every time, and nothing leaves', async () => {
        const four = await question('example.com', 'A')
        expect(four).toMatchObject({ code: 0, ttl: 60 })
        expect(four.address).toMatch(/^198\.1[89]\./)
        expect(await question('EXAMPLE.com', 'A')).toMatchObject({ address: four.address })
        expect((await question('example.com', 'AAAA')).address).toMatch(/^fd77:6569:7200::/)
        expect((await question('a.b.example.com', 'A')).address).not.toBe(four.address)
        expect(target.witnesses.queries).toEqual([])
        expect(await target.records()).toEqual([])
      })

      it('I-23, I-24 hears at once that any other name does not exist; the first question is one record', async () => {
        for (const type of ['A', 'AAAA', 'A', 'HTTPS'] as const)
          expect(await question('ONQWG4TFOQ.x.evil.test', type)).toMatchObject({ code: 3, answers: 0 })
        expect(target.witnesses.queries).toEqual([])
        const records = await target.records()
        expect(records).toHaveLength(1)
        expect(records[0]).toMatchObject({
          kind: 'transparent',
          method: 'DNS',
          host: 'onqwg4tfoq.x.evil.test',
          port: 0,
          decision: 'deny',
          code: 'egress.not_in_job_list',
          end: 'refused',
        })
      })

      it('I-22 never gets HTTPS, SVCB, TXT, MX or PTR records', async () => {
        for (const type of ['HTTPS', 'SVCB', 'TXT', 'MX', 'ANY'] as const)
          expect(await question('example.com', type)).toMatchObject({ code: 0, answers: 0 })
        expect(await question('4.3.18.198.in-addr.arpa', 'PTR')).toMatchObject({ code: 3, answers: 0 })
      })

      it('may ask any server, over UDP and TCP, with and without EDNS', async () => {
        for (const server of ['127.0.0.1', '127.0.0.53', '127.0.0.11', '8.8.8.8'])
          expect(await question('example.com', 'A', { server })).toMatchObject({ code: 0, answers: 1 })
        for (const server of ['127.0.0.1', '9.9.9.9', '2001:4860:4860::8888'])
          expect(await question('example.com', 'A', { server, tcp: true })).toMatchObject({ answers: 1 })
        expect(await question('example.com', 'A', { edns: 0 })).toMatchObject({
          code: 0,
          answers: 1,
          edns: true,
        })
        expect(await question('example.com', 'A', { edns: 1 })).toMatchObject({ code: 16, answers: 0 })
      })

      it('is answered FORMERR, NOTIMP or REFUSED for what is no question, and not at all for an answer', async () => {
        const good = encodeQuestion('example.com', 'A')
        const changed = (at: number, ...bytes: number[]) => {
          const copy = Buffer.from(good)
          copy.set(bytes, at)
          return copy
        }
        const cases: [Buffer, number | undefined][] = [
          [changed(4, 0, 2), 1],
          [changed(6, 0, 1), 1],
          [Buffer.concat([good, Buffer.from('junk')]), 1],
          [good.subarray(0, -3), 1],
          // A compressed name, and a label that runs over the end.
          [Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]), 1],
          [Buffer.concat([good.subarray(0, 12), Buffer.from([60, 65])]), 1],
          [changed(2, 0x28, 0), 4],
          [changed(good.length - 1, 3), 5],
          [changed(2, 0x81, 0x80), undefined],
          [Buffer.from([1, 2, 3]), undefined],
        ]
        for (const [bytes, code] of cases) {
          const answer = await ask(target.job, bytes, {}, code === undefined ? 150 : 2_000)
          const known = answer === undefined ? undefined : readAnswer(answer).code
          expect(known, bytes.toString('hex')).toBe(code)
        }
        expect(await target.records()).toEqual([])
      })

      it('gets no address for what is no host name', async () => {
        for (const name of [
          '_',
          'a b.example.com',
          '*.example.com',
          '',
          '1.2.3.4',
          '-x.example.com',
          'a\0.example.com',
        ])
          expect(await question(name, 'A'), name).toMatchObject({ code: 3, answers: 0 })
        expect(await question('localhost', 'A')).toMatchObject({ address: '127.0.0.1' })
        expect(await question('printer.local', 'A')).toMatchObject({ code: 3 })
      })
    })

    describe('speaks plain HTTP', () => {
      it('L-03 reaches the host of its Host header, by name and by any address', async () => {
        const { address = '' } = await question('a.example.com', 'A')
        expect((await say(address, 80, get('a.example.com'))).text).toMatch(/^HTTP\/1\.1 200 [^]*OK$/)
        expect(target.witnesses.touched).toEqual(['OK'])
        expect(target.witnesses.ok.bytes.toString()).toContain(
          'GET /path HTTP/1.1\r\nHost: a.example.com\r\n',
        )
        expect(await onlyRecord()).toMatchObject({
          kind: 'transparent',
          method: 'GET',
          host: 'a.example.com',
          port: 80,
          arrivedAt: address,
          dialled: '93.184.216.10',
          code: '',
          status: 200,
        })
      })

      it('by an address that it knew itself, IPv4 or IPv6, reaches what the name resolves to here', async () => {
        for (const address of [ANYWHERE, '2606:4700::1111']) {
          await prepare()
          expect((await say(address, 80, get('example.com'))).text).toMatch(/^HTTP\/1\.1 200 /)
          expect(await onlyRecord()).toMatchObject({ arrivedAt: address, dialled: '93.184.216.10' })
        }
      })

      it('may ask with an absolute target, in HTTP/1.0 without Host, and twice on one connection', async () => {
        const { address = '' } = await question('example.com', 'A')
        const absolute =
          'GET http://example.com/path HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n'
        expect((await say(ANYWHERE, 80, absolute)).text).toMatch(/^HTTP\/1\.1 200 /)
        expect((await say(address, 80, 'GET / HTTP/1.0\r\n\r\n')).text).toMatch(/^HTTP\/1\.1 200 /)
        const kept = 'GET / HTTP/1.1\r\nHost: example.com\r\n\r\n'
        expect(
          (await say(ANYWHERE, 80, kept + get('b.example.com'))).text.match(/HTTP\/1\.1 200 /g),
        ).toHaveLength(2)
        expect((await target.records()).map(({ host }) => host)).toEqual([
          'example.com',
          'example.com',
          'example.com',
          'b.example.com',
        ])
      })

      it.each<[string, string, number, string, string]>([
        ['another host', get('evil.test'), 403, 'egress.not_in_job_list', ANYWHERE],
        ['the network itself', get('orchestrator.example.com'), 403, 'egress.self', ANYWHERE],
        ['an address that is not listed', get(ANYWHERE), 403, 'egress.ip_literal', ANYWHERE],
        ['cloud metadata', get('169.254.169.254'), 403, 'egress.private_address', '169.254.169.254'],
        ['a listed address dialled by another', get('93.184.216.77'), 400, 'request.host_mismatch', ANYWHERE],
        ['no host', 'GET / HTTP/1.0\r\n\r\n', 403, 'egress.ip_literal', ANYWHERE],
        [
          'D-03 two hosts',
          'GET / HTTP/1.1\r\nHost: example.com\r\nHost: example.com\r\n\r\n',
          400,
          'request.malformed',
          ANYWHERE,
        ],
        ['D-06 another port', get('example.com:8080'), 400, 'request.host_mismatch', ANYWHERE],
        [
          'a target that names another host',
          'GET http://evil.test/ HTTP/1.1\r\nHost: example.com\r\n\r\n',
          400,
          'request.host_mismatch',
          ANYWHERE,
        ],
        [
          'a tunnel',
          'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n',
          400,
          'request.malformed',
          ANYWHERE,
        ],
        [
          'G-01 two lengths',
          'POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
          400,
          'request.framing',
          ANYWHERE,
        ],
        [
          'a loop',
          'GET / HTTP/1.1\r\nHost: example.com\r\nVia: 1.1 weir\r\n\r\n',
          403,
          'egress.self',
          ANYWHERE,
        ],
        ['SSH', 'SSH-2.0-client\r\n', 400, 'request.malformed', ANYWHERE],
        ['nonsense', '\x01\x02\x03\x04', 400, 'request.malformed', ANYWHERE],
      ])('is refused with an answer when it asks for %s', async (_, request, status, code, address) => {
        const { text, closed } = await say(address, 80, request)
        expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
        expect(text).toContain(`Weir-Egress-Code: ${code}\r\n`)
        expect(closed).toBe(true)
        expect(target.witnesses.touched).toEqual([])
        expect(target.witnesses.queries).toEqual([])
        expect(await onlyRecord()).toMatchObject({
          kind: 'transparent',
          code,
          decision: 'deny',
          arrivedAt: address,
        })
      })

      it('must ask for the name whose address it dialled', async () => {
        const { address = '' } = await question('a.example.com', 'A')
        expect((await say(address, 80, get('b.example.com'))).text).toContain('request.host_mismatch')
        expect(target.witnesses.touched).toEqual([])
      })

      it('I-03 is refused where a listed name resolves to a private address', async () => {
        target.witnesses.reset({}, { 'priv.example.com': { A: ['10.9.9.9'] } })
        expect((await say(ANYWHERE, 80, get('priv.example.com'))).text).toContain('egress.private_address')
        expect(target.witnesses.touched).toEqual([])
      })
    })

    describe('speaks TLS', () => {
      it('reaches the host of its server name, by name and by any address', async () => {
        const { address = '' } = await question('a.example.com', 'A')
        for (const to of [address, ANYWHERE, '2606:4700::1111']) {
          await prepare()
          const { bytes } = await say(to, 443, { sni: 'a.example.com' }, 'bytes')
          expect(bytes[0]).toBe(22)
          expect(target.witnesses.ok.bytes.equals(buildHello({ sni: 'a.example.com' }))).toBe(true)
          expect(await onlyRecord()).toMatchObject({
            kind: 'transparent',
            method: 'TLS',
            host: 'a.example.com',
            port: 443,
            sni: 'a.example.com',
            arrivedAt: to,
            dialled: '93.184.216.10',
            code: '',
          })
        }
      })

      it('A-09 reaches a listed port of its own', async () => {
        const { address = '' } = await question('api.test', 'A')
        const { bytes } = await say(address, 8443, { sni: 'api.test' }, 'bytes')
        expect(bytes[0]).toBe(22)
        expect(target.witnesses.ok.ports).toEqual([])
        expect(await onlyRecord()).toMatchObject({ host: 'api.test', port: 8443, code: '' })
      })

      it('A-10 reaches a listed address without a server name, and that very address', async () => {
        const { bytes } = await say('93.184.216.77', 443, {}, 'bytes')
        expect(bytes[0]).toBe(22)
        expect(await onlyRecord()).toMatchObject({ host: '93.184.216.77', dialled: '93.184.216.77', sni: '' })
      })

      it.each<[string, HelloSpec, string, number]>([
        ['another host', { sni: 'evil.test' }, 'egress.not_in_job_list', 443],
        ['the network itself', { sni: 'orchestrator.example.com' }, 'egress.self', 443],
        ['F-02 no host', {}, 'egress.ip_literal', 443],
        ['F-06 a name with a root dot', { sni: 'example.com.' }, 'egress.sni_mismatch', 443],
        ['F-08 no name', { sni: 'ex\0ample.com' }, 'egress.sni_mismatch', 443],
        ['an address as name', { sni: '93.184.216.77' }, 'egress.sni_mismatch', 443],
        ['F-10 a hidden name', { sni: 'example.com', extensions: { 0xfe0d: '00' } }, 'egress.ech', 443],
        ['F-27 another protocol', { sni: 'example.com', alpn: ['dot'] }, 'egress.alpn', 443],
        ['a port that is not its', { sni: 'example.com' }, 'egress.port', 80],
        ['a port of another host', { sni: 'example.com' }, 'egress.port', 8443],
      ])('is refused with an alert when it asks for %s', async (_, hello, code, port) => {
        const { bytes, closed } = await say(ANYWHERE, port, hello)
        expect(bytes.toString('hex')).toBe(ALERT_DENIED)
        expect(closed).toBe(true)
        expect(target.witnesses.touched).toEqual([])
        expect(target.witnesses.queries).toEqual([])
        expect(await onlyRecord()).toMatchObject({ kind: 'transparent', code, decision: 'deny', status: 0 })
      })

      it('must name the host whose address it dialled', async () => {
        const { address = '' } = await question('a.example.com', 'A')
        expect((await say(address, 443, { sni: 'b.example.com' })).bytes.toString('hex')).toBe(ALERT_DENIED)
        expect(await onlyRecord()).toMatchObject({ code: 'egress.sni_mismatch', host: 'b.example.com' })
        await prepare()
        expect((await say(address, 443, {})).bytes.toString('hex')).toBe(ALERT_DENIED)
        expect(await onlyRecord()).toMatchObject({ code: 'egress.sni_missing', host: 'a.example.com' })
      })

      it('I-16 hears of a failure behind the gateway by another alert', async () => {
        target.witnesses.reset({}, { 'gone.example.com': { rcode: 3 } })
        const { bytes } = await say(ANYWHERE, 443, { sni: 'gone.example.com' })
        expect(bytes.toString('hex')).toBe(ALERT_FAILED)
        expect(await onlyRecord()).toMatchObject({ code: 'egress.dns_failed', decision: 'allow' })
      })

      it('F-14 is understood byte by byte; F-19 a second hello has to name the same host', async () => {
        target.witnesses.reset({ tls: 'retry' }, {})
        const socket = await target.job.connect(ANYWHERE, 443)
        for (const byte of buildHello({ sni: 'example.com' })) socket.write(Buffer.from([byte]))
        await until(() => target.witnesses.ok.bytes.length > 0)
        socket.write(buildHello({ sni: 'evil.test' }))
        const { bytes } = await heard(socket)
        expect(bytes.subarray(-7).toString('hex')).toBe(ALERT_DENIED)
        expect(await onlyRecord()).toMatchObject({ code: 'egress.sni_mismatch', sni: 'evil.test' })
      })

      it('F-21 is cut when its hello does not come', async () => {
        const { closed } = await say(ANYWHERE, 443, '\x16\x03\x01\x01\x00')
        expect(closed).toBe(true)
        expect(await onlyRecord()).toMatchObject({ code: 'egress.not_tls', end: 'timeout' })
      })
    })

    it('waits for a server that never speaks, and its record says why', async () => {
      const { closed } = await say(ANYWHERE, 443, '')
      expect(closed).toBe(true)
      expect(await onlyRecord()).toMatchObject({
        code: 'request.timeout',
        arrivedAt: ANYWHERE,
        end: 'timeout',
      })
    })

    it('K-01, F-28 and every other port, protocol and family is refused at once, not left waiting', async () => {
      for (const [address, port] of [
        [ANYWHERE, 22],
        [ANYWHERE, 25],
        ['10.9.9.9', 1234],
        ['169.254.169.254', 8080],
        ['2606:4700::1111', 853],
        ['8.8.8.8', 853],
        ['fe80::1', 5353],
      ] as const)
        await expect(target.job.connect(address, port), `${address} ${port}`).rejects.toThrow(
          /ECONNREFUSED|EINVAL/,
        )
      const result = spawnSync('ip', ['netns', 'exec', target.job.name, process.execPath, '-e', UDP_PROBE], {
        encoding: 'utf8',
      })
      expect(result.stdout.trim().split('\n').sort()).toEqual(Array(4).fill('ECONNREFUSED'))
      expect(await target.records()).toEqual([])
    })

    it('finds nothing of ours on its own loopback, and can serve there on ports that its list leaves free', async () => {
      for (const address of ['127.0.0.1', '::1', '127.9.9.9']) {
        const answer = await say(address, 80, get('example.com')).catch(({ message }: Error) => message)
        if (typeof answer === 'string') expect(answer).toMatch(/ECONNRESET/)
        else expect([answer.bytes.length, answer.closed]).toEqual([0, true])
      }
      expect(await target.records()).toEqual([])
      const own = await target.job.listen('127.0.0.1', 8080)
      own.on('connection', (socket) => socket.end('own service'))
      expect((await say('127.0.0.1', 8080, '')).text).toBe('own service')
      own.close()
      await expect(target.job.listen('127.0.0.1', 80)).rejects.toThrow(/EADDRINUSE/)
      await prepare({ job: ['example.com:443'] })
      const web = await target.job.listen('127.0.0.1', 80)
      web.on('connection', (socket) => socket.end('own web'))
      expect((await say('127.0.0.1', 80, '')).text).toBe('own web')
      web.close()
    })

    it('K-23 is refused a connection too many', async () => {
      await target.endLease()
      const limits = { connectionsMax: 1 }
      const lease = await target.gateway.open(
        { jobId: 'j-few', executionId: 'e-few' },
        { mode: 'http', allow: ['.example.com'], limits },
        await target.gateway.attach(target.job.path),
      )
      const first = await target.job.connect(ANYWHERE, 443)
      first.on('error', () => {})
      const reset = ({ message }: Error) => expect(message).toMatch(/ECONNRESET/)
      const second = await target.job.connect(ANYWHERE, 443).catch(reset)
      if (second !== undefined) expect((await heard(second)).closed).toBe(true)
      first.destroy()
      const { destinations } = await lease.close()
      expect(destinations.map(({ code }) => code)).toContain('egress.connections')
    })

    it('K-17 reaches nothing while the gateway is down, and a remembered address means the same afterwards', async () => {
      const { address = '' } = await question('a.example.com', 'A')
      process.kill(target.gateway.pid ?? 0, 'SIGKILL')
      await until(async () => !(await target.gateway.status()).running)
      await expect(target.job.connect(address, 80)).rejects.toThrow(/ECONNREFUSED/)
      await until(async () => (await target.gateway.status()).running)
      // Until it is asked for again the address stands for no name: then the Host header alone decides.
      expect((await say(address, 80, get('a.example.com'))).text).toMatch(/^HTTP\/1\.1 200 /)
      expect(await question('a.example.com', 'A')).toMatchObject({ address })
    })

    it('has listeners on no address after its lease was closed', async () => {
      await target.endLease()
      for (const port of [53, 80, 443, 3128])
        await expect(target.job.connect('127.0.0.1', port)).rejects.toThrow(/ECONNREFUSED/)
    })

    async function prepare(policy: CorpusRow['policy'] = {}): Promise<void> {
      await target.prepare({ ...ROW, policy })
      target.witnesses.reset({}, {})
    }

    async function question(...[name, type, how = {}]: QuestionArguments) {
      const answer = await ask(target.job, encodeQuestion(name, type, how.edns), how)
      if (answer === undefined) throw new Error(`no answer for ${name}`)
      return readAnswer(answer)
    }

    /** Connects, speaks, and listens until the other side ends (or, with `bytes`, until something came). */
    async function say(
      address: string,
      port: number,
      what: string | HelloSpec,
      till: 'end' | 'bytes' = 'end',
    ) {
      const socket = await target.job.connect(address, port)
      socket.on('error', () => {})
      if (what !== '') socket.write(typeof what === 'string' ? Buffer.from(what, 'latin1') : buildHello(what))
      return await heard(socket, till)
    }

    async function onlyRecord(): Promise<AuditRecord | undefined> {
      let records = await target.records()
      await until(async () => (records = await target.records()).length > 0)
      expect(records, JSON.stringify(records)).toHaveLength(1)
      return records[0]
    }
  },
)

type QuestionArguments = [
  name: string,
  type: Parameters<typeof encodeQuestion>[1],
  how?: { server?: string; tcp?: boolean; edns?: number },
]

const ROW: CorpusRow = { id: '', category: '', title: '', send: [], expect: { statuses: [] } }

const UDP_PROBE = `
const { createSocket } = require('node:dgram')
for (const [address, port] of [['8.8.8.8', 5353], ['93.184.216.10', 443], ['1.2.3.4', 123], ['2606:4700::1111', 443]]) {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  socket.on('error', (error) => { console.log(error.code); socket.close() })
  socket.connect(port, address, () => socket.send('x'))
}`

function get(host: string): string {
  return `GET /path HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
}

async function heard(socket: Socket, till: 'end' | 'bytes' = 'end') {
  let bytes = Buffer.alloc(0)
  let closed = false
  socket.on('error', () => {})
  socket.on('data', (more: Buffer) => {
    bytes = Buffer.concat([bytes, more])
  })
  for (const event of ['end', 'close']) socket.on(event, () => (closed = true))
  await until(() => closed || (till === 'bytes' && bytes.length > 0))
  socket.destroy()
  // A tunnel that worked has its record once it ended.
  return { bytes, text: bytes.toString('latin1'), closed }
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 6_000; performance.now() < end; ) {
    if (await holds()) return
    await new Promise((resolve) => setTimeout(resolve, 3))
  }
}
