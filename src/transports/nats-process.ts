import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { WeirError } from '../errors.js'
import { processStartTime } from '../owner-process.js'
import { writeWhole } from '../write-whole.js'

/** One running nats-server, from its start to its end. */
export interface NatsProcess {
  readonly pid: number
  /** Where it listens, also when it chose the port itself. */
  readonly port: number
  /** Resolves when it has ended, with the reason. */
  readonly ended: Promise<string>
  /** Makes it read its configuration again; rejects with `transport.unavailable` when that cannot be used. */
  reload(): Promise<void>
  /** Resolves when it is gone. */
  stop(): Promise<void>
}

export interface NatsProcessOptions {
  configFile: string
  /** Where the process is noted, so that the next start finds it. */
  pidFile: string
  /** Path of nats-server; absent = where it is installed. */
  program?: string
  /** A line of its log. */
  onLine: (line: string) => void
}

/**
 * Starts nats-server; resolves when it is ready. It dies with this process where `setpriv` is installed (the kernel sees
 * to it, whatever kills us); a process that outlived us all the same is ended by the next start.
 * Rejects with `transport.unavailable` or `port.in_use`.
 */
export async function startNatsProcess(options: NatsProcessOptions): Promise<NatsProcess> {
  await endLeftover(options)
  const program = options.program ?? findProgram('nats-server')
  if (program === undefined || !existsSync(program)) throw missing()
  const setpriv = findProgram('setpriv')
  const command = [program, '--config', options.configFile]
  const [file = program, ...args] =
    setpriv === undefined ? command : [setpriv, '--pdeathsig', 'KILL', ...command]
  const child = spawn(file, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {},
    cwd: '/',
    // A session of its own: Ctrl-C in a terminal is ours to handle, in order.
    detached: true,
  })
  const log = new NatsLog(child, options.onLine)
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  // Listening first: it may be ready before the note is on the disk.
  const ready = readyPort(child, log, ended)
  const noted = child.pid === undefined ? undefined : notePid(child.pid, options)
  // Both, also when one has failed: nothing is written any more once this has rejected.
  await Promise.allSettled([ready, noted])
  const [port] = await Promise.all([ready, noted])
  return {
    pid: child.pid ?? 0,
    port,
    ended,
    reload: async () => {
      const line = log.next(/Reloaded server configuration|Failed to reload/, RELOAD_MS)
      child.kill('SIGHUP')
      const answer = await Promise.race([line, ended])
      if (answer.includes('Reloaded server configuration')) return
      throw unavailable(`nats-server cannot read its configuration again: ${answer}`)
    },
    stop: async () => {
      const cut = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      child.kill('SIGTERM')
      await ended
      clearTimeout(cut)
      await rm(options.pidFile, { force: true })
    },
  }
}

const READY_MS = 10_000
const RELOAD_MS = 10_000
const STOP_MS = 3_000

/** The log, line by line: the only place where nats-server says what it did. */
class NatsLog {
  readonly #waiting = new Set<(line: string) => void>()
  #tail: string[] = []

  constructor(child: ChildProcess, onLine: (line: string) => void) {
    if (child.stderr === null) return
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#tail = [...this.#tail.slice(-3), line.slice(0, 500)]
      onLine(line)
      for (const offer of this.#waiting) offer(line)
    })
  }

  /** The last lines. */
  get tail(): string {
    return this.#tail.join(' | ')
  }

  /** The next line that matches; a text that says so when there is none in time. */
  next(pattern: RegExp, withinMs: number): Promise<string> {
    return new Promise((resolve) => {
      const settle = (text: string): void => {
        clearTimeout(timer)
        this.#waiting.delete(offer)
        resolve(text)
      }
      const offer = (line: string): void => {
        if (pattern.test(line)) settle(line)
      }
      const timer = setTimeout(() => settle(`no answer within ${withinMs} ms`), withinMs)
      timer.unref()
      this.#waiting.add(offer)
    })
  }
}

async function readyPort(child: ChildProcess, log: NatsLog, ended: Promise<string>): Promise<number> {
  const listening = log.next(/Listening for client connections on/, READY_MS)
  const ready = log.next(/Server is ready/, READY_MS)
  const isReady = await Promise.race([
    ready.then((line) => line.includes('Server is ready')),
    ended.then(() => false),
  ])
  const port = isReady ? Number(/:(\d+)\s*$/.exec(await listening)?.[1] ?? 0) : 0
  if (port > 0) return port
  child.kill('SIGKILL')
  throw startFailure(`${await ended}: ${log.tail}`)
}

function startFailure(text: string): WeirError {
  if (/address already in use/.test(text)) {
    const [, where] = /Error listening on port: ([^\s,]+)/.exec(text) ?? []
    const place = where === undefined ? '' : ` on ${where}`
    return new WeirError('port.in_use', `Cannot listen for nodes${place}: another program uses the port`, {
      hint: 'Choose another one with Orchestrator.Port, or stop the other program',
      details: { log: text },
    })
  }
  return unavailable(`nats-server does not start: ${text}`)
}

function unavailable(message: string): WeirError {
  return new WeirError('transport.unavailable', message, {
    hint: 'See the log of the orchestrator, and check Orchestrator.Host, Orchestrator.Port and Orchestrator.TLS',
  })
}

function missing(): WeirError {
  return new WeirError('transport.unavailable', 'Cannot take nodes: nats-server is not installed', {
    hint: 'Install it (Debian, Ubuntu: apt-get install nats-server), or name a running one in Orchestrator.NATS.URL',
  })
}

/** What proves that a process is the one we started: its number, when it began, and what it was told to read. */
interface PidNote {
  pid: number
  startTicks: string
}

async function notePid(pid: number, { pidFile }: NatsProcessOptions): Promise<void> {
  const note: PidNote = { pid, startTicks: processStartTime(pid) }
  await writeWhole(pidFile, `${JSON.stringify(note)}\n`)
}

/** A server of an earlier start that still runs would keep the port; only what is provably ours is ended. */
async function endLeftover({ pidFile, configFile }: NatsProcessOptions): Promise<void> {
  let note: PidNote
  try {
    note = JSON.parse(readFileSync(pidFile, 'utf8')) as PidNote
  } catch {
    return // Never started, ended in order, or a file that proves nothing.
  }
  if (isOurs(note, configFile)) {
    process.kill(note.pid, 'SIGKILL')
    for (let tries = 0; tries < 100 && isOurs(note, configFile); tries++)
      await new Promise((resolve) => setTimeout(resolve, 20))
  }
  await rm(pidFile, { force: true })
}

function isOurs({ pid, startTicks }: PidNote, configFile: string): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 1 || startTicks === '' || processStartTime(pid) !== startTicks)
    return false
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(configFile)
  } catch {
    return false // It has gone meanwhile.
  }
}

/** Also where a service’s PATH does not lead. */
function findProgram(name: string): string | undefined {
  const directories = [
    ...(process.env.PATH ?? '').split(':'),
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
  ]
  return directories
    .filter((directory) => directory.startsWith('/'))
    .map((directory) => join(directory, name))
    .find((path) => existsSync(path))
}
