import type { Socket } from 'node:net'
import { isWeirError, WeirError } from '../../errors.js'
import type { EgressEnd, Host } from '../../model/index.js'
import type { ProxyRequest } from '../http/request.js'
import {
  ALERT_ACCESS_DENIED,
  type ClientHello,
  ClientHelloReader,
  type HelloProblem,
  judgeHello,
} from '../tls/client-hello.js'
import { HandshakeWatch } from '../tls/handshake-watch.js'
import type { Attempt } from './attempt.js'
import { closeAfter, endOf, QUOTA_CODES } from './closing.js'
import type { ClientConnection } from './connection.js'
import { type Contradiction, hostContradictionOf } from './contradiction.js'
import { relay } from './relay.js'
import { type ClientSocket, nothingUnread, SocketGone, writeMetered } from './socket-stream.js'

/**
 * Serves CONNECT: judge → dial → `200` → read the TLS hello → stream. No byte reaches the origin before the hello
 * names the host that was asked for. Records exactly once.
 */
export function openTunnel(client: ClientConnection, request: ProxyRequest): Promise<void> {
  const attempt = client.attempt(request)
  const { host } = request
  return carryTunnel(client, attempt, {
    status: 200,
    contradiction: hostContradictionOf(request),
    stream: async (origin) => {
      client.socket.write(ESTABLISHED)
      const judge = judgeFor(client, host, attempt)
      const { raw, hello } = await readHello(client)
      const problem = judge(hello)
      if (problem !== undefined) throw new HelloRefused(problem, true)
      return relayTls(client, attempt, { raw, judge, origin })
    },
  })
}

const ESTABLISHED = Buffer.from('HTTP/1.1 200 Connection Established\r\n\r\n')

/** What is particular to a kind of tunnel. */
export interface TunnelParts {
  /** What the client is told, or thinks, once the tunnel is there. */
  status: number
  /** Refuses what the lists allow. */
  contradiction: Contradiction | undefined
  /** From the dialled origin to the end of the tunnel. */
  stream: (origin: Socket) => Promise<EgressEnd>
}

/**
 * Judge → dial → stream → record, exactly once, however it ends. While a tunnel is open hardly anything else is held for it:
 * this function is the only one that waits for its end, and nothing of the request, or of the hello, is kept.
 */
export async function carryTunnel(
  client: ClientConnection,
  attempt: Attempt,
  { status, contradiction, stream }: TunnelParts,
): Promise<void> {
  let origin: Socket | undefined
  let established = false
  // Nobody half-closes a tunnel that does not exist yet: the client went away, and nothing may be dialled for it.
  const onEnd = () => client.cut(new SocketGone('the client went away'))
  if (client.reader.peerEnded) onEnd()
  client.socket.on('end', onEnd)
  try {
    const found = await client.locate(attempt, contradiction)
    if (found === undefined) return
    // What a sandbox is sent stays in the memory it came in until its channel has taken it: that memory is not lent.
    const readBytes = client.isGuest ? undefined : attempt.down.meter.sliceBytes
    origin = await client.connect(attempt, found, readBytes)
    client.socket.off('end', onEnd)
    origin.on('error', () => {})
    established = true
    const end = await stream(origin)
    await attempt.end({ code: '', status, end })
  } catch (error) {
    if (!established) await client.fail(attempt, error)
    else await cutTunnel(client, attempt, error, status)
  } finally {
    origin?.destroy()
    if (established && !client.socket.destroyed) finishTunnel(client.socket)
  }
}

/** A hello that must not pass. */
export class HelloRefused extends Error {
  override readonly name = 'HelloRefused'
  readonly problem: HelloProblem
  readonly spokeTls: boolean

  constructor(problem: HelloProblem, spokeTls: boolean) {
    super(problem.reason)
    this.problem = problem
    this.spokeTls = spokeTls
  }
}

export type Judge = (hello: ClientHello) => HelloProblem | undefined

/** Judges every hello of a tunnel to `host`, and notes on the attempt what the last one said. */
export function judgeFor(client: ClientConnection, host: Host, attempt: Attempt): Judge {
  const { allowEch } = client.parts
  return (hello) => {
    attempt.sni = hello.serverName ?? ''
    attempt.alpn = hello.alpn
    return judgeHello(hello, host, { allowEch })
  }
}

/** Reads the hello and its raw bytes. Rejects with {@link HelloRefused}, or with the reason of a deadline. */
export async function readHello(client: ClientConnection): Promise<{ raw: Buffer; hello: ClientHello }> {
  const disarm = client.deadline(client.lease.limits.helloTimeoutMs, HELLO_TIMEOUT)
  const parser = new ClientHelloReader()
  const pieces: Buffer[] = []
  try {
    for (;;) {
      const bytes = await client.reader.read(client.signal)
      if (bytes === undefined) throw new SocketGone('the client ended before its TLS hello')
      client.active()
      pieces.push(bytes)
      const reading = parser.push(bytes)
      if (reading.state === 'more') continue
      if (reading.state === 'bad') throw new HelloRefused(reading.problem, parser.spokeTls)
      // Mostly it came in one piece, which is not copied: a copy would hold a larger block for as long as the tunnel lasts.
      const all = pieces.length === 1 ? bytes : Buffer.concat(pieces)
      client.reader.unread(all.subarray(reading.consumed))
      return { raw: all.subarray(0, reading.consumed), hello: reading.hello }
    }
  } finally {
    disarm()
  }
}

/** Sends a judged hello on and streams both ways; a second hello is judged as well. */
export async function relayTls(
  client: ClientConnection,
  attempt: Attempt,
  tunnel: { raw: Buffer; judge: Judge; origin: Socket },
): Promise<EgressEnd> {
  const { raw, judge, origin } = tunnel
  await writeMetered(origin, raw, attempt.up, client.signal)
  const watch = new HandshakeWatch(judge)
  return relay(client, attempt, origin, nothingUnread(), {
    up: (bytes) => {
      if (watch.settled) return bytes
      const verdict = watch.fromClient(bytes)
      if ('problem' in verdict) throw new HelloRefused(verdict.problem, true)
      return verdict.forward
    },
    down: (bytes) => {
      const problem = watch.settled ? undefined : watch.fromServer(bytes)
      if (problem !== undefined) throw new HelloRefused(problem, true)
      return bytes
    },
  })
}

/**
 * Ends a tunnel that was established: an alert when the client speaks TLS, then nothing more. `status` is what the client
 * was told before.
 */
export async function cutTunnel(
  client: ClientConnection,
  attempt: Attempt,
  error: unknown,
  status: number,
): Promise<void> {
  const { socket, signal } = client
  const cause: unknown = error instanceof HelloRefused ? error : signal.aborted ? signal.reason : error
  try {
    if (cause instanceof HelloRefused) {
      await attempt.end({ code: cause.problem.code, owner: 'gateway', status, end: 'refused' })
    } else if (cause === HELLO_TIMEOUT) {
      await attempt.end({ code: 'egress.not_tls', owner: 'gateway', status, end: 'timeout' })
    } else {
      const code = isWeirError(cause, 'egress.revoked', 'egress.timeout', ...QUOTA_CODES) ? cause.code : ''
      const end = cause instanceof SocketGone && !socket.destroyed ? 'origin' : endOf(cause)
      await attempt.end({ code, status, end })
    }
  } finally {
    if (cause instanceof HelloRefused && cause.spokeTls) closeAfter(socket, ALERT_ACCESS_DENIED)
    else socket.destroy()
  }
}

const HELLO_TIMEOUT = new WeirError('egress.timeout', 'The TLS hello did not arrive in time')

/** Lets the last bytes out, then closes. */
function finishTunnel(socket: ClientSocket): void {
  socket.end()
  const timer = setTimeout(() => socket.destroy(), 1_000)
  socket.once('close', () => clearTimeout(timer))
}
