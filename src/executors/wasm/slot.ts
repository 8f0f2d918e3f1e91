import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, constants, openSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { setPriority } from 'node:os'
import { join } from 'node:path'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { WeirError, isWeirError } from '../../errors.js'
import type { Cgroup, CgroupLimits, CgroupTree } from './cgroup.js'
import { FirstProcess } from './first-process.js'
import { removeTree } from './remove-tree.js'
import { GATEWAY_FD, STATUS_BYTES_MAX, type SandboxStatus, type SandboxTask } from './sandbox/job.js'
import { BLOCK_FD, type Bind, FIRST_BIND_FD, INFO_FD, sandboxCommand } from './sandbox-command.js'
import { StatusReader } from './status-reader.js'
import type { Toolbox } from './toolbox.js'

/** Directories for outputs that every waiting slot has bound already. */
export const SPARE_OUTPUTS = 2

export interface SlotOptions {
  toolbox: Toolbox
  /** Below it every slot has its directory. */
  slotsDir: string
  /** File with the seccomp program. */
  seccompFile: string
  cgroups: CgroupTree | undefined
  fileBytesMax: number
  openFilesMax: number
  bootTimeoutMs: number
  /** Further directories and files of the node, for a slot that is made for one job. */
  binds?: Bind[]
  runner?: string
  snapshot?: string | undefined
  /** Others go first. */
  isBackground?: boolean
}

/** How the sandbox's process ended. */
export interface SlotEnd {
  /** The runner's last word; undefined when it was killed before it could say anything. */
  status: SandboxStatus | undefined
  exitCode: number | null
  signal: NodeJS.Signals | null
  wasOutOfMemory: boolean
  /** What the sandbox said on stderr before the job came: why it did not come up. */
  complaint: string
}

/**
 * One sandboxed process for one job: started, waiting, used once, gone.
 *
 * Inside it are `/mod` (modules), `/in` (copied inputs), `/out/0`, `/out/1` (outputs) and `/tmp`, all directories of the
 * slot's own directory on the node.
 */
export class Slot {
  readonly name: string
  readonly dir: string
  /** Resolves when Node is up inside; rejects with `sandbox.unavailable`. */
  readonly ready: Promise<void>
  /** Resolves when all its processes are gone and its output is closed; never rejects. */
  readonly end: Promise<SlotEnd>
  /** Resolves when `dispose` has removed everything of it; never when that fails. */
  readonly gone: Promise<void>
  readonly #child: ChildProcess
  readonly #status = new StatusReader(STATUS_BYTES_MAX)
  readonly #first: Promise<FirstProcess>
  readonly #cgroup: Promise<Cgroup | undefined>
  #hasEnded = false
  #isConnected = false
  #tellGone: () => void = () => undefined
  #disposed: Promise<void> | undefined
  #isReady = false
  #complaint = ''

  /** Makes the slot's directories, which may take a disk its time, and starts it. `name` is from `slotName`. */
  static async open(options: SlotOptions, name = slotName()): Promise<Slot> {
    await makeSlotDirectories(join(options.slotsDir, name))
    return new Slot(options, name)
  }

  private constructor(options: SlotOptions, name: string) {
    this.name = name
    this.dir = join(options.slotsDir, name)
    this.#child = start(options, this.dir)
    const pipes: readonly unknown[] = this.#child.stdio
    this.#first = firstProcess(pipes[INFO_FD] as Readable)
    this.#cgroup = this.#first.then(({ pid }) => {
      // Before it goes on: threads inherit it.
      if (options.isBackground === true) lowerPriority(pid)
      return enterCgroup(options, this.name, pid)
    })
    // An error is told through `ready`; the sandbox stays blocked and is killed.
    void this.#cgroup.then(
      () => (pipes[BLOCK_FD] as Writable).end('go'),
      () => this.kill(),
    )
    for (const one of this.#child.stdio) one?.on('error', () => undefined)
    const status = this.#child.stdio[3] as Readable
    status.on('data', (bytes: Buffer) => {
      const isProper = this.#status.push(bytes)
      // After its last word there is nothing to wait for: what it wrote is in the pipes already.
      if (!isProper || this.#status.hasEnded) this.kill()
    })
    this.end = this.#watchEnd()
    this.gone = new Promise((resolve) => {
      this.#tellGone = resolve
    })
    this.ready = this.#watchReady(options.bootTimeoutMs)
    // Whoever needs the slot awaits it; until then a failure is no unhandled rejection.
    this.ready.catch(() => undefined)
  }

  get stdout(): Readable {
    return this.#child.stdout as Readable
  }

  get stderr(): Readable {
    return this.#child.stderr as Readable
  }

  /** True while the process is there and waits for its job. */
  get isWaiting(): boolean {
    return this.#isReady && !this.#hasEnded
  }

  /**
   * The other end of the descriptor on which its program will speak to the gateway, for whoever passes it on. Call before `run`:
   * until then nothing is written there, and without it `run` closes it.
   */
  takeConnection(): Socket {
    this.#isConnected = true
    return this.#connection
  }

  get #connection(): Socket {
    const pipes: readonly unknown[] = this.#child.stdio
    return pipes[GATEWAY_FD] as Socket
  }

  /** Gives the slot its only task. Call after `ready`. */
  async run(task: SandboxTask, limits: CgroupLimits): Promise<void> {
    if (!this.#isConnected) this.#connection.destroy()
    const cgroup = await this.#cgroup
    await cgroup?.limit(limits)
    const body = Buffer.from(JSON.stringify(task))
    const head = Buffer.alloc(4)
    head.writeUInt32BE(body.length)
    ;(this.#child.stdio[4] as Writable).end(Buffer.concat([head, body]))
  }

  /** Resolves with the first status that is not `ready`, or undefined when the process ended without one. */
  firstAnswer(): Promise<SandboxStatus | undefined> {
    return this.#status.afterReady()
  }

  /** Ends it from outside, as soon as bubblewrap has made the process that is to be ended. Idempotent. */
  kill(): void {
    if (this.#hasEnded) return
    const killBoth = (first?: FirstProcess): void => {
      if (this.#hasEnded) return
      first?.kill()
      this.#child.kill('SIGKILL')
    }
    this.#first.then(killBoth, () => killBoth())
  }

  /** Kills it and removes its directory and control group. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#remove()
    return this.#disposed
  }

  async #remove(): Promise<void> {
    this.kill()
    await this.end
    const cgroup = await this.#cgroup.catch(() => undefined)
    await Promise.all([cgroup?.remove(), removeTree(this.dir)])
    this.#tellGone()
  }

  async #watchReady(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const keep = (bytes: Buffer): void => {
      this.#complaint = (this.#complaint + bytes.toString('utf8')).slice(0, 2_000)
    }
    this.stderr.on('data', keep)
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), timeoutMs)
    })
    const entered = this.#cgroup.then(
      () => new Promise<never>(() => undefined),
      (error: unknown) => error,
    )
    const first = await Promise.race([this.#status.ready(), this.end, late, entered])
    clearTimeout(timer)
    // bubblewrap may close its descriptors before its words are here.
    if (isWeirError(first)) await this.end
    this.stderr.off('data', keep)
    this.stderr.pause()
    if (first === 'ready') {
      this.#isReady = true
      return
    }
    this.kill()
    if (isWeirError(first) && this.#complaint === '') throw first
    const why =
      first === 'late' ? `it was not up within ${timeoutMs / 1000} s` : this.#complaint.trim().split('\n')[0]
    throw new WeirError(
      'sandbox.unavailable',
      `Cannot build the sandbox: ${why === '' ? 'it ended at once' : why}`,
      {
        hint: hintFor(this.#complaint),
      },
    )
  }

  async #watchEnd(): Promise<SlotEnd> {
    const [exitCode, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
      this.#child.once('error', (error) => {
        this.#complaint = error.message
        resolve([null, null])
      })
      this.#child.once('close', (code, killedBy) => resolve([code, killedBy]))
    })
    this.#hasEnded = true
    this.#status.close()
    const cgroup = await this.#cgroup.catch(() => undefined)
    const wasOutOfMemory = (await cgroup?.wasOutOfMemory()) ?? false
    return { status: this.#status.last, exitCode, signal, wasOutOfMemory, complaint: this.#complaint }
  }
}

/** A name that no other slot has. */
export function slotName(): string {
  return `s-${randomUUID()}`
}

async function makeSlotDirectories(dir: string): Promise<void> {
  await mkdir(dir, { mode: 0o700 })
  const own = ['mod', 'in', 'tmp'].map((one) => join(dir, one))
  const outputs = Array.from({ length: SPARE_OUTPUTS }, (_none, index) => outputDir(dir, index))
  await Promise.all([...own, ...outputs].map((one) => mkdir(one, { mode: 0o700 })))
}

/** A slot's own directory for an output; `/out/<index>` inside. */
export function outputDir(slotDir: string, index: number): string {
  return join(slotDir, `out-${index}`)
}

function start(options: SlotOptions, dir: string): ChildProcess {
  const own: Bind[] = [
    { at: '/mod', writable: false, from: join(dir, 'mod') },
    { at: '/in', writable: false, from: join(dir, 'in') },
    { at: '/tmp', writable: true, from: join(dir, 'tmp') },
  ]
  for (let index = 0; index < SPARE_OUTPUTS; index++) {
    own.push({ at: `/out/${index}`, writable: true, from: outputDir(dir, index) })
  }
  const opened: number[] = []
  try {
    const extra = (options.binds ?? []).map((bind) => byDescriptor(bind, options.toolbox, opened))
    const { command, args } = sandboxCommand({ ...options, binds: [...own, ...extra] })
    const seccomp = openSync(options.seccompFile, constants.O_RDONLY)
    opened.unshift(seccomp)
    const [, ...binds] = opened
    return spawn(command, args, {
      // Nothing of the node's environment reaches even bubblewrap; a working directory cannot be held by a mount.
      env: {},
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', seccomp, 'pipe', 'pipe', 'pipe', ...binds],
    })
  } finally {
    for (const one of opened) closeSync(one)
  }
}

/** Not in Node's constants: a descriptor that only names a place. */
const O_PATH = 0o10000000

/** Opens what is to be bound, so that nobody can swap the path for a link in between. */
function byDescriptor(bind: Bind, toolbox: Toolbox, opened: number[]): Bind {
  if (!toolbox.canBindDescriptors || typeof bind.from === 'number') return bind
  opened.push(openSync(bind.from, O_PATH | constants.O_NOFOLLOW))
  return { ...bind, from: FIRST_BIND_FD + opened.length - 1 }
}

/**
 * bubblewrap writes `{"child-pid": 123, …}` once the new process exists, and then holds it until it is told to go on.
 * It is read to its end: bubblewrap writes in pieces, and would be killed by a pipe that is closed too early.
 */
function firstProcess(info: Readable): Promise<FirstProcess> {
  return new Promise((resolve, reject) => {
    let text = ''
    info.on('data', (bytes: Buffer) => {
      if (text.length < 4096) text += bytes.toString('utf8')
      const pid = /"child-pid": (\d+)\D/.exec(text)?.[1]
      if (pid !== undefined) resolve(new FirstProcess(Number(pid)))
    })
    info.on('close', () => {
      reject(new WeirError('sandbox.unavailable', 'Cannot build the sandbox: bubblewrap did not start it'))
    })
  })
}

async function enterCgroup(options: SlotOptions, name: string, pid: number): Promise<Cgroup | undefined> {
  const cgroup = await options.cgroups?.create(name)
  try {
    await cgroup?.enter(pid)
    return cgroup
  } catch (error) {
    await cgroup?.remove()
    throw new WeirError(
      'sandbox.unavailable',
      `Cannot put the sandbox into its control group: ${(error as Error).message}`,
      {
        hint: 'Check /sys/fs/cgroup, or switch control groups off in the node’s configuration',
        cause: error,
      },
    )
  }
}

const BACKGROUND_NICE = 10

/** Counts where there is no control group, which has a share of its own. */
function lowerPriority(pid: number): void {
  try {
    setPriority(pid, BACKGROUND_NICE)
  } catch {
    // It has ended already, or the system does not let us: it only runs faster then.
  }
}

function hintFor(complaint: string): string {
  if (/namespace|unshare|Operation not permitted|uid map|clone/i.test(complaint)) {
    return 'Without name spaces a program could see the machine’s files and network. Allow user namespaces (sysctl user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or run the node as root'
  }
  if (/seccomp/i.test(complaint)) {
    return 'Without system call lists a program that breaks out could ask the kernel for anything. Use a kernel with CONFIG_SECCOMP_FILTER'
  }
  return 'Run bwrap --unshare-all --ro-bind / / true to see what this machine refuses'
}
