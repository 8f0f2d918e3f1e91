import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { WeirError } from '../errors.js'
import type { EgressSummary, GatewayCounters, ExecutionId } from '../model/index.js'
import { entryPoint } from '../package-root.js'
import type {
  AuditLog,
  AuditSink,
  EgressExplanation,
  EgressGateway,
  EgressLease,
  EgressQuestion,
  GatewayAttachment,
  GatewayStatus,
  Identity,
  LeasePolicy,
  NodeEgressPolicy,
} from '../ports/index.js'
import { NAME_SERVER } from './attach/listeners.js'
import {
  type ControlCalls,
  type ControlReply,
  type GatewayProcessOptions,
  newDoorId,
  proxyUrlOf,
} from './control.js'
import type { Gateway } from './gateway.js'
import { type GatewayHost, InProcessHost } from './in-process-gateway.js'
import { toPieces } from './list-pieces.js'
import { proxyEnvironment } from './proxy-environment.js'
import type { DoorService } from './serve/authenticator.js'
import { NO_NODE_POLICY } from './policy/egress-policy.js'
import { EgressTally } from './serve/tally.js'

export interface GatewayClientOptions extends GatewayProcessOptions {
  /** The same audit files, for the summary of a lease that is closed while the gateway is down. */
  audit: AuditSink & AuditLog
  /**
   * Words before the command that starts the process, for example to put it into a network namespace of the operator:
   * `['ip', 'netns', 'exec', 'uplink']`. The last program has to replace itself (exec). Default none.
   */
  launcher?: readonly string[]
  /** Makes the gateway in this process instead of one of its own: for tests and small programs. Default: a process. */
  inProcess?: (options: GatewayProcessOptions) => Gateway
  /**
   * How often it is asked whether it still answers. A process that does not for five times as long is killed and started again:
   * until then nothing leaves, but nothing ends either. Default 2 s.
   */
  watchMs?: number
  /** Told when the gateway process ended unasked, and when it cannot be started. */
  onTrouble?: (error: WeirError) => void
}

/** The port, and a listener without a namespace for uses on the node itself. */
export interface GatewayClient extends EgressGateway {
  /** A listener on 127.0.0.1 of the gateway's own namespace: for WebAssembly, tests and tools, never for containers. */
  attachLoopback(): Promise<GatewayAttachment>
  /** A listener on any address of this machine; port 0: a free one. Rejects with `egress.unavailable`. */
  attachAddress(host: string, port: number): Promise<GatewayAttachment>
  /** No listener at all: its lease is found by credentials that clients of another one send. */
  attachNothing(): Promise<GatewayAttachment>
  /** From now on connections of these listeners belong to a lease that others may share, or to that of a credential. */
  serve(attachment: GatewayAttachment, service: DoorService): Promise<void>
  attachSandbox(): Promise<GatewayAttachment>
  carry(attachment: GatewayAttachment, socket: Socket): Promise<void>
  /** Replaces the list of a lease: in force at once, also for what is under way. Rejects with `pattern.invalid`. */
  replaceAllow(executionId: ExecutionId, allow: string[]): Promise<void>
  /**
   * Puts rules of the node in force, and with them the lists of leases. While the gateway is down the rules are kept, and it
   * rejects with `egress.unavailable`: the lists have to be given again.
   */
  setRules(policy: NodeEgressPolicy, lists: ReadonlyMap<ExecutionId, string[]>): Promise<void>
  /** Closes every listener; what is under way may go on for so long. */
  drain(withinMs: number): Promise<void>
  /** Process id while it runs, for supervision. */
  readonly pid: number | undefined
}

/**
 * Starts the gateway process and keeps it running. After a crash nothing leaves; the process is started again, with
 * growing pauses, and every lease is opened anew on new listeners in the same namespaces.
 */
export async function startGateway(options: GatewayClientOptions): Promise<GatewayClient> {
  const supervisor = new GatewaySupervisor(options)
  try {
    await supervisor.start()
    return supervisor
  } catch (error) {
    await supervisor.close()
    throw error
  }
}

const CALLS_WAITING_MAX = 1_024
const WATCH_MS = 2_000
/** Rounds without an answer. */
const UNANSWERED_MAX = 5
const RESTART_FIRST_MS = 50
const RESTART_MOST_MS = 5_000

interface Attached {
  readonly attachment: GatewayAttachment
  readonly netnsPath?: string
  readonly usernsPath?: string | undefined
  readonly host: string
  readonly port: number
  /** A sandbox's descriptor is with the gateway: it cannot be had again. */
  isCarried?: boolean
  service?: DoorService
}

interface Leased {
  readonly who: Identity
  policy: LeasePolicy
  readonly doorId: string
  /** Tells the holder of the lease that it cannot be had again. */
  readonly lose: (reason: WeirError) => void
}

interface Waiting {
  resolve: (value: unknown) => void
  reject: (error: WeirError) => void
}

class GatewaySupervisor implements GatewayClient {
  readonly #options: GatewayClientOptions
  readonly #waiting = new Map<number, Waiting>()
  readonly #attached = new Map<string, Attached>()
  readonly #leased = new Map<ExecutionId, Leased>()
  readonly #finals = new Map<ExecutionId, Promise<EgressSummary>>()
  #child: GatewayHost | undefined
  #running = false
  #closing = false
  #restartMs = RESTART_FIRST_MS
  #restartTimer: NodeJS.Timeout | undefined
  #watch: NodeJS.Timeout | undefined
  #nextId = 1
  #restarts = 0
  #policy: NodeEgressPolicy = NO_NODE_POLICY
  #generation = 0

  constructor(options: GatewayClientOptions) {
    this.#options = options
  }

  get pid(): number | undefined {
    return this.#running ? this.#child?.pid : undefined
  }

  async start(): Promise<void> {
    const { audit: _audit, onTrouble: _onTrouble, watchMs, launcher = [], inProcess, ...init } = this.#options
    const child = inProcess === undefined ? spawnGateway(launcher) : new InProcessHost(inProcess)
    this.#child = child
    child.on('message', (reply: ControlReply) => this.#settle(reply))
    child.on('error', () => this.#ended(child))
    child.on('exit', () => this.#ended(child))
    await this.#send('init', init)
    await this.#sendPolicy()
    await this.#restore()
    // The rules may have been replaced meanwhile.
    await this.#sendPolicy()
    this.#running = true
    this.#restartMs = RESTART_FIRST_MS
    if (inProcess === undefined) this.#watchOver(child, watchMs ?? WATCH_MS)
  }

  /** Rounds are counted, not time: where the whole machine stood still, the process had no chance to answer. */
  #watchOver(child: GatewayHost, watchMs: number): void {
    let unanswered = 0
    clearInterval(this.#watch)
    this.#watch = setInterval(() => {
      if (this.#child !== child || this.#closing) return
      if (unanswered++ >= UNANSWERED_MAX) {
        child.kill('SIGKILL')
        return
      }
      this.#send('status', null).then(
        () => {
          unanswered = 0
        },
        () => {
          // It is gone, which `#ended` takes care of, or too much waits for it, which is no answer either.
        },
      )
    }, watchMs).unref()
  }

  async attach(netnsPath: string, usernsPath?: string): Promise<GatewayAttachment> {
    const doorId = newDoorId()
    const { problem } = await this.#call('attach', { doorId, netnsPath, usernsPath })
    const attachment: GatewayAttachment = {
      id: doorId,
      proxyUrl: proxyUrlOf(),
      ...(problem === ''
        ? { nameServer: NAME_SERVER }
        : this.#options.transparent === false
          ? {}
          : { onlyProxy: problem }),
    }
    this.#attached.set(doorId, { attachment, netnsPath, usernsPath, host: '', port: 0 })
    return attachment
  }

  attachLoopback(): Promise<GatewayAttachment> {
    return this.attachAddress('127.0.0.1', 0)
  }

  async attachAddress(host: string, port: number): Promise<GatewayAttachment> {
    const doorId = newDoorId()
    const got = await this.#call('listen', { doorId, host, port })
    const attachment = {
      id: doorId,
      proxyUrl: `http://${host.includes(':') ? `[${host}]` : host}:${got.port}`,
    }
    this.#attached.set(doorId, { attachment, host, port: got.port })
    return attachment
  }

  async attachNothing(): Promise<GatewayAttachment> {
    const doorId = newDoorId()
    await this.#call('listen', { doorId, host: '', port: 0 })
    const attachment = { id: doorId, proxyUrl: '' }
    this.#attached.set(doorId, { attachment, host: '', port: 0 })
    return attachment
  }

  attachSandbox(): Promise<GatewayAttachment> {
    return this.attachNothing()
  }

  async carry({ id }: GatewayAttachment, socket: Socket): Promise<void> {
    const attached = this.#attached.get(id)
    try {
      if (attached === undefined)
        throw new WeirError('egress.unavailable', 'The attachment was closed already')
      attached.isCarried = true
      await this.#call('carry', { doorId: id }, socket)
      // A process has taken it; what is left here is empty.
      if (!(this.#child instanceof InProcessHost)) socket.destroy()
    } catch (error) {
      socket.destroy()
      throw error
    }
  }

  async serve({ id }: GatewayAttachment, service: DoorService): Promise<void> {
    const attached = this.#attached.get(id)
    if (attached !== undefined) attached.service = service
    await this.#call('serve', { doorId: id, service })
  }

  async replaceAllow(executionId: ExecutionId, allow: string[]): Promise<void> {
    await this.#call('replace', { executionId, allow })
    const leased = this.#leased.get(executionId)
    if (leased !== undefined) leased.policy = { ...leased.policy, allow }
  }

  async drain(withinMs: number): Promise<void> {
    await this.#call('drain', { withinMs })
  }

  async open(
    who: Identity,
    policy: LeasePolicy,
    attachment: GatewayAttachment,
    { again = false }: { again?: boolean } = {},
  ): Promise<EgressLease> {
    if (!this.#attached.has(attachment.id))
      throw new WeirError('egress.unavailable', 'The attachment was closed already')
    const limits = await this.#call('open', { who, policy, doorId: attachment.id, again })
    let lose = (_reason: WeirError): void => {}
    const lost = new Promise<WeirError>((resolve) => {
      lose = resolve
    })
    this.#leased.set(who.executionId, { who, policy, doorId: attachment.id, lose })
    this.#finals.delete(who.executionId)
    return {
      proxyUrl: attachment.proxyUrl,
      env: proxyEnvironment(attachment.proxyUrl),
      limits,
      summary: () => this.#summary(who.executionId),
      close: () => this.#closeLease(who.executionId),
      lost,
    }
  }

  settle({ executionId }: Identity): Promise<EgressSummary> {
    return this.#summaryFromRecords(executionId)
  }

  async detach(attachment: GatewayAttachment): Promise<void> {
    if (!this.#attached.delete(attachment.id)) return
    // A dead gateway holds no listeners.
    if (this.#running) await this.#call('release', { doorId: attachment.id })
  }

  async setNodePolicy(policy: NodeEgressPolicy): Promise<void> {
    const generation = this.#generation + 1
    // While the gateway is down the rules are kept, and are in force before it serves again.
    if (this.#running) await this.#call('policy', { policy, generation })
    this.#policy = policy
    this.#generation = generation
  }

  async setRules(policy: NodeEgressPolicy, lists: ReadonlyMap<ExecutionId, string[]>): Promise<void> {
    if (!this.#running) {
      await this.setNodePolicy(policy)
      throw notRunning()
    }
    const generation = this.#generation + 1
    const pieces = toPieces([...lists.values()], policy.allow)
    const named = [...lists.keys()].map((executionId, index) => [executionId, pieces[index] ?? []] as const)
    await this.#call('policy', { policy, generation, lists: Object.fromEntries(named) })
    this.#policy = policy
    this.#generation = generation
    for (const [executionId, allow] of lists) {
      const leased = this.#leased.get(executionId)
      if (leased !== undefined) leased.policy = { ...leased.policy, allow }
    }
  }

  explain(question: EgressQuestion): Promise<EgressExplanation> {
    return this.#call('explain', question)
  }

  async counters(): Promise<{ restarts: number; counters?: GatewayCounters }> {
    const counters = await this.#call('counters', null).catch(() => undefined)
    return { restarts: this.#restarts, ...(counters !== undefined && { counters }) }
  }

  async status(): Promise<GatewayStatus> {
    const answer = await this.#call('status', null).catch(() => undefined)
    return answer === undefined
      ? { running: false, policyGeneration: this.#generation, leases: this.#leased.size, connections: 0 }
      : { running: true, ...answer }
  }

  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    clearTimeout(this.#restartTimer)
    clearInterval(this.#watch)
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    const killer = setTimeout(() => child.kill('SIGKILL'), 3_000)
    await this.#send('shutdown', null).catch(() => {
      // It is going down anyway.
    })
    await exited
    clearTimeout(killer)
  }

  async #summary(executionId: ExecutionId): Promise<EgressSummary> {
    const final = this.#finals.get(executionId)
    if (final !== undefined) return await final
    return this.#running
      ? await this.#call('summary', { executionId })
      : await this.#summaryFromRecords(executionId)
  }

  #closeLease(executionId: ExecutionId): Promise<EgressSummary> {
    const known = this.#finals.get(executionId)
    if (known !== undefined) return known
    const leased = this.#leased.get(executionId)
    this.#leased.delete(executionId)
    if (leased !== undefined) this.#attached.delete(leased.doorId)
    const final = this.#call('close', { executionId }).catch(() => this.#summaryFromRecords(executionId))
    this.#finals.set(executionId, final)
    // Bounded: the newest thousand answers are remembered for repeated calls.
    const oldest = this.#finals.keys().next().value
    if (this.#finals.size > 1_000 && oldest !== undefined) this.#finals.delete(oldest)
    return final
  }

  /** Opening the ledger first turns attempts that died with the gateway into records. */
  async #summaryFromRecords(executionId: ExecutionId): Promise<EgressSummary> {
    const { audit } = this.#options
    if (!this.#leased.has(executionId)) await (await audit.open(executionId)).close()
    const tally = new EgressTally()
    for (let after = 0; ; ) {
      const records = await audit.read(executionId, after, 1_000)
      for (const record of records) tally.add(record)
      const last = records.at(-1)
      if (last === undefined) return tally.summary()
      after = last.sequence
    }
  }

  /** Repeats until what was sent is what is wanted now. */
  async #sendPolicy(): Promise<void> {
    let sent: number
    do {
      sent = this.#generation
      await this.#send('policy', { policy: this.#policy, generation: sent })
    } while (sent !== this.#generation)
  }

  /** Listeners and leases of before the crash. What cannot be restored stays closed. */
  async #restore(): Promise<void> {
    const trouble = (error: WeirError) => this.#options.onTrouble?.(error)
    const reasons = new Map<string, WeirError>()
    for (const [doorId, { netnsPath, usernsPath, host, port, service, isCarried }] of this.#attached) {
      const again =
        isCarried === true
          ? Promise.reject(DESCRIPTOR_GONE)
          : netnsPath === undefined
            ? this.#send('listen', { doorId, host, port })
            : this.#send('attach', { doorId, netnsPath, usernsPath })
      await again.catch((error: WeirError) => {
        // Only a gateway that runs can say that listeners are gone; one that died is started again.
        if (this.#child?.connected !== true) throw error
        this.#attached.delete(doorId)
        reasons.set(doorId, error)
        if (isCarried !== true) trouble(error)
      })
      if (!this.#attached.has(doorId)) await this.#send('release', { doorId }).catch(trouble)
      else if (service !== undefined) await this.#send('serve', { doorId, service })
    }
    for (const [executionId, leased] of this.#leased) {
      const { who, policy, doorId, lose } = leased
      if (!this.#attached.has(doorId)) {
        lose(unrestored(reasons.get(doorId)))
        continue
      }
      await this.#send('open', { who, policy, doorId, again: true }).catch((error: WeirError) => {
        if (this.#child?.connected !== true) throw error
        lose(unrestored(error))
        trouble(error)
      })
      // It was closed while it was being opened again.
      if (!this.#leased.has(executionId)) await this.#send('close', { executionId }).catch(trouble)
    }
  }

  #call<K extends keyof ControlCalls>(
    call: K,
    params: ControlCalls[K]['params'],
    handle?: Socket,
  ): Promise<ControlCalls[K]['answer']> {
    if (!this.#running || this.#closing) return Promise.reject(notRunning())
    return this.#send(call, params, handle)
  }

  #send<K extends keyof ControlCalls>(
    call: K,
    params: ControlCalls[K]['params'],
    handle?: Socket,
  ): Promise<ControlCalls[K]['answer']> {
    const child = this.#child
    if (child === undefined || !child.connected) return Promise.reject(notRunning())
    if (this.#waiting.size >= CALLS_WAITING_MAX)
      return Promise.reject(
        new WeirError('egress.overload', 'Too many calls wait for the gateway', { retryable: true }),
      )
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject })
      child.send({ id, call, params }, handle, {}, (error) => {
        if (error === null) return
        this.#waiting.delete(id)
        reject(notRunning())
      })
    })
  }

  #settle(reply: ControlReply): void {
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if (waiting === undefined) return
    if ('value' in reply) return waiting.resolve(reply.value)
    const { code, message, hint, details } = reply.error
    waiting.reject(new WeirError(code, message, { details, ...(hint === undefined ? {} : { hint }) }))
  }

  #ended(child: GatewayHost): void {
    if (this.#child !== child) return
    this.#child = undefined
    this.#running = false
    for (const waiting of this.#waiting.values()) waiting.reject(notRunning())
    this.#waiting.clear()
    if (this.#closing) return
    this.#restarts++
    this.#options.onTrouble?.(
      new WeirError(
        'egress.unavailable',
        'The egress gateway ended unasked; nothing leaves until it runs again',
      ),
    )
    this.#restartTimer = setTimeout(() => void this.#restart(), this.#restartMs)
    this.#restartMs = Math.min(RESTART_MOST_MS, this.#restartMs * 2)
  }

  async #restart(): Promise<void> {
    try {
      await this.start()
    } catch {
      // `#ended` has scheduled the next try, or does so once the process is gone.
      this.#child?.kill('SIGKILL')
    }
  }
}

function spawnGateway(launcher: readonly string[]): GatewayHost {
  const command = [...launcher, process.execPath, entryPoint('node/processes/gateway.js')]
  return spawn(command[0] ?? process.execPath, command.slice(1), {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })
}

const DESCRIPTOR_GONE = new WeirError(
  'egress.unavailable',
  'its connection to the gateway ended with the gateway',
)

function unrestored(cause: WeirError | undefined): WeirError {
  return new WeirError(
    'egress.unavailable',
    `The egress gateway was restarted and cannot serve the job again: ${cause?.message ?? 'its listeners are gone'}`,
    { retryable: true, hint: 'The job is tried again if its type allows', cause },
  )
}

function notRunning(): WeirError {
  return new WeirError('egress.unavailable', 'The egress gateway is not running', { retryable: true })
}
