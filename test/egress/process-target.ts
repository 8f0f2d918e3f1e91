import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket as UdpSocket } from 'node:dgram'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type GatewayClient, startGateway } from '../../src/egress/index.js'
import type { EgressLease } from '../../src/ports/index.js'
import { createAuditFile } from '../../src/stores/audit-file.js'
import { type CorpusTarget, DEFAULT_LIST } from './corpus-runner.js'
import { nodePolicyOf, QUICK_LIMITS } from './in-process-target.js'
import { ip, Namespace } from './network.js'
import {
  addressOf,
  EVIL_ADDRESSES,
  OK_ADDRESSES,
  ORCHESTRATOR_ADDRESS,
  OWN_ADDRESS,
  roleOf,
  Witnesses,
} from './witnesses.js'

const INTERNAL = [
  '10.9.9.9',
  '169.254.169.254',
  '172.31.0.1',
  '192.168.1.1',
  '100.64.0.1',
  '198.18.0.1',
  'fd00::1',
  '93.184.216.11',
  ORCHESTRATOR_ADDRESS,
]
const DNS_SERVER = '9.9.9.9'

export interface ProcessTarget extends CorpusTarget {
  readonly gateway: GatewayClient
  /** Open files of the gateway process. */
  job: Namespace
}

/**
 * The gateway as a process of its own in a namespace with an uplink; the job in one with only loopback; origins, a
 * DNS server and internal listeners behind the uplink, on the real addresses. Nothing leaves this machine.
 */
export async function createProcessTarget(): Promise<ProcessTarget> {
  const tag = `wc${process.pid % 10_000}`
  const world = Namespace.create(`${tag}w`)
  const uplink = Namespace.create(`${tag}u`)
  const job = Namespace.create(`${tag}j`)
  connectNamespaces(tag, uplink, world)
  const witnesses = new Witnesses()
  await placeWitnesses(witnesses, world, uplink)
  const dir = mkdtempSync(join(tmpdir(), 'weir-corpus-'))
  const audit = createAuditFile({ dir })
  const start = (allowEch: boolean) =>
    startGateway({
      nodeId: 'n-corpus',
      auditDir: dir,
      audit,
      dnsServers: [DNS_SERVER],
      dnsTimeoutMs: 1_000,
      limits: QUICK_LIMITS,
      allowEch,
      launcher: ['ip', 'netns', 'exec', uplink.name],
    })
  const usual = await start(false)
  let lenient: GatewayClient | undefined
  let current: { key: string; lease: EgressLease; executionId: string; after: number } | undefined
  let count = 0
  return {
    witnesses,
    gateway: usual,
    job,
    async prepare(row) {
      const key = JSON.stringify(row.policy ?? {})
      if (current?.key !== key) {
        await current?.lease.close()
        if (row.policy?.allowEch === true) lenient ??= await start(true)
        const gateway = row.policy?.allowEch === true && lenient !== undefined ? lenient : usual
        await gateway.setNodePolicy(nodePolicyOf(row))
        const executionId = `e-corpus-${++count}`
        const attachment = await gateway.attach(job.path)
        const lease = await gateway.open(
          { jobId: 'j-corpus', executionId },
          { mode: 'http', allow: row.policy?.job ?? DEFAULT_LIST },
          attachment,
        )
        current = { key, lease, executionId, after: 0 }
      }
      current.after = (await audit.read(current.executionId, 0, 10_000)).at(-1)?.sequence ?? 0
    },
    connect: () => job.connect('127.0.0.1', 3128),
    records: () => audit.read(current?.executionId ?? '', current?.after ?? 0, 1_000),
    async close() {
      await usual.close()
      await lenient?.close()
      for (const namespace of [job, uplink, world]) namespace.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function connectNamespaces(tag: string, uplink: Namespace, world: Namespace): void {
  ip('link', 'add', `${tag}a`, 'type', 'veth', 'peer', 'name', `${tag}b`)
  ip('link', 'set', `${tag}a`, 'netns', uplink.name)
  ip('link', 'set', `${tag}b`, 'netns', world.name)
  for (const address of ['11.0.0.2/24', `${OWN_ADDRESS}/32`])
    ip('-n', uplink.name, 'addr', 'add', address, 'dev', `${tag}a`)
  ip('-n', uplink.name, 'addr', 'add', '2a00::2/64', 'dev', `${tag}a`, 'nodad')
  ip('-n', world.name, 'addr', 'add', '11.0.0.1/24', 'dev', `${tag}b`)
  ip('-n', world.name, 'addr', 'add', '2a00::1/64', 'dev', `${tag}b`, 'nodad')
  ip('-n', uplink.name, 'link', 'set', `${tag}a`, 'up')
  ip('-n', world.name, 'link', 'set', `${tag}b`, 'up')
  for (const address of [...OK_ADDRESSES, ...EVIL_ADDRESSES, ...INTERNAL, DNS_SERVER])
    ip('-n', world.name, 'addr', 'add', `${address}/${address.includes(':') ? 128 : 32}`, 'dev', 'lo')
  ip('-n', uplink.name, 'route', 'add', 'default', 'via', '11.0.0.1')
  ip('-n', uplink.name, '-6', 'route', 'add', 'default', 'via', '2a00::1')
}

async function placeWitnesses(witnesses: Witnesses, world: Namespace, uplink: Namespace): Promise<void> {
  for (const address of [...OK_ADDRESSES, ...EVIL_ADDRESSES, ...INTERNAL]) {
    for (const port of [80, 443, 8443, 8080, 1234]) {
      const server = await world.listen(address, port)
      Object.assign(server, { allowHalfOpen: true })
      witnesses.watch(server, roleOf(address, port))
    }
  }
  // Services of the node itself, beside the gateway.
  for (const address of ['127.0.0.1', '::1', OWN_ADDRESS])
    for (const port of [80, 443, 8080]) witnesses.watch(await uplink.listen(address, port), 'internal')
  answerDns(await world.udp(DNS_SERVER, 53), witnesses)
}

/** A DNS server that answers from the row's script. */
function answerDns(socket: UdpSocket, witnesses: Witnesses): void {
  socket.on('message', (query, from) => {
    const { name, end } = readQuestion(query)
    const type = query.readUInt16BE(end) === 1 ? 'A' : 'AAAA'
    const script = witnesses.dns(name, type)
    if (script.silent === true) return
    const chain = [name, ...(script.cname ?? [])]
    const records = chain.slice(1).map((target, index) => record(chain[index] ?? '', 5, encodeName(target)))
    for (const address of (type === 'A' ? script.A : script.AAAA) ?? [])
      records.push(record(chain.at(-1) ?? name, type === 'A' ? 1 : 28, Buffer.from(addressOf(address).bytes)))
    const header = Buffer.from(query.subarray(0, 12))
    header.writeUInt16BE(0x8180 | (script.rcode ?? 0), 2)
    header.writeUInt16BE(records.length, 6)
    const answer = Buffer.concat([header, query.subarray(12, end + 4), ...records])
    setTimeout(() => socket.send(answer, from.port, from.address), script.delayMs ?? 0)
  })
}

function readQuestion(query: Buffer): { name: string; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.'), end: at + 1 }
}

function encodeName(name: string): Buffer {
  return Buffer.concat([
    ...name.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0]),
  ])
}

function record(name: string, type: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10)
  fixed.writeUInt16BE(type, 0)
  fixed.writeUInt16BE(1, 2)
  fixed.writeUInt32BE(604_800, 4)
  fixed.writeUInt16BE(data.length, 8)
  return Buffer.concat([encodeName(name), fixed, data])
}
