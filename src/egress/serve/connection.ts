import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { isWeirError, type ErrorCode, WeirError } from '../../errors.js'
import type { EgressEnd, IpAddress } from '../../model/index.js'
import { headerValues } from '../http/head.js'
import { type Arrival, type ProxyRequest, readRequest, type RequestProblem } from '../http/request.js'
import { type EgressDecision, type EgressRequest, decideAddresses, decideHost } from '../policy/decide.js'
import { type Refusal, refusalResponse, statusOf } from '../policy/refusal.js'
import type { Resolution, Resolve } from '../dns/resolver.js'
import { ALERT_ACCESS_DENIED, ALERT_INTERNAL_ERROR } from '../tls/client-hello.js'
import { Attempt, type AttemptAbout } from './attempt.js'
import { closeAfter, endOf, LIMIT_CODES } from './closing.js'
import type { Contradiction } from './contradiction.js'
import { type Dial, dialFirst } from './dial.js'
import type { OriginConnection } from './origin-pool.js'
import { forwardPlain } from './plain-http.js'
import type { Lease } from './lease.js'
import { type ClientSocket, SocketGone, SocketReader } from './socket-stream.js'
import type { StartTls } from './origin-tls.js'
import { openTransparentTunnel } from './transparent-tunnel.js'
import { openTunnel } from './tunnel.js'

/** What the gateway lends to every connection. */
export interface ServingParts {
  resolve: Resolve
  dial: Dial
  /** Accept encrypted client hellos: the name inside them is not seen. Default false. */
  allowEch: boolean
  /**
   * Finds the lease of a request by its credential, or says why there is none. Absent: the listener is the identity, and
   * credentials mean nothing.
   */
  identify?: (headers: readonly string[], source: string) => Promise<Lease | 407 | 429>
  /**
   * For sandboxes, which bring no TLS of their own: requests for `https://` are served too, and this makes the connection
   * secure. Absent: https goes through CONNECT, and clients have their own TLS.
   */
  startTls?: StartTls
}

/** Serves one client connection until it ends. Never rejects. */
export async function serveConnection(
  socket: ClientSocket,
  lease: Lease,
  parts: ServingParts,
  arrival?: Arrival,
): Promise<void> {
  const connection = new ClientConnection(socket, lease, parts, arrival)
  connection.join(lease)
  try {
    await connection.run()
  } catch {
    // Whatever went wrong was recorded by its attempt; a connection without attempt has nothing to record.
    socket.destroy()
  } finally {
    connection.lease.connections.delete(connection.cut)
    connection.release()
  }
}

/** Answers before any lease is involved, or when there is no room. */
export function refuseSocket(socket: ClientSocket, code: ErrorCode): void {
  const refusal: Refusal = { status: statusOf(code), code, host: '', port: 0, owner: '' }
  closeAfter(socket, refusalResponse(refusal))
}

/** Makes a new connection one to speak over, where TLS is asked for. */
type Secured = (socket: Socket) => Promise<Socket>

/** One client connection: reads requests, one after the other, and hands each to its road. */
export class ClientConnection {
  readonly socket: ClientSocket
  readonly reader: SocketReader
  /** With credentials, that of the newest request. */
  lease: Lease
  readonly parts: ServingParts
  /** How the connection came that was not made to the proxy. Absent: it was. */
  readonly arrival: Arrival | undefined
  /** Refusals are told in HTTP, until it turns out that the client speaks TLS to whom it takes for the host. */
  speaksTls = false
  /** Ends everything this connection does, with a reason. */
  readonly cut: (reason: Error) => void
  readonly #controller = new AbortController()
  #idleTimer: NodeJS.Timeout | undefined
  #activeAt = performance.now()

  constructor(socket: ClientSocket, lease: Lease, parts: ServingParts, arrival?: Arrival) {
    this.socket = socket
    this.lease = lease
    this.parts = parts
    this.arrival = arrival
    this.reader = new SocketReader(socket)
    this.cut = (reason) => {
      if (!this.#controller.signal.aborted) this.#controller.abort(reason)
    }
    socket.on('close', () => this.cut(CLIENT_GONE))
    this.#watchIdle()
  }

  /** It comes out of the sandbox of a WebAssembly program. */
  get isGuest(): boolean {
    return this.parts.startTls !== undefined
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  async run(): Promise<void> {
    if (this.arrival !== undefined && (await this.#startsWithTls()))
      return openTransparentTunnel(this, this.arrival)
    for (let first = true; ; first = false) {
      const request = await this.#nextRequest(first)
      if (request === undefined || !(await this.#identify(request))) return
      if (request.kind === 'connect') return openTunnel(this, request)
      const keep = await forwardPlain(this, request)
      if (!keep) return
    }
  }

  /** Counts the connection as one of this lease, and of no other. */
  join(lease: Lease): void {
    this.lease.connections.delete(this.cut)
    lease.connections.add(this.cut)
    this.lease = lease
  }

  /** Traffic happened: the idle time starts anew. */
  readonly active = (): void => {
    this.#activeAt = performance.now()
  }

  /** Starts an attempt for a request that was understood. */
  attempt(request: ProxyRequest): Attempt {
    const { kind, host, port, method, hostAsSent } = request
    return new Attempt(this.lease, { kind, host, port }, this.about(method, hostAsSent), this.cut)
  }

  /** What every attempt of this connection is recorded with. */
  about(method: string, hostAsSent: string): AttemptAbout {
    const { arrival, isGuest } = this
    return {
      method,
      hostAsSent,
      isGuest,
      ...(arrival === undefined ? {} : { arrivedAt: arrival.address.text }),
    }
  }

  /**
   * Name, lookup, addresses: what may be dialled for this attempt. Undefined when it was refused, recorded and
   * answered. Exactly one lookup; none for a name that is not listed. A `contradiction` refuses what the lists allow:
   * another host that is not listed is the better reason.
   */
  async locate(attempt: Attempt, contradiction: Contradiction | undefined): Promise<Resolution | undefined> {
    const { request } = attempt
    if (request === undefined) return undefined
    await this.#waitForTurn()
    const startedAt = performance.now()
    const byName = decideHost(request, this.lease.rules)
    if (!byName.allowed) return await this.#refuseDecision(attempt, byName)
    if (contradiction !== undefined) {
      const { code, owner, reason } = contradiction
      await this.refuse(attempt, { status: statusOf(code), code, owner, text: reason })
      return undefined
    }
    attempt.rule = byName.rule
    attempt.owner = byName.owner
    attempt.checkBudgets()
    this.#holdToLimits(attempt, request)
    const found =
      request.host.kind === 'address'
        ? { addresses: [request.host.address], aliases: [] }
        : await this.parts.resolve(request.host.text, this.signal)
    attempt.answers = found.addresses
    attempt.aliases = found.aliases
    const byAddress = decideAddresses(request, found, this.lease.rules)
    if (!byAddress.allowed) return await this.#refuseDecision(attempt, byAddress)
    this.lease.meter.took('decision', performance.now() - startedAt)
    return found
  }

  /** False when nobody is known by the credential: then it was recorded and answered. */
  async #identify(request: ProxyRequest): Promise<boolean> {
    const { identify } = this.parts
    if (identify === undefined) return true
    const source = this.socket.remoteAddress ?? ''
    const found = await identify(headerValues(request.headers, 'proxy-authorization'), source)
    if (typeof found === 'number') {
      await this.refuse(this.attempt(request), { status: found, code: 'egress.credential', owner: 'gateway' })
      return false
    }
    if (found === this.lease) return true
    const isFull = found.connections.size >= found.limits.connectionsMax
    this.join(found)
    if (!isFull) return true
    await this.refuse(
      this.attempt(request),
      { status: 429, code: 'egress.connections', owner: 'gateway' },
      'limit',
    )
    return false
  }

  /** Requests that come too fast wait here. Rejects with `egress.rate` when the wait would be too long. */
  async #waitForTurn(): Promise<void> {
    const waitMs = this.lease.nextRequestMs()
    if (waitMs === 0) return
    if (waitMs === undefined) {
      const { requestsPerSecond } = this.lease.limits
      throw new WeirError('egress.rate', `the job may begin ${requestsPerSecond} requests per second`)
    }
    await pause(waitMs, undefined, { signal: this.signal })
  }

  /** Rejects with `egress.names` or `egress.connections`. */
  #holdToLimits(attempt: Attempt, { host, port }: EgressRequest): void {
    const { hostNamesMax, hostConnectionsMax } = this.lease.limits
    if (host.kind === 'name' && !this.lease.admitName(host.text))
      throw new WeirError('egress.names', `the job may reach ${hostNamesMax} different host names`)
    const close = this.lease.openHostConnection(host.text, port)
    if (close === undefined)
      throw new WeirError(
        'egress.connections',
        `the job has as many connections to this host as it may (${hostConnectionsMax} of each execution)`,
      )
    attempt.onEnd(close)
  }

  /** Notes the attempt on disk, then connects to one of the judged addresses. With `readBytes`: see {@link Dial}. */
  async connect(attempt: Attempt, found: Resolution, readBytes?: number): Promise<Socket> {
    this.signal.throwIfAborted()
    const startedAt = performance.now()
    await attempt.begin()
    const { socket } = await this.#dial(attempt, found, startedAt, readBytes)
    return socket
  }

  /**
   * The same, or a connection to one of them that is there from an earlier request of this execution. `secured` begins TLS on a
   * new one, where it is asked for.
   */
  async connectOrReuse(
    attempt: Attempt,
    request: EgressRequest,
    found: Resolution,
    secured: Secured,
  ): Promise<OriginConnection> {
    this.signal.throwIfAborted()
    const startedAt = performance.now()
    await attempt.begin()
    this.signal.throwIfAborted()
    const { origins } = this.lease
    const kept = origins.take(request, found.addresses)
    if (kept !== undefined) {
      attempt.dialled = kept.address
      return kept
    }
    return await this.#adopt(attempt, request, found, secured, startedAt)
  }

  /**
   * In place of a connection that turned out to be closed: still the same attempt, with its decision and its record. Rules that
   * changed meanwhile were asked about the address of that connection only, so they are asked again about all.
   */
  async connectAnew(
    attempt: Attempt,
    request: EgressRequest,
    found: Resolution,
    secured: Secured,
  ): Promise<OriginConnection> {
    const before = attempt.dialled
    attempt.dialled = undefined
    this.lease.cutIfForbidden(attempt)
    try {
      this.signal.throwIfAborted()
      return await this.#adopt(attempt, request, found, secured, performance.now())
    } catch (error) {
      // The request did go there.
      attempt.dialled = before
      throw error
    }
  }

  async #adopt(
    attempt: Attempt,
    request: EgressRequest,
    found: Resolution,
    secured: Secured,
    startedAt: number,
  ): Promise<OriginConnection> {
    const { socket, address } = await this.#dial(attempt, found, startedAt)
    return this.lease.origins.adopt(request, await secured(socket), address)
  }

  async #dial(
    attempt: Attempt,
    found: Resolution,
    startedAt: number,
    readBytes?: number,
  ): Promise<{ socket: Socket; address: IpAddress }> {
    const { dialTimeoutMs } = this.lease.limits
    const port = attempt.request?.port ?? 0
    const dialled = await dialFirst(
      this.parts.dial,
      found.addresses,
      port,
      dialTimeoutMs,
      this.signal,
      readBytes,
    )
    this.lease.meter.took('dial', performance.now() - startedAt)
    attempt.dialled = dialled.address
    dialled.socket.setNoDelay(true)
    return dialled
  }

  /** Records a refusal, then answers and closes. The record comes first; without it the answer is 503. */
  async refuse(
    attempt: Attempt,
    refusal: Omit<Refusal, 'host' | 'port' | 'kind'>,
    end: EgressEnd = 'refused',
  ): Promise<void> {
    const { code, owner } = refusal
    const host = attempt.request?.host.text ?? ''
    const port = attempt.request?.port ?? 0
    try {
      await attempt.end({ code, owner, status: this.speaksTls ? 0 : refusal.status, end })
      this.#tell({ ...refusal, host, port, ...(attempt.request && { kind: attempt.request.kind }) })
    } catch (error) {
      if (!isWeirError(error, 'egress.audit_failed')) throw error
      this.#tell({ status: statusOf(error.code), code: error.code, host: '', port: 0, owner: '' })
    }
  }

  /** Turns whatever stopped an attempt before its answer began into a refusal, a record and a closed connection. */
  async fail(attempt: Attempt, error: unknown): Promise<void> {
    const cause = this.signal.aborted ? (this.signal.reason as unknown) : error
    if (cause instanceof SocketGone || this.socket.destroyed) {
      await attempt.end({ code: '', status: 0, end: 'client' })
      this.socket.destroy()
      return
    }
    const known =
      cause instanceof WeirError ? cause : new WeirError('egress.upstream_failed', 'it failed', { cause })
    const timedOut = known.code === 'egress.timeout' || known.details.reason === 'timeout'
    const status = timedOut ? 504 : statusOf(known.code)
    const text = TOLD.has(known.code) ? known.message : undefined
    await this.refuse(
      attempt,
      {
        status,
        code: known.code,
        owner: endOf(known) === 'limit' ? 'gateway' : '',
        ...(text === undefined ? {} : { text }),
      },
      endOf(known),
    )
  }

  /** Arms a deadline that cuts the connection; call the result to disarm it. */
  deadline(ms: number, reason: WeirError): () => void {
    const timer = setTimeout(() => this.cut(reason), ms)
    return () => clearTimeout(timer)
  }

  release(): void {
    clearTimeout(this.#idleTimer)
    this.cut(ENDED)
  }

  #tell(refusal: Refusal): void {
    const alert = refusal.status >= 500 ? ALERT_INTERNAL_ERROR : ALERT_ACCESS_DENIED
    closeAfter(this.socket, this.speaksTls ? alert : refusalResponse(refusal))
  }

  /** Looks at the first byte; nothing else decides between TLS and HTTP. The deadline of a head is the one that counts. */
  async #startsWithTls(): Promise<boolean> {
    const disarm = this.deadline(this.lease.limits.headTimeoutMs, HEAD_TIMEOUT)
    try {
      const bytes = await this.reader.read(this.signal)
      if (bytes === undefined) return false
      this.reader.unread(bytes)
      return bytes[0] === TLS_HANDSHAKE
    } catch (error) {
      // A program that waits for the other side to speak first learns, in its record, why nothing came.
      await this.#headFailed(error, error === HEAD_TIMEOUT ? 1 : 0)
      throw error
    } finally {
      disarm()
    }
  }

  async #nextRequest(first: boolean): Promise<ProxyRequest | undefined> {
    const { headTimeoutMs, keepAliveMs } = this.lease.limits
    let received: Buffer = Buffer.alloc(0)
    let disarm = this.deadline(first ? headTimeoutMs : keepAliveMs, HEAD_TIMEOUT)
    try {
      for (;;) {
        const bytes = await this.reader.read(this.signal)
        if (bytes === undefined) {
          if (received.length > 0) await this.#refuseProblem(ENDED_EARLY)
          else this.socket.end()
          return undefined
        }
        if (received.length === 0 && !first) {
          disarm()
          disarm = this.deadline(headTimeoutMs, HEAD_TIMEOUT)
        }
        received = received.length === 0 ? bytes : Buffer.concat([received, bytes])
        if (!isWorthReading(received, bytes)) continue
        const reading = readRequest(received, this.arrival, { https: this.isGuest })
        if (reading.state === 'more') continue
        if (reading.state === 'bad') {
          await this.#refuseProblem(reading.problem)
          return undefined
        }
        this.reader.unread(received.subarray(reading.consumed))
        return reading.request
      }
    } catch (error) {
      await this.#headFailed(error, received.length)
      return undefined
    } finally {
      disarm()
    }
  }

  async #headFailed(error: unknown, receivedBytes: number): Promise<void> {
    // Nothing was asked: nothing to record.
    if (receivedBytes === 0 || this.socket.destroyed) {
      this.socket.destroy()
      return
    }
    const attempt = new Attempt(this.lease, undefined, this.about('', this.arrival?.name ?? ''), this.cut)
    if (error === HEAD_TIMEOUT)
      await this.refuse(attempt, { status: 408, code: 'request.timeout', owner: '' }, 'timeout')
    else await this.fail(attempt, error)
  }

  async #refuseProblem(problem: RequestProblem): Promise<void> {
    await this.#waitForTurn()
    const { method, hostAsSent, code, status, reason } = problem
    const attempt = new Attempt(this.lease, undefined, this.about(method, hostAsSent), this.cut)
    await this.refuse(attempt, { status, code, owner: '', text: reason })
  }

  async #refuseDecision(attempt: Attempt, decision: EgressDecision & { allowed: false }): Promise<undefined> {
    const { code, owner, rule } = decision
    attempt.rule = rule
    await this.refuse(attempt, { status: statusOf(code), code, owner })
    return undefined
  }

  #watchIdle(): void {
    const { idleTimeoutMs } = this.lease.limits
    const idleMs = performance.now() - this.#activeAt
    if (idleMs >= idleTimeoutMs) {
      this.cut(new WeirError('egress.timeout', 'Nothing was sent for too long'))
      return
    }
    this.#idleTimer = setTimeout(() => this.#watchIdle(), Math.max(10, idleTimeoutMs - idleMs))
    this.#idleTimer.unref()
  }
}

/**
 * A head that comes byte by byte is parsed when a line may be complete, not at each byte: else its cost would grow with
 * the square of its length, at the expense of other executions.
 */
export function isWorthReading(received: Buffer, newest: Buffer): boolean {
  return received.length < 64 || received.length > HEAD_UNREAD_MAX || newest.includes(10)
}

const TLS_HANDSHAKE = 22

/** Most connections end so: one reason for all of them costs nothing. */
const CLIENT_GONE = new SocketGone('the client went away')
const ENDED = new SocketGone('the connection ended')

const HEAD_UNREAD_MAX = 16 * 1024

/** Messages of these say nothing about the inside of the network. */
const TOLD: ReadonlySet<ErrorCode> = new Set([
  'egress.dns_failed',
  'egress.upstream_failed',
  'request.framing',
  ...LIMIT_CODES,
])

const HEAD_TIMEOUT = new WeirError('request.timeout', 'The request head did not arrive in time')

const ENDED_EARLY: RequestProblem = {
  code: 'request.malformed',
  status: 400,
  reason: 'the request head is incomplete',
  method: '',
  hostAsSent: '',
}
