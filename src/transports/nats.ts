import { setMaxListeners } from 'node:events'
import type { Msg, NatsConnection, Subscription } from '@nats-io/transport-node'
import { WeirError, toWeirError } from '../errors.js'
import type { Chance, Clock, Closable, Handler, Message, Subject, Transport } from '../ports/index.js'
import { INTAKE_LIMITS, Intake, type IntakeLimits } from './intake.js'
import {
  decodeError,
  encodeError,
  encodeMessage,
  noAnswer,
  noResponder,
  offline,
  servedAlready,
  transportClosed,
} from './message.js'
import { inboxOf } from './nats-connection.js'

export interface TransportLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** How the way to the network is. */
export interface LinkStatus {
  state: 'connecting' | 'connected' | 'closed'
  /** The server, while connected. */
  server?: string
  /** Why there is no connection, after the first failure. */
  problem?: WeirError
}

export interface NatsTransportOptions {
  /** {@link ORCHESTRATOR} or the node's id. */
  identity: string
  /** Makes one connection; called again, with pauses, whenever there is none. */
  connect: (signal: AbortSignal) => Promise<NatsConnection>
  clock: Clock
  chance: Pick<Chance, 'random'>
  logger: TransportLogger
  /** Bounds on what one sender may send to the orchestrator. */
  intake?: Partial<IntakeLimits>
  /** A sender goes far beyond those bounds. */
  onFlood?: (sender: string) => void
  /** Called with each change. */
  onStatus?: (status: LinkStatus) => void
}

export interface NatsTransport extends Transport {
  status(): LinkStatus
  /** Resolves once there is a connection; rejects with `transport.unreachable` when it takes too long. */
  connected(timeoutMs: number): Promise<void>
  /** Hands a message to what this process serves itself, as if it had arrived. */
  deliver(subject: Subject, body: Message): Promise<void>
}

/** Identity of the orchestrator: no node can have this id. */
export const ORCHESTRATOR = '_orchestrator'

/**
 * The {@link Transport} between machines. The server at its middle lets each node publish and listen under its own name
 * only (see `nats-config.ts`), so the last word of a subject that the orchestrator serves proves who asks:
 *
 *     node n-1 → weir.orchestrator.sync.n-1 → handler(body, signal, 'n-1')
 *     orchestrator → weir.node.n-1.nudge → node n-1
 *
 * Connects for ever, with growing pauses and jitter; requests fail with `transport.no_responder` while there is no
 * connection, and what is served is served again with the next one.
 */
export function createNatsTransport(options: NatsTransportOptions): NatsTransport {
  const transport = new NatsLink(options)
  transport.start()
  return transport
}

class NatsLink implements NatsTransport {
  readonly #options: NatsTransportOptions
  readonly #intake: Intake
  readonly #handlers = new Map<Subject, Handler>()
  readonly #subscriptions = new Map<Subject, Subscription>()
  readonly #closing = new AbortController()
  readonly #waiting = new Set<() => void>()
  /** Loaded with the first connection: it costs start-up time. */
  #library: typeof import('@nats-io/transport-node') | undefined
  #connection: NatsConnection | undefined
  #status: LinkStatus = { state: 'connecting' }
  #underWay = 0
  #loop: Promise<void> = Promise.resolve()

  constructor(options: NatsTransportOptions) {
    this.#options = options
    const { clock, intake, onFlood = () => {} } = options
    this.#intake = new Intake(clock, { ...INTAKE_LIMITS, ...intake }, onFlood)
    // Each message that is under way listens.
    setMaxListeners(0, this.#closing.signal)
  }

  start(): void {
    this.#loop = this.#stayConnected()
  }

  status(): LinkStatus {
    return this.#status
  }

  async connected(timeoutMs: number): Promise<void> {
    const untilMs = this.#options.clock.now() + timeoutMs
    while (this.#connection === undefined) {
      const leftMs = untilMs - this.#options.clock.now()
      if (leftMs <= 0 || this.#closing.signal.aborted) throw this.#notConnected()
      const patience = new AbortController()
      let wake = (): void => {}
      const changed = new Promise<void>((resolve) => {
        wake = resolve
        this.#waiting.add(resolve)
      })
      await Promise.race([changed, this.#options.clock.sleep(leftMs, patience.signal).catch(() => {})])
      this.#waiting.delete(wake)
      patience.abort()
    }
  }

  async deliver(subject: Subject, body: Message): Promise<void> {
    await this.#handlers.get(subject)?.(body, this.#closing.signal)
  }

  async request(subject: Subject, body: Message, timeoutMs: number): Promise<Message> {
    if (this.#closing.signal.aborted) throw transportClosed()
    const text = encodeMessage(subject, body)
    const connection = this.#connection
    if (connection === undefined) throw offline(this.#status.problem)
    const answer = await connection
      .request(this.#wireSubject(subject), text, { timeout: timeoutMs })
      .catch((error: unknown) => {
        throw this.#requestError(subject, timeoutMs, error)
      })
    if (answer.headers?.has(ERROR_HEADER) === true) throw decodeError(answer.string())
    try {
      return JSON.parse(answer.string()) as Message
    } catch (error) {
      throw new WeirError('internal', `The answer from "${subject}" cannot be read`, { cause: error })
    }
  }

  async serve(subject: Subject, handler: Handler): Promise<Closable> {
    if (this.#handlers.has(subject)) throw servedAlready(subject)
    this.#handlers.set(subject, handler)
    const connection = this.#connection
    if (connection !== undefined) {
      this.#subscribe(connection, subject, handler)
      // A connection that breaks meanwhile is replaced, and serves this subject too.
      await flushed(connection).catch(() => {})
    }
    return {
      close: async () => {
        if (this.#handlers.get(subject) !== handler) return
        this.#handlers.delete(subject)
        this.#subscriptions.get(subject)?.unsubscribe()
        this.#subscriptions.delete(subject)
        if (this.#connection !== undefined) await flushed(this.#connection).catch(() => {})
      },
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#handlers.clear()
    await this.#connection?.close().catch(() => {})
    await this.#loop
    this.#become({ state: 'closed' })
  }

  async #stayConnected(): Promise<void> {
    const { signal } = this.#closing
    for (let failures = 0; !signal.aborted; ) {
      try {
        this.#library ??= await import('@nats-io/transport-node')
        const connection = await this.#options.connect(signal)
        failures = 0
        await this.#use(connection)
      } catch (error) {
        if (!signal.aborted) this.#failed(toWeirError(error, 'transport.unreachable'), failures)
        failures += 1
      }
      if (!signal.aborted) await this.#pause(failures)
    }
  }

  /** Until the connection is gone. */
  async #use(connection: NatsConnection): Promise<void> {
    const { logger } = this.#options
    if (this.#closing.signal.aborted) return connection.close()
    this.#connection = connection
    for (const [subject, handler] of this.#handlers) this.#subscribe(connection, subject, handler)
    await flushed(connection)
    const server = connection.getServer()
    logger.info({ server }, 'connected to the network')
    this.#become({ state: 'connected', server })
    await connection.closed()
    this.#connection = undefined
    this.#subscriptions.clear()
    if (this.#closing.signal.aborted) return
    logger.warn({ server }, 'the connection to the network is lost; connecting again')
    this.#become({ state: 'connecting' })
  }

  #failed(problem: WeirError, failures: number): void {
    this.#connection = undefined
    this.#subscriptions.clear()
    const { logger } = this.#options
    const isNews = failures === 0 || problem.message !== this.#status.problem?.message
    const { code, message, hint } = problem
    logger[isNews ? 'warn' : 'debug']({ code, hint }, `${message}; trying again`)
    this.#become({ state: 'connecting', problem })
  }

  async #pause(failures: number): Promise<void> {
    const { clock, chance } = this.#options
    const longestMs = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** Math.min(failures, 16))
    await clock.sleep(longestMs * (0.5 + chance.random() / 2), this.#closing.signal).catch(() => {})
  }

  #become(status: LinkStatus): void {
    this.#status = status
    for (const wake of this.#waiting) wake()
    this.#options.onStatus?.(status)
  }

  #notConnected(): WeirError {
    return (
      this.#status.problem ??
      new WeirError('transport.unreachable', 'There is no connection to the network', { retryable: true })
    )
  }

  #wireSubject(subject: Subject): string {
    return isAskedByNodes(subject) ? `weir.${subject}.${this.#options.identity}` : `weir.${subject}`
  }

  #subscribe(connection: NatsConnection, subject: Subject, handler: Handler): void {
    const isFromNodes = isAskedByNodes(subject)
    const subscription = connection.subscribe(isFromNodes ? `weir.${subject}.*` : `weir.${subject}`, {
      callback: (error, message) => {
        if (error === null) this.#arrived(subject, handler, message, isFromNodes)
        else this.#options.logger.error({ subject, error: error.message }, 'a subject cannot be served')
      },
    })
    this.#subscriptions.set(subject, subscription)
  }

  #arrived(subject: Subject, handler: Handler, message: Msg, isFromNodes: boolean): void {
    const { reply } = message
    // Nobody waits for the answer.
    if (reply === undefined || reply === '') return
    if (!isFromNodes) {
      if (this.#underWay < UNDER_WAY_MAX) void this.#answer(subject, handler, message)
      else this.#respond(message, encodeError(BUSY), true)
      return
    }
    const from = message.subject.slice(message.subject.lastIndexOf('.') + 1)
    // Whoever asks chooses where the answer goes; it must not be to somebody else in our name.
    if (!reply.startsWith(`${inboxOf(from)}.`)) return
    const done = this.#intake.take(from, message.data.length)
    if (done !== undefined) void this.#answer(subject, handler, message, from).finally(done)
  }

  async #answer(subject: Subject, handler: Handler, message: Msg, from?: string): Promise<void> {
    this.#underWay += 1
    try {
      const text = await this.#textOfAnswer(subject, handler, message, from)
      if (this.#closing.signal.aborted) return
      this.#respond(message, text.body, text.isError)
    } catch (error) {
      // The connection is gone, and with it whoever waits for the answer.
      this.#options.logger.debug(
        { subject, error: toWeirError(error).message },
        'an answer could not be sent',
      )
    } finally {
      this.#underWay -= 1
    }
  }

  #respond(message: Msg, body: string, isError: boolean): void {
    const headers = isError ? this.#library?.headers() : undefined
    headers?.set(ERROR_HEADER, '1')
    message.respond(body, headers === undefined ? {} : { headers })
  }

  async #textOfAnswer(
    subject: Subject,
    handler: Handler,
    message: Msg,
    from?: string,
  ): Promise<{ body: string; isError: boolean }> {
    try {
      const answer = await handler(readBody(message), this.#closing.signal, from)
      return { body: encodeMessage(subject, answer), isError: false }
    } catch (error) {
      return { body: encodeError(toWeirError(error)), isError: true }
    }
  }

  #requestError(subject: Subject, timeoutMs: number, error: unknown): WeirError {
    if (this.#closing.signal.aborted) return transportClosed()
    const TimeoutError = this.#library?.errors.TimeoutError
    if (TimeoutError !== undefined && error instanceof TimeoutError) return noAnswer(subject, timeoutMs)
    return noResponder(subject, error)
  }
}

/**
 * Resolves when the server has heard everything that was sent. Rejects when the connection goes before: the library's own promise
 * would be left as it is for ever.
 */
async function flushed(connection: NatsConnection): Promise<void> {
  const gone = connection.closed().then((error) => {
    throw error ?? new Error('the connection was closed')
  })
  await Promise.race([connection.flush(), gone])
}

/** Subjects that many ask and the orchestrator serves; who asks is the last word on the wire. */
function isAskedByNodes(subject: Subject): boolean {
  return subject.startsWith('orchestrator.')
}

function readBody(message: Msg): Message {
  try {
    return JSON.parse(message.string()) as Message
  } catch (error) {
    throw new WeirError('api.bad_request', 'Cannot read a message: it is not JSON', { cause: error })
  }
}

const ERROR_HEADER = 'Weir-Error'
const UNDER_WAY_MAX = 1_000
const PAUSE_MS = 100
const PAUSE_MS_MAX = 5_000

const BUSY = new WeirError('api.overload', 'This node answers as many requests as it can', {
  hint: 'Try again in a moment',
  retryable: true,
})
