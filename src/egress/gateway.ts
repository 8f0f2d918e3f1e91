import type { Server, Socket } from 'node:net'
import { type ErrorCode, WeirError } from '../errors.js'
import {
  classifyIpAddress,
  type EgressLimits,
  type EgressSummary,
  type GatewayCounters,
  type ExecutionId,
  type NodeId,
  parseIpAddress,
  PatternMemo,
  trustedAmong,
} from '../model/index.js'
import type {
  AuditLog,
  AuditSink,
  EgressExplanation,
  EgressQuestion,
  Identity,
  LeasePolicy,
  NodeEgressPolicy,
} from '../ports/index.js'
import type { Listeners } from './attach/listeners.js'
import type { Resolve } from './dns/resolver.js'
import type { Arrival } from './http/request.js'
import { DEFAULT_GATEWAY_LIMITS, type GatewayLimits } from './limits/gateway-limits.js'
import { HostConnections } from './limits/host-connections.js'
import { type MonotonicClock, TokenBucket } from './limits/token-bucket.js'
import { ownInterfaceAddresses } from './own-addresses.js'
import {
  compileJobRules,
  compileNodeRules,
  type EgressRules,
  NO_NODE_POLICY,
  type NodeRules,
} from './policy/egress-policy.js'
import { explainRequests } from './policy/explain.js'
import { Attempt } from './serve/attempt.js'
import type { Authenticator, DoorService, ProxyCredential } from './serve/authenticator.js'
import { refuseSocket, serveConnection, type ServingParts } from './serve/connection.js'
import { GatewayMeter } from './serve/gateway-meter.js'
import { type Dial, dialTcp } from './serve/dial.js'
import { effectiveLimits, Lease, type SharedLimits } from './serve/lease.js'
import { NameServer } from './serve/name-server.js'
import { GuestChannel } from './serve/guest-channel.js'
import { createStartTls, type StartTls } from './serve/origin-tls.js'
import { restartEntry } from './serve/restart-entry.js'
import type { ClientSocket } from './serve/socket-stream.js'

export interface GatewayOptions {
  nodeId: NodeId
  /** With `read`, a lease that is opened again continues its summary. */
  audit: AuditSink & Partial<AuditLog>
  resolve: Resolve
  /** How to connect to a judged address. Default: really. */
  dial?: Dial
  limits?: Partial<GatewayLimits>
  /** Certificates (PEM) of the authorities that hosts of sandboxed programs are judged by. Absent: those of Node.js. */
  authorities?: string
  /** Let tunnels with an encrypted client hello pass. Default false. */
  allowEch?: boolean
  /** Makes what tells clients of a listener apart; without it credentials are refused. */
  createAuthenticator?: (credentials: ProxyCredential[]) => Authenticator
  /** Addresses of this machine. Default: those of its interfaces, read again every second. */
  ownAddresses?: () => readonly string[]
  /** Wall clock for records, milliseconds since the epoch. */
  now?: () => number
  monotonic?: MonotonicClock
}

/** Listeners that belong together: those of one network namespace. */
interface Door {
  readonly listeners: Listeners[]
  readonly names: NameServer
  lease: Lease | undefined
  /** Of sandboxes: what stands for their connections. */
  readonly channels: GuestChannel[]
  /** Connections belong to a lease that was opened elsewhere. */
  shared?: { executionId: ExecutionId; authenticator: Authenticator | undefined }
}

/** How a connection came. */
interface Way {
  /** It was not made to the proxy. */
  arrival?: Arrival
  /** It came out of the sandbox of a WebAssembly program. */
  isGuest?: boolean
}

/**
 * The gateway itself, in this process: listeners are handed in, leases are opened on them, connections are served.
 * Knows no jobs, only identities and policies. Nothing is allowed before the node's rules were set.
 */
export class Gateway {
  readonly #options: GatewayOptions
  readonly #limits: GatewayLimits
  readonly #shared: SharedLimits
  readonly #meter = new GatewayMeter()
  readonly #doors = new Map<string, Door>()
  readonly #leases = new Map<ExecutionId, { lease: Lease; doorId: string }>()
  readonly #opening = new Set<ExecutionId>()
  readonly #ownAddresses: () => ReadonlySet<string>
  readonly #startTls: StartTls
  readonly #patterns = new PatternMemo()
  #node: NodeRules = compileNodeRules(NO_NODE_POLICY, 0)
  #connections = 0

  constructor(options: GatewayOptions) {
    this.#options = options
    this.#limits = { ...DEFAULT_GATEWAY_LIMITS, ...options.limits }
    this.#startTls = createStartTls(options.authorities)
    this.#shared = sharedLimits(this.#limits, options.monotonic)
    this.#ownAddresses = ownInterfaceAddresses(options.ownAddresses, options.monotonic)
  }

  /** Takes listening sockets, more of them for a door that is known. Until a lease is opened on them they refuse. */
  hold(doorId: string, listeners: Partial<Listeners>): void {
    const held: Listeners = { proxy: [], transparent: [], names: [], nameSockets: [], ...listeners }
    const door = this.#doors.get(doorId) ?? this.#newDoor(doorId)
    door.listeners.push(held)
    for (const server of [...held.proxy, ...held.transparent]) {
      // Tunnels may be closed in one direction only.
      Object.assign(server, { allowHalfOpen: true })
      server.on('error', () => {
        // A failed accept (too many files) concerns nobody else; the next one may work.
      })
    }
    for (const server of held.proxy) server.on('connection', (socket) => this.#accept(door, socket))
    for (const server of held.transparent)
      server.on('connection', (socket) => this.#acceptTransparent(door, socket))
    for (const server of held.names) door.names.serveTcp(server)
    for (const socket of held.nameSockets) door.names.serveUdp(socket)
  }

  /**
   * Takes the descriptor of a sandbox: each conversation in it is a connection of the door, whose lease it belongs to. Throws
   * `egress.unavailable`, and closes it, when there is no such door.
   */
  carry(doorId: string, socket: Socket): void {
    const door = this.#doors.get(doorId)
    if (door === undefined) {
      socket.on('error', () => {})
      socket.destroy()
      throw unavailable('the door of the sandbox was closed')
    }
    const channel = new GuestChannel(socket, {
      opened: (stream) => this.#accept(door, stream, { isGuest: true }),
      violated: (reason) => this.#recordViolation(door, reason),
    })
    door.channels.push(channel)
  }

  /** Closes the listeners on ports where programs that know nothing of proxies are not served, so that the job has them. */
  keepTransparentPorts(doorId: string, ports: ReadonlySet<number>): void {
    for (const { transparent } of this.#doors.get(doorId)?.listeners ?? [])
      for (const server of transparent) if (!ports.has(portOf(server))) server.close()
  }

  /**
   * Opens a lease on held listeners; `again`: after one of an earlier gateway, which becomes a record. Resolves with the
   * limits that hold. Rejects with `egress.unavailable`, `pattern.invalid` or `egress.audit_failed`.
   */
  async open(
    who: Identity,
    policy: LeasePolicy,
    doorId: string,
    { again = false }: { again?: boolean } = {},
  ): Promise<EgressLimits> {
    const door = this.#doors.get(doorId)
    if (door === undefined) throw unavailable('the listeners are gone')
    if (door.lease !== undefined) throw unavailable('the listeners serve another execution')
    if (this.#leases.has(who.executionId) || this.#opening.has(who.executionId))
      throw unavailable(`the execution "${who.executionId}" has a lease already`)
    const job = compileJobRules(policy, this.#patterns)
    this.#opening.add(who.executionId)
    try {
      const ledger = await this.#options.audit.open(who.executionId)
      const lease = new Lease({
        nodeId: this.#options.nodeId,
        who,
        policy,
        job,
        node: this.#node,
        ledger,
        limits: this.#limits,
        shared: this.#shared,
        meter: this.#meter,
        now: this.#options.now ?? Date.now,
        monotonic: this.#options.monotonic ?? (() => performance.now()),
        ownAddresses: this.#ownAddresses,
      })
      try {
        if (again) await ledger.append(restartEntry(lease))
        if (ledger.head !== '') await this.#recount(lease)
        if (this.#doors.get(doorId) !== door) throw unavailable('the listeners were closed meanwhile')
      } catch (error) {
        lease.shut()
        await ledger.close()
        throw error
      }
      // The rules may have been replaced while the records were read.
      lease.replaceNodeRules(this.#node)
      if (lease.isLearning) this.#meter.learns()
      door.lease = lease
      this.#leases.set(who.executionId, { lease, doorId })
      return effectiveLimits(this.#limits, policy)
    } finally {
      this.#opening.delete(who.executionId)
    }
  }

  /** From now on connections of these listeners belong to a lease that others may share. Rejects with `egress.unavailable`. */
  serve(doorId: string, { executionId, credentials }: DoorService): void {
    const door = this.#doors.get(doorId)
    if (door === undefined) throw unavailable('the listeners are gone')
    const { createAuthenticator } = this.#options
    if (credentials !== undefined && createAuthenticator === undefined)
      throw unavailable('it cannot check credentials')
    door.shared = { executionId, authenticator: credentials && createAuthenticator?.(credentials) }
  }

  /** Replaces what a lease asked for. Rejects with `egress.unavailable` or `pattern.invalid`. */
  replaceAllow(executionId: ExecutionId, allow: string[]): void {
    const { lease } = this.#lease(executionId)
    lease.replaceJobRules(compileJobRules({ allow }, this.#patterns))
  }

  /** Closes every listener, and resolves when nothing is under way any more, or `withinMs` have passed. */
  async drain(withinMs: number): Promise<void> {
    for (const { listeners } of this.#doors.values()) listeners.forEach(closeListeners)
    const leases = [...this.#leases.values()]
    await settled(() => leases.every(({ lease }) => lease.live.size === 0), withinMs)
  }

  summary(executionId: ExecutionId): EgressSummary {
    return this.#lease(executionId).lease.tally.summary()
  }

  /** Cuts every connection, closes the listeners, seals the chain. Resolves with the final summary. */
  async close(executionId: ExecutionId): Promise<EgressSummary> {
    const { lease, doorId } = this.#lease(executionId)
    const channels = this.#doors.get(doorId)?.channels ?? []
    this.#closeDoor(doorId)
    lease.shut()
    await settled(() => lease.live.size === 0 && lease.connections.size === 0, 1_000)
    for (const channel of channels) channel.close()
    await lease.turnedAway.seal()
    await lease.ledger.close()
    this.#leases.delete(executionId)
    return lease.tally.summary()
  }

  /** Closes listeners without a lease. Idempotent. */
  release(doorId: string): void {
    const door = this.#doors.get(doorId)
    if (door === undefined || door.lease !== undefined) return
    this.#closeDoor(doorId)
    for (const channel of door.channels) channel.close()
  }

  /**
   * Puts new rules in force at once, for new attempts and for those under way, and with them what leases ask for from now
   * on; leases that are gone ask for nothing. Rejects with `pattern.invalid`: then nothing has changed.
   */
  setNodePolicy(
    policy: NodeEgressPolicy,
    generation = this.#node.generation + 1,
    lists: ReadonlyMap<ExecutionId, readonly string[]> = new Map(),
  ): void {
    const node = compileNodeRules(policy, generation, this.#patterns, this.#node)
    const jobs = [...lists].map(
      ([executionId, allow]) =>
        [executionId, compileJobRules({ allow: [...allow] }, this.#patterns, node)] as const,
    )
    this.#node = node
    for (const { lease } of this.#leases.values()) lease.replaceNodeRules(node)
    for (const [executionId, job] of jobs) this.#leases.get(executionId)?.lease.replaceJobRules(job)
  }

  /** What would become of requests of a job under the rules in force. Throws `host.invalid` or `pattern.invalid`. */
  explain(question: EgressQuestion): EgressExplanation {
    const job = compileJobRules({ allow: [...question.domains] }, this.#patterns)
    const rules: EgressRules = {
      mode: 'http',
      job,
      node: this.#node,
      keys: trustedAmong(question.signedBy ?? [], this.#node),
      ownAddresses: this.#ownAddresses(),
    }
    return { policyGeneration: this.#node.generation, verdicts: explainRequests(question, rules) }
  }

  /** What was counted since the start. */
  get counters(): GatewayCounters {
    return this.#meter.counters
  }

  get status(): { policyGeneration: number; leases: number; connections: number } {
    return {
      policyGeneration: this.#node.generation,
      leases: this.#leases.size,
      connections: this.#connections,
    }
  }

  async shutdown(): Promise<void> {
    await Promise.all([...this.#leases.keys()].map((executionId) => this.close(executionId)))
    for (const doorId of this.#doors.keys()) this.#closeDoor(doorId)
  }

  #newDoor(doorId: string): Door {
    const door: Door = {
      listeners: [],
      names: new NameServer({
        lease: () => door.lease,
        hasIpv6: () => door.listeners.some(({ transparent }) => transparent.some(isIpv6)),
        now: this.#options.monotonic ?? (() => performance.now()),
      }),
      lease: undefined,
      channels: [],
    }
    this.#doors.set(doorId, door)
    return door
  }

  /** Who connects to the loopback of a job looks for a service of the job, and there is none. */
  #acceptTransparent(door: Door, socket: Socket): void {
    const arrival = arrivalOf(socket, door.names)
    if (arrival !== undefined) return this.#accept(door, socket, { arrival })
    socket.on('error', () => {})
    socket.resetAndDestroy()
  }

  #accept(door: Door, socket: ClientSocket, way: Way = {}): void {
    socket.on('error', () => {})
    socket.setNoDelay(true)
    const lease = door.shared === undefined ? door.lease : this.#leases.get(door.shared.executionId)?.lease
    const turnAway = (code: ErrorCode) =>
      way.arrival === undefined ? refuseSocket(socket, code) : void socket.resetAndDestroy()
    if (lease === undefined || lease.closed) return turnAway('egress.unavailable')
    if (this.#connections >= this.#limits.connectionsTotalMax)
      return this.#refuse(lease, 'egress.overload', way, turnAway)
    if (lease.connections.size >= lease.limits.connectionsMax)
      return this.#refuse(lease, 'egress.connections', way, turnAway)
    this.#connections++
    const parts = {
      resolve: this.#options.resolve,
      dial: this.#options.dial ?? dialTcp,
      allowEch: this.#options.allowEch === true,
      ...this.#identification(door),
      ...(way.isGuest === true && { startTls: this.#startTls }),
    }
    void serveConnection(socket, lease, parts, way.arrival).finally(() => {
      this.#connections--
    })
  }

  /** Credentials may be replaced while a connection is open: they are looked at for each request. */
  #identification(door: Door): Pick<ServingParts, 'identify'> {
    if (door.shared?.authenticator === undefined) return {}
    return {
      identify: async (headers, source) => {
        const answer = await door.shared?.authenticator?.check(headers, source)
        if (answer === undefined) return 407
        if (typeof answer === 'number') return answer
        const lease = this.#leases.get(answer)?.lease
        return lease === undefined || lease.closed ? 407 : lease
      },
    }
  }

  #refuse(
    lease: Lease,
    code: 'egress.overload' | 'egress.connections',
    way: Way,
    turnAway: (code: ErrorCode) => void,
  ): void {
    const told = code === 'egress.connections' ? 429 : 503
    const status = way.arrival === undefined ? told : 0
    lease.turnedAway.add(code, status, way).then(
      () => turnAway(code),
      () => turnAway('egress.audit_failed'),
    )
  }

  /** A sandbox that does not keep to the rules of its channel: something else runs in it than what was put there. */
  #recordViolation(door: Door, reason: string): void {
    const { lease } = door
    if (lease === undefined || lease.closed) return
    const about = { method: 'CHANNEL', hostAsSent: `channel: ${reason}`, isGuest: true }
    const attempt = new Attempt(lease, undefined, about, () => {})
    attempt.end({ code: 'request.malformed', owner: 'gateway', status: 0, end: 'refused' }).catch(() => {
      // Counted as an audit failure; the channel is closed already.
    })
  }

  /** Adds up what an earlier gateway recorded for the same execution. */
  async #recount(lease: Lease): Promise<void> {
    const { audit } = this.#options
    for (let after = 0; audit.read !== undefined; ) {
      const records = await audit.read(lease.who.executionId, after, 1_000)
      for (const record of records) lease.recall(record)
      const last = records.at(-1)
      if (last === undefined) return
      after = last.sequence
    }
  }

  #lease(executionId: ExecutionId): { lease: Lease; doorId: string } {
    const found = this.#leases.get(executionId)
    if (found === undefined) throw unavailable(`the execution "${executionId}" has no lease`)
    return found
  }

  #closeDoor(doorId: string): void {
    const door = this.#doors.get(doorId)
    this.#doors.delete(doorId)
    door?.names.close()
    door?.listeners.forEach(closeListeners)
  }
}

function closeListeners(listeners: Listeners): void {
  for (const socket of Object.values(listeners).flat()) closeQuietly(socket)
}

function sharedLimits(limits: GatewayLimits, now: MonotonicClock | undefined): SharedLimits {
  const { nodeBitsPerSecondUp, nodeBitsPerSecondDown, hostConnectionsMax } = limits
  // Many executions share it, so it may keep a little more for the moments when the timer is late.
  const options = { burstBytes: 128 * 1024, ...(now === undefined ? {} : { now }) }
  return {
    ...(nodeBitsPerSecondUp > 0 && { up: new TokenBucket(nodeBitsPerSecondUp, options) }),
    ...(nodeBitsPerSecondDown > 0 && { down: new TokenBucket(nodeBitsPerSecondDown, options) }),
    hostConnections: new HostConnections(hostConnectionsMax),
    kept: { connections: 0 },
  }
}

function unavailable(reason: string): WeirError {
  return new WeirError('egress.unavailable', `Cannot use the egress gateway: ${reason}`)
}

/** Where a connection came that was made to any address; undefined for the namespace's own loopback. */
function arrivalOf({ localAddress = '', localPort = 0 }: Socket, names: NameServer): Arrival | undefined {
  const address = parseIpAddress(localAddress)
  if (address === undefined || classifyIpAddress(address).kind === 'loopback') return undefined
  const name = names.addresses.nameOf(address)
  return { address, port: localPort, ...(name === undefined ? {} : { name }) }
}

function portOf(server: Server): number {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

function isIpv6(server: Server): boolean {
  const address = server.address()
  return typeof address === 'object' && address?.family === 'IPv6'
}

/** UDP sockets, unlike servers, throw when they are closed twice. */
function closeQuietly(socket: { close(): unknown }): void {
  try {
    socket.close()
  } catch {
    // It was closed already.
  }
}

/** Waits until a condition holds, at most `ms`. */
async function settled(holds: () => boolean, ms: number): Promise<void> {
  const until = performance.now() + ms
  while (!holds() && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 5))
}
