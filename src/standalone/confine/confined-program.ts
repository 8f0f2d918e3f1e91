import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { WeirError } from '../../errors.js'
import type { SeccompArch } from '../../seccomp.js'
import type { ConfiningPrograms } from './programs.js'
import { socketFilter } from './socket-filter.js'

/** A program that waits in namespaces of its own until it is released. */
export interface ConfinedProgram {
  /** Its network namespace and the user namespace that owns it: files that stay good until `close`. */
  readonly netnsPath: string
  readonly usernsPath: string
  /** Lets it begin. Resolves with its exit code, 128 + the signal when one ended it; rejects with `exec.unavailable`. */
  run(): Promise<number>
  /** Gives a signal to the program itself; before it begins and after its end nothing happens. */
  signal(name: NodeJS.Signals): void
  /** Ends whatever is left of it, at once. Idempotent. */
  close(): void
}

export interface ConfinedProgramOptions {
  programs: ConfiningPrograms
  /** Program and arguments. Found in the PATH of `env`. */
  command: readonly string[]
  cwd: string
  env: Readonly<Record<string, string>>
  /** Options of bubblewrap for the file system. */
  mounts: readonly string[]
  unixSockets: boolean
}

/** Descriptors of the chain of programs; the confined one gets 0, 1 and 2 only, which are the caller's own. */
const GO_FD = 3
const FILTER_FD = 4
const STATUS_FD = 5
const OPTIONS_FD = 6

/** Of all programs before the confined one: its own could change what they do (`LD_PRELOAD`), while nothing holds them yet. */
const CHAIN_ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }

/** Raises the loopback interface, says so, and becomes the rest of the chain when it is told to. */
const WAIT = `"$0" link set lo up && echo ready >&${STATUS_FD} && read -r go <&${GO_FD} && test "$go" = go && exec ${GO_FD}<&- "$@"`

const READY_TIMEOUT_MS = 10_000

const INHERITED = ['inherit', 'inherit', 'inherit'] as const

/**
 * Makes namespaces for users and the network and waits in them, so that somebody can listen inside before the program
 * is there; then everything else: unshare → sh (waits) → env → bwrap → env → program.
 *
 * Ctrl-C of a terminal goes to every process of the chain. All but the program ignore it (the second env gives it back),
 * so the program alone decides what it means. Everything in its process namespace dies with it, and it dies with this
 * process. Rejects with `exec.unavailable` when the machine does not allow namespaces.
 */
export async function prepareProgram(options: ConfinedProgramOptions): Promise<ConfinedProgram> {
  const { programs, cwd } = options
  const nothing = openSync('/dev/null', 'r')
  const covers = coverInherited(nothing)
  const child = spawn(programs.unshare, chain(options), {
    cwd,
    env: CHAIN_ENVIRONMENT,
    stdio: [...INHERITED, 'pipe', 'pipe', 'pipe', 'pipe', ...covers.slice(OPTIONS_FD + 1)],
  })
  closeSync(nothing)
  const pipes: readonly unknown[] = child.stdio
  const handles: number[] = []
  const close = (): void => {
    child.kill('SIGKILL')
    for (const handle of handles.splice(0)) closeSync(handle)
  }
  try {
    const status = new StatusReader(pipes[STATUS_FD] as Readable)
    const exited = exitOf(child)
    await status.ready(exited)
    // Open files keep the namespaces, whatever becomes of the processes in them.
    for (const kind of ['net', 'user']) handles.push(openSync(`/proc/${child.pid}/ns/${kind}`, 'r'))
    return {
      netnsPath: `/proc/${process.pid}/fd/${handles[0]}`,
      usernsPath: `/proc/${process.pid}/fd/${handles[1]}`,
      run: async () => {
        pour(pipes[FILTER_FD] as Writable, socketFilter(process.arch as SeccompArch, options))
        pour(pipes[OPTIONS_FD] as Writable, environmentOptions(options.env))
        pour(pipes[GO_FD] as Writable, 'go\n')
        const code = await exited
        await status.ended
        // bubblewrap says so only of a program that it started.
        if (status.exitCode === undefined)
          throw unavailable(`bubblewrap ended with ${code} before the program began`)
        return code
      },
      signal: (name) => signalProgram(status.firstProcess, name),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

function chain({ programs, command, cwd, mounts }: ConfinedProgramOptions): string[] {
  const { sh, ip, env, bwrap } = programs
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0]
  // A copy of the mounts that stands still: bubblewrap fails when one of them goes while it makes its own.
  const spaces = '--user --map-root-user --net --mount --propagation private --'.split(' ')
  const isolation =
    '--unshare-user --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --disable-userns --die-with-parent'
  const identity = `--uid ${uid} --gid ${gid} --cap-drop ALL`
  const control = `--seccomp ${FILTER_FD} --json-status-fd ${STATUS_FD} --args ${OPTIONS_FD}`
  const jail = [...isolation.split(' '), ...identity.split(' '), ...mounts, ...control.split(' ')]
  const program = [env, '--default-signal=INT,QUIT,HUP,TERM', '--', ...command]
  const rest = [env, '--ignore-signal=INT,QUIT,HUP,TERM', bwrap, ...jail, '--chdir', cwd, '--', ...program]
  return [...spaces, sh, '-c', WAIT, ip, ...rest]
}

/** The environment of the confined program as options of bubblewrap: in a pipe, since everybody may read arguments. */
function environmentOptions(env: Readonly<Record<string, string>>): string {
  const set = Object.entries(env).flatMap(([name, value]) => ['--setenv', name, value])
  return ['--clearenv', ...set].map((option) => `${option}\0`).join('')
}

/** Reads what the chain says: `ready`, then bubblewrap's own lines of JSON. */
class StatusReader {
  firstProcess: number | undefined
  exitCode: number | undefined
  readonly ended: Promise<void>
  #isReady = false
  #onReady = (): void => {}

  constructor(stream: Readable) {
    let rest = ''
    this.ended = new Promise((resolve) => stream.once('close', () => resolve()))
    stream.setEncoding('utf8').on('data', (text: string) => {
      const lines = `${rest}${text}`.split('\n')
      rest = (lines.pop() ?? '').slice(-4_096)
      for (const line of lines) this.#take(line)
    })
    stream.on('error', () => {})
  }

  /** Rejects with `exec.unavailable` when the chain ended, or took too long. */
  async ready(exited: Promise<number>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const ready = new Promise<'ready'>((resolve) => {
      this.#onReady = () => resolve('ready')
      if (this.#isReady) resolve('ready')
    })
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), READY_TIMEOUT_MS)
    })
    const first = await Promise.race([ready, late, exited])
    clearTimeout(timer)
    if (first === 'ready') return
    throw unavailable(first === 'late' ? 'they were not there in time' : `unshare ended with ${first}`)
  }

  #take(line: string): void {
    if (line === 'ready') {
      this.#isReady = true
      this.#onReady()
    }
    this.firstProcess ??= numberIn(line, 'child-pid')
    this.exitCode ??= numberIn(line, 'exit-code')
  }
}

/**
 * Descriptors that this process got from its parent, and would pass on: one may be a socket to the outside. Each of them is
 * replaced, as an entry of `stdio`.
 */
function coverInherited(nothing: number): ('ignore' | number)[] {
  const inherited = readdirSync('/proc/self/fd').map(Number).filter(isPassedOn)
  return Array.from({ length: Math.max(0, ...inherited) + 1 }, (_, fd) =>
    inherited.includes(fd) ? nothing : 'ignore',
  )
}

function isPassedOn(fd: number): boolean {
  try {
    const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0'
    return (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0
  } catch {
    return false // closed meanwhile: it was the one that listed them
  }
}

const CLOSE_ON_EXEC = 0o2000000

function numberIn(line: string, key: string): number | undefined {
  const match = new RegExp(`"${key}": (\\d+)`).exec(line)
  return match === null ? undefined : Number(match[1])
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(unavailable(error.message)))
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : 128)))
  })
}

/** The program is the first child of the first process of its namespace. */
function signalProgram(firstProcess: number | undefined, name: NodeJS.Signals): void {
  if (firstProcess === undefined) return
  const program = childrenOf(firstProcess)[0]
  if (program === undefined) return
  try {
    process.kill(program, name)
  } catch {
    // It has just ended.
  }
}

function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return text.split(' ').filter(Boolean).map(Number)
  } catch {
    return childrenFromStat(pid)
  }
}

/** For kernels without the list of children. */
function childrenFromStat(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
        return stat.slice(stat.lastIndexOf(')')).split(' ')[2] === String(pid)
      } catch {
        return false // it has just ended
      }
    })
    .map(Number)
    .sort((a, b) => a - b)
}

/** Nobody reads any more: the chain has ended, which is told elsewhere. */
function pour(stream: Writable, bytes: Buffer | string): void {
  stream.on('error', () => {})
  stream.end(bytes)
}

function unavailable(reason: string): WeirError {
  return new WeirError('exec.unavailable', `Cannot make the namespaces of a confined program: ${reason}`, {
    hint: 'Ordinary users need user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container they are mostly switched off',
  })
}
