import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { WeirError, toWeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import type { Clock } from '../ports/index.js'
import { writeWhole } from '../write-whole.js'
import { type NatsListener, natsConfig, natsUsers, type NatsUser } from './nats-config.js'
import { type NatsProcess, startNatsProcess } from './nats-process.js'
import type { TransportLogger } from './nats.js'

/** The message server in the middle, and who may use it. */
export interface MessageServer {
  /** Where the orchestrator itself connects. */
  readonly url: string
  /** Port for nodes. */
  readonly port: number
  /**
   * Replaces who is let in; whoever is no longer among them is disconnected. Resolves when it is in force; many calls at
   * once make one change. Rejects with `transport.unavailable`; the old users stay then.
   */
  setUsers(users: readonly NatsUser[]): Promise<void>
  close(): Promise<void>
}

export interface NatsServerOptions {
  /** The server's own directory; made when missing. */
  dir: string
  listener: NatsListener
  users: readonly NatsUser[]
  /** Path of nats-server; absent = where it is installed. */
  program?: string
  clock: Clock
  logger: TransportLogger
}

/**
 * Runs nats-server as a child process, and again whenever it ends. Rejects with `transport.unavailable` (not installed,
 * bad configuration) or `port.in_use`.
 */
export async function startNatsServer(options: NatsServerOptions): Promise<MessageServer> {
  const server = new OwnServer(options)
  await server.start()
  return server
}

/** A nats-server that somebody else runs on this machine, with an `include` of the file that weir writes. */
export interface OutsideServerOptions {
  dir: string
  url: string
  /** nats-server's own `pid_file`: it is told to read its configuration again. Empty: it is not told. */
  pidFile: string
  port: number
  users: readonly NatsUser[]
  logger: TransportLogger
}

/** Keeps `<dir>/nats-users.conf` for a server that is run by somebody else. */
export async function useOutsideServer(options: OutsideServerOptions): Promise<MessageServer> {
  const { dir, url, port, pidFile, users, logger } = options
  await makeDirectory(dir, 0o700)
  const file = join(dir, 'nats-users.conf')
  const changes = new OneAtATime(async (wanted: readonly NatsUser[]) => {
    await writeWhole(file, natsUsers(wanted))
    await tellToReload(pidFile, logger)
  })
  await changes.run(users)
  return { url, port, setUsers: (wanted) => changes.run(wanted), close: () => changes.idle() }
}

class OwnServer implements MessageServer {
  readonly #options: NatsServerOptions
  readonly #configFile: string
  readonly #log: LogBound
  readonly #changes = new OneAtATime((users: readonly NatsUser[]) => this.#change(users))
  #listener: NatsListener
  #users: readonly NatsUser[]
  #process: NatsProcess | undefined
  #closing = new AbortController()
  #watch: Promise<void> = Promise.resolve()

  constructor(options: NatsServerOptions) {
    this.#options = options
    this.#configFile = join(options.dir, 'nats.conf')
    this.#log = new LogBound(options)
    this.#listener = options.listener
    this.#users = options.users
  }

  get port(): number {
    return this.#listener.port
  }

  /** Through the wildcard address the server is reached on loopback. */
  get url(): string {
    const { host, port, tls } = this.#listener
    const here = ['0.0.0.0', '', 'localhost'].includes(host) ? '127.0.0.1' : host === '::' ? '::1' : host
    return `${tls === undefined ? 'nats' : 'tls'}://${here.includes(':') ? `[${here}]` : here}:${port}`
  }

  async start(): Promise<void> {
    await makeDirectory(this.#options.dir, 0o700)
    this.#process = await this.#launch()
    // A free port that was taken once is kept: the nodes know it.
    this.#listener = { ...this.#listener, port: this.#process.port }
    await this.#write()
    this.#watch = this.#keepRunning(this.#process)
  }

  setUsers(users: readonly NatsUser[]): Promise<void> {
    return this.#changes.run(users)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#changes.idle()
    await this.#process?.stop()
    await this.#watch
  }

  async #change(users: readonly NatsUser[]): Promise<void> {
    const before = this.#users
    this.#users = users
    await this.#write()
    try {
      // Without a process the next one reads the file anyway.
      await this.#process?.reload()
    } catch (error) {
      this.#users = before
      await this.#write()
      throw error
    }
  }

  #write(): Promise<void> {
    return writeWhole(this.#configFile, natsConfig(this.#listener, this.#users))
  }

  async #launch(): Promise<NatsProcess> {
    await this.#write()
    return startNatsProcess({
      configFile: this.#configFile,
      pidFile: join(this.#options.dir, 'nats-server.pid'),
      ...(this.#options.program === undefined ? {} : { program: this.#options.program }),
      onLine: (line) => this.#log.line(line),
    })
  }

  async #keepRunning(first: NatsProcess): Promise<void> {
    const { clock, logger } = this.#options
    const { signal } = this.#closing
    for (let running = first; ; ) {
      const reason = await running.ended
      this.#process = undefined
      if (signal.aborted) return
      logger.error({ reason }, 'nats-server has ended; starting it again')
      const next = await this.#relaunch(clock, signal)
      if (next === undefined) return
      running = next
      this.#process = next
      // Closed meanwhile: whoever closes did not see this process.
      if (signal.aborted) await next.stop()
    }
  }

  /** With growing pauses until it runs; undefined when closed meanwhile. */
  async #relaunch(clock: Clock, signal: AbortSignal): Promise<NatsProcess | undefined> {
    for (let tries = 0; ; tries++) {
      await clock
        .sleep(Math.min(RESTART_MS_MAX, RESTART_MS * 2 ** Math.min(tries, 10)), signal)
        .catch(() => {})
      if (signal.aborted) return undefined
      try {
        return await this.#launch()
      } catch (error) {
        this.#options.logger.error(
          { error: toWeirError(error).message },
          'nats-server cannot be started; trying again',
        )
      }
    }
  }
}

/** One change at a time; the wishes that come meanwhile become one, the newest. */
class OneAtATime<Wish> {
  readonly #work: (wish: Wish) => Promise<void>
  #running: Promise<void> | undefined
  #next: { wish: Wish; done: Promise<void> } | undefined

  constructor(work: (wish: Wish) => Promise<void>) {
    this.#work = work
  }

  run(wish: Wish): Promise<void> {
    if (this.#next !== undefined) {
      this.#next.wish = wish
      return this.#next.done
    }
    if (this.#running === undefined) return this.#begin(wish)
    const next: { wish: Wish; done: Promise<void> } = { wish, done: Promise.resolve() }
    this.#next = next
    next.done = this.#running
      .catch(() => {}) // Reported to whoever wished for it.
      .then(() => {
        this.#next = undefined
        return this.#begin(next.wish)
      })
    return next.done
  }

  async idle(): Promise<void> {
    while (this.#running !== undefined) await (this.#next?.done ?? this.#running).catch(() => {})
  }

  #begin(wish: Wish): Promise<void> {
    const running = this.#work(wish).finally(() => {
      if (this.#running === running) this.#running = undefined
    })
    this.#running = running
    return running
  }
}

/** nats-server writes a line for each refusal; somebody who is refused a thousand times a second must not fill our log. */
class LogBound {
  readonly #logger: TransportLogger
  readonly #clock: Clock
  #sinceMs = 0
  #lines = 0

  constructor({ logger, clock }: NatsServerOptions) {
    this.#logger = logger
    this.#clock = clock
  }

  line(line: string): void {
    const now = this.#clock.now()
    if (now - this.#sinceMs > LOG_WINDOW_MS) {
      if (this.#lines > LOG_LINES_MAX)
        this.#logger.warn(
          { dropped: this.#lines - LOG_LINES_MAX },
          'nats-server wrote more lines than are kept',
        )
      this.#sinceMs = now
      this.#lines = 0
    }
    this.#lines += 1
    if (this.#lines > LOG_LINES_MAX) return
    const text = line.replace(/^\[\d+\] \S+ \S+ /, '').slice(0, 500)
    this.#logger[levelOf(text)]({ natsServer: text }, 'nats-server')
  }
}

/** A newcomer tries its own key before its token: not worth a warning. */
function levelOf(line: string): 'debug' | 'info' | 'warn' {
  if (line.includes('authentication error')) return 'info'
  return /\[(ERR|WRN|FTL)\]/.test(line) ? 'warn' : 'debug'
}

const RESTART_MS = 100
const RESTART_MS_MAX = 5_000
const LOG_WINDOW_MS = 10_000
const LOG_LINES_MAX = 50

async function tellToReload(pidFile: string, logger: TransportLogger): Promise<void> {
  if (pidFile === '') return
  try {
    const text = (await readFile(pidFile, 'utf8')).trim()
    const pid = /^\d{1,10}$/.test(text) ? Number(text) : 0
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
    if (!name.startsWith('nats-server'))
      throw new WeirError('transport.unavailable', `${pidFile} names no nats-server`)
    process.kill(pid, 'SIGHUP')
  } catch (error) {
    logger.warn(
      { error: toWeirError(error).message },
      'the message server was not told to read its users again; reload it by hand',
    )
  }
}
