import { type Host, readHost } from '../../model/index.js'
import type { Arrival } from '../http/request.js'
import type { ClientHello } from '../tls/client-hello.js'
import { Attempt } from './attempt.js'
import type { ClientConnection } from './connection.js'
import type { Contradiction } from './contradiction.js'
import { carryTunnel, cutTunnel, HelloRefused, judgeFor, readHello, relayTls } from './tunnel.js'

/**
 * Serves a TLS connection of a program that knows nothing of the proxy: read the hello → its server name is the host →
 * judge → dial what the name resolves to here → stream. The address that the program dialled only has to agree: it is
 * never dialled, unless it is itself on the lists and the hello names no host. Records exactly once.
 */
export async function openTransparentTunnel(client: ClientConnection, arrival: Arrival): Promise<void> {
  client.speaksTls = true
  const heard = await hear(client, arrival)
  if (heard === undefined) return
  const { raw, hello, host } = heard
  const { port } = arrival
  const about = client.about('TLS', hello.serverName ?? host.text)
  const attempt = new Attempt(client.lease, { kind: 'connect', host, port }, about, client.cut)
  const judge = judgeFor(client, host, attempt)
  return carryTunnel(client, attempt, {
    status: 0,
    contradiction: contradictionOf(arrival, host) ?? ownedByGateway(judge(hello)),
    stream: (origin) => relayTls(client, attempt, { raw, judge, origin }),
  })
}

interface Heard {
  raw: Buffer
  hello: ClientHello
  host: Host
}

/** The hello and the host it means; undefined when it was refused and recorded. */
async function hear(client: ClientConnection, arrival: Arrival): Promise<Heard | undefined> {
  let sent = arrival.name ?? ''
  try {
    const { raw, hello } = await readHello(client)
    const host = hostOf(hello, arrival)
    if (host !== undefined) return { raw, hello, host }
    sent = hello.serverName ?? ''
    throw new HelloRefused(BAD_NAME, true)
  } catch (error) {
    const attempt = new Attempt(client.lease, undefined, client.about('TLS', sent), client.cut)
    await cutTunnel(client, attempt, error, 0)
    return undefined
  }
}

/** The server name; without one the name that was dialled (to be refused), or else the address itself. */
function hostOf({ serverName }: ClientHello, { name, address }: Arrival): Host | undefined {
  if (serverName === undefined) {
    return name === undefined
      ? { kind: 'address', text: address.text, address }
      : { kind: 'name', text: name }
  }
  const reading = readHost(serverName)
  return reading.ok && reading.host.kind === 'name' ? reading.host : undefined
}

function contradictionOf({ name }: Arrival, host: Host): Contradiction | undefined {
  if (name === undefined || name === host.text) return undefined
  const reason = 'the TLS server name differs from the name that was dialled'
  return { code: 'egress.sni_mismatch', owner: 'gateway', reason }
}

function ownedByGateway(problem: Omit<Contradiction, 'owner'> | undefined): Contradiction | undefined {
  return problem === undefined ? undefined : { ...problem, owner: 'gateway' }
}

const BAD_NAME = { code: 'egress.sni_mismatch', reason: 'the TLS server name is malformed' } as const
