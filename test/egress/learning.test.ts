import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/model/index.js'
import { suggestDomains } from '../../src/model/suggest-domains.js'
import type { NodeEgressPolicy } from '../../src/ports/index.js'
import type { CorpusRow } from './corpus-row.js'
import { ask, encodeQuestion, readAnswer } from './dns-questions.js'
import { buildHello } from './hello.js'
import { namespacesMissing } from './network.js'
import { until } from './with-gateway.js'
import { createProcessTarget, type ProcessTarget } from './process-target.js'

const missing = namespacesMissing()
const title = 'a learning execution'
const ANYWHERE = '1.2.3.4'

describe.skipIf(missing !== undefined)(
  missing === undefined ? title : `${title} (skipped: ${missing})`,
  () => {
    let target: ProcessTarget
    beforeAll(async () => {
      target = await createProcessTarget()
    })
    afterAll(() => target?.close())

    it('reaches every public host, and the suggested list lets the same pass without anything more', async () => {
      await prepare({ job: [] }, { learning: true })
      const { address = '' } = await question('www.evil.test')
      expect(await question('only-asked.example.org')).toMatchObject({ code: 0, answers: 1 })
      expect(await question('only-asked.example.org')).toMatchObject({ code: 0, answers: 1 })
      expect(await everything(address)).toEqual(['200', '200', '200', 'tls'])
      const records = await recorded(6)
      expect(records.map(({ learning }) => learning)).toEqual(records.map(() => true))
      expect(brief(records)).toEqual([
        'DNS www.evil.test:0 allow ',
        'DNS only-asked.example.org:0 allow ',
        'GET www.evil.test:80 allow ',
        'GET example.org:80 allow ',
        'GET 93.184.216.10:80 allow ',
        'TLS a.example.com:443 allow ',
      ])
      expect(target.witnesses.queries.some((query) => JSON.stringify(query).includes('only-asked'))).toBe(
        false,
      )

      const { domains, onlyAsked, warnings } = suggestDomains(records)
      expect(warnings).toEqual([])
      expect(onlyAsked).toEqual(['only-asked.example.org'])
      const job = domains.map(({ domain }) => domain)
      expect(job.toSorted()).toEqual([
        '93.184.216.10:80',
        'a.example.com:443',
        'example.org:80',
        'www.evil.test:80',
      ])
      expect(domains.every(({ bytesUp, attempts }) => bytesUp > 0 && attempts === 1)).toBe(true)

      await prepare({ job, node: job })
      const again = await question('www.evil.test')
      expect(await everything(again.address ?? '')).toEqual(['200', '200', '200', 'tls'])
      expect((await recorded(4)).map(({ decision, code }) => `${decision}${code}`)).toEqual(
        Array(4).fill('allow'),
      )
    })

    it('is still refused the network itself, private addresses, what is denied, and other ports', async () => {
      const private_ = { 'priv.evil.test': { A: ['10.9.9.9'] } }
      await prepare(
        { job: [], deny: ['denied.evil.test'] },
        { learning: true, networkDeny: ['.example.net'] },
        private_,
      )
      for (const [host, code] of [
        ['orchestrator.example.com', 'egress.self'],
        ['169.254.169.254', 'egress.private_address'],
        ['printer.local', 'egress.private_address'],
        ['priv.evil.test', 'egress.private_address'],
        ['denied.evil.test', 'egress.denied_by_operator'],
        ['www.example.net', 'egress.denied_by_operator'],
        ['www.evil.test:8443', 'egress.port'],
        ['www.evil.test:443', 'egress.port'],
      ] as const)
        expect(await proxied(host), host).toContain(`Weir-Egress-Code: ${code}\r\n`)
      for (const name of ['printer.local', 'denied.evil.test', 'orchestrator.example.com'])
        expect(await question(name), name).toMatchObject({ code: 3 })
      const { address = '' } = await question('www.evil.test')
      const socket = await target.job.connect(address, 443)
      socket.write(buildHello({ sni: 'other.evil.test' }))
      await heard(socket)
      const records = await recorded(12)
      expect(records.at(-1)).toMatchObject({ code: 'egress.sni_mismatch', decision: 'deny' })
      expect(target.witnesses.touched).toEqual([])
      expect(suggestDomains(records).domains.map(({ domain }) => domain)).toEqual(['www.evil.test:8443'])
    })

    it.each<[string, Partial<NodeEgressPolicy>, string]>([
      [
        'the list of the network',
        { learning: true, network: ['.example.com'] },
        'egress.not_in_network_list',
      ],
      ['a node that lets nobody learn', {}, 'egress.not_in_node_list'],
      ['a node that opens no host', { learning: true, mode: 'none' }, 'egress.not_in_node_list'],
    ])('is held by %s', async (_, node, code) => {
      await prepare({ job: [], node: ['example.com'] }, node)
      expect(await proxied('www.evil.test')).toContain(`Weir-Egress-Code: ${code}\r\n`)
      expect(target.witnesses.touched).toEqual([])
    })

    async function prepare(
      policy: CorpusRow['policy'],
      node?: Partial<NodeEgressPolicy>,
      dns: Parameters<ProcessTarget['witnesses']['reset']>[1] = {},
    ): Promise<void> {
      await target.prepare({ ...ROW, policy }, node === undefined ? undefined : { node })
      target.witnesses.reset({}, dns)
    }

    /** One request each way: without proxy by name, with a proxy, to an address, and over TLS. */
    async function everything(address: string): Promise<string[]> {
      const status = (text: string) => /^HTTP\/1\.1 (\d+) /.exec(text)?.[1] ?? text
      const plain = await target.job.connect(address, 80)
      plain.write(get('www.evil.test'))
      const first = status((await heard(plain)).toString('latin1'))
      const second = status(await proxied('example.org'))
      const third = status(await proxied('93.184.216.10'))
      const secure = await target.job.connect(ANYWHERE, 443)
      secure.write(buildHello({ sni: 'a.example.com' }))
      const record = await heard(secure, 'bytes')
      return [first, second, third, record[0] === 22 ? 'tls' : record.toString('hex')]
    }

    async function recorded(count: number): Promise<AuditRecord[]> {
      await until(async () => (await target.records()).length >= count)
      return target.records()
    }

    async function proxied(host: string): Promise<string> {
      const socket = await target.connect()
      socket.write(`GET http://${host}/path HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
      return (await heard(socket)).toString('latin1')
    }

    async function question(name: string) {
      const answer = await ask(target.job, encodeQuestion(name, 'A'))
      if (answer === undefined) throw new Error(`no answer for ${name}`)
      return readAnswer(answer)
    }
  },
)

const ROW: CorpusRow = { id: '', category: '', title: '', send: [], expect: { statuses: [] } }

function get(host: string): string {
  return `GET /path HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
}

function brief(records: readonly AuditRecord[]): string[] {
  return records.map(
    ({ method, host, port, decision, code }) => `${method} ${host}:${port} ${decision} ${code}`,
  )
}

/** What comes until the other side ends or, with `bytes`, until something came. */
function heard(socket: Socket, till: 'end' | 'bytes' = 'end'): Promise<Buffer> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0)
    const done = () => {
      socket.destroy()
      resolve(bytes)
    }
    socket.on('error', () => {})
    socket.on('data', (more: Buffer) => {
      bytes = Buffer.concat([bytes, more])
      if (till === 'bytes') done()
    })
    socket.on('end', done)
    socket.on('close', done)
  })
}
