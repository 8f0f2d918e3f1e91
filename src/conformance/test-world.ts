import type { Socket as UdpSocket } from 'node:dgram'
import { ip, Namespace } from './namespace.js'
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
/** Answers what each row says; the only server of the world. */
export const DNS_SERVER = '9.9.9.9'

/** Two namespaces behind each other: the proxy's, and the internet of the corpus, whose addresses look public. */
export interface TestWorld {
  readonly witnesses: Witnesses
  /** Where the proxy under test runs. Its only way leads to the witnesses. */
  readonly uplink: Namespace
  close(): void
}

/**
 * Builds the world of the corpus: origins, a DNS server and internal listeners on their real addresses, in a namespace that
 * leads nowhere. Needs root (or a user namespace in which /run can be written); `tag` names both namespaces.
 */
export async function createTestWorld(tag: string): Promise<TestWorld> {
  const namespaces: Namespace[] = []
  const create = (name: string): Namespace => {
    const namespace = Namespace.create(name)
    namespaces.push(namespace)
    return namespace
  }
  const close = (): void => namespaces.toReversed().forEach((namespace) => namespace.close())
  try {
    const world = create(`${tag}w`)
    const uplink = create(`${tag}u`)
    connectNamespaces(tag, uplink, world)
    const witnesses = new Witnesses()
    await placeWitnesses(witnesses, world, uplink)
    return { witnesses, uplink, close }
  } catch (error) {
    close()
    throw error
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
