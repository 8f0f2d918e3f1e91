import { createHash } from 'node:crypto'
import { chmodSync, renameSync, statSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError, toWeirError } from '../../errors.js'
import type { ExecutionId, TaskSpec } from '../../model/index.js'
import { formatBytes, taskResources } from '../../model/index.js'
import type { EngineHealth, Executor, RunSpec, RunningExecution } from '../../ports/index.js'
import { type CgroupTree, openCgroupTree } from './cgroup.js'
import { type JobPlan, checkInitialMemory, planJob } from './job-plan.js'
import { type LoadedModules, loadModules } from './load-modules.js'
import {
  DEFAULT_WASM_LIMITS,
  SILENT,
  type WasmExecutorOptions,
  type WasmLimits,
  type WasmLogger,
} from './options.js'
import { removeTree } from './remove-tree.js'
import { watchProgram } from './running-program.js'
import type { SandboxJob, SandboxMount } from './sandbox/job.js'
import type { Bind } from './sandbox-command.js'
import { buildRunnerSnapshot } from './runner-snapshot.js'
import { seccompProgram } from './seccomp-program.js'
import { SPARE_OUTPUTS, type Slot, outputDir } from './slot.js'
import { SlotPool } from './slot-pool.js'
import { copySmall, looksSmall } from './staging.js'
import { endStraySandboxes } from './stray-sandboxes.js'
import { type Toolbox, findToolbox } from './toolbox.js'

/**
 * Runs WASI preview 1 programs, each in a sandboxed process of its own that is used once.
 *
 * `probe` builds a sandbox for real and keeps it for the first job. Nothing ever runs outside a sandbox: where none can
 * be built, `probe` says what to do and `start` rejects with `sandbox.unavailable`. It has no network to give: runs with
 * another mode than `none` are refused.
 */
export function createWasmExecutor(options: WasmExecutorOptions): Executor {
  return new WasmExecutor(options)
}

/** What exists once the first sandbox is to be built. */
interface Workshop {
  toolbox: Toolbox
  cgroups: CgroupTree | string
  pool: SlotPool
  /** Start-up snapshot of the runner; undefined before, empty while it is made and where it cannot be. */
  snapshot: string | undefined
}

/** Node itself, beside the guest's memory: code, heap, page cache of the files it reads. */
const OVERHEAD_BYTES = 128 * 1024 * 1024
/** What compiling needs for each byte of a module, at most. */
const COMPILE_BYTES_PER_BYTE = 16
/** Node's threads, with room to spare. */
const PIDS_MAX = 64

class WasmExecutor implements Executor {
  readonly engine = 'wasm'
  readonly #options: WasmExecutorOptions
  readonly #limits: WasmLimits
  readonly #logger: WasmLogger
  readonly #slotsDir: string
  readonly #running = new Set<Promise<unknown>>()
  #workshop: Promise<Workshop> | undefined
  #isClosed = false

  constructor(options: WasmExecutorOptions) {
    this.#options = options
    this.#limits = { ...DEFAULT_WASM_LIMITS, ...options.limits }
    this.#logger = options.logger ?? SILENT
    this.#slotsDir = join(options.dataDir, 'slots')
  }

  async probe(signal: AbortSignal): Promise<EngineHealth> {
    try {
      const workshop = await this.#open()
      const { toolbox, cgroups, pool, snapshot = '' } = workshop
      await pool.probe()
      signal.throwIfAborted()
      this.#background(this.#useSnapshot(workshop))
      return {
        available: true,
        details: {
          system: 'WASI preview 1',
          node: toolbox.nodeVersion,
          v8: toolbox.v8Version,
          start: snapshot === '' ? 'plain' : 'snapshot',
          sandbox: `bubblewrap ${toolbox.bwrapVersion}, seccomp, prlimit`,
          cgroups: typeof cgroups === 'string' ? cgroups : cgroups.description,
        },
      }
    } catch (error) {
      signal.throwIfAborted()
      const problem = toWeirError(error, 'sandbox.unavailable')
      return {
        available: false,
        message: problem.message,
        hint: problem.hint ?? 'Look at the log of the node',
      }
    }
  }

  admit(task: TaskSpec): Promise<{ code: 'compute.resources'; message: string; hint: string }[]> {
    const asked = taskResources(task).memoryBytes
    const most = 4 * 1024 ** 3
    if (asked <= most) return Promise.resolve([])
    const message = `The task asks for ${formatBytes(asked)} of memory, a WebAssembly program can use ${formatBytes(most)}`
    return Promise.resolve([{ code: 'compute.resources', message, hint: 'Ask for 4 GiB of memory or less' }])
  }

  async start(
    run: RunSpec,
    progress: (message: string) => void,
    signal: AbortSignal,
  ): Promise<RunningExecution> {
    signal.throwIfAborted()
    const plan = planJob(run, this.#limits)
    const modules = await loadModules(run.modules, plan.params, this.#limits)
    checkInitialMemory(modules.initialPages, plan.memoryPages)
    signal.throwIfAborted()
    const { pool } = await this.#open()
    const { slot, mounts, isWarm } = await this.#stage(pool, run, plan)
    const gone = slot.end
      .then(() => slot.dispose())
      .catch((error: unknown) => {
        this.#logger.warn({ error, executionId: run.executionId }, 'a sandbox could not be removed')
      })
    this.#background(gone)
    const abort = (): void => slot.kill()
    signal.addEventListener('abort', abort, { once: true })
    try {
      progress(`Starting ${modules.entry.name} in a sandbox`)
      const job = await this.#hand(slot, plan, modules, mounts, run)
      const running = watchProgram(slot, run.output, {
        outputBytesMax: this.#limits.outputBytesMax,
        memoryBytes: plan.memoryPages * 65_536,
        diskBytes: plan.diskBytes,
        details: { slot: isWarm ? 'warm' : 'cold', compiler: job.optimise ? 'optimising' : 'tiered' },
      })
      await this.#compiled(slot)
      signal.throwIfAborted()
      return running
    } catch (error) {
      slot.kill()
      signal.throwIfAborted()
      throw error
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  async reap(keep: ReadonlySet<ExecutionId>): Promise<string[]> {
    // Programs never outlive the node process that started them, so nothing is kept for an execution's sake.
    void keep
    await mkdir(this.#slotsDir, { recursive: true, mode: 0o700 })
    const { cgroups, pool } = await this.#leftOverView()
    const isLeftOver = (name: string): boolean => /^s-[0-9a-f-]{36}$/.test(name) && pool?.owns(name) !== true
    const removed: string[] = []
    // Groups first: that ends what may still run in a directory.
    if (typeof cgroups !== 'string') {
      for (const name of await cgroups.removeWhere(isLeftOver)) removed.push(`control group ${name}`)
    }
    for (const name of endStraySandboxes(this.#slotsDir, isLeftOver)) removed.push(`sandbox of ${name}`)
    for (const name of (await readdir(this.#slotsDir)).filter(isLeftOver)) {
      await removeTree(join(this.#slotsDir, name))
      removed.push(`sandbox directory ${name}`)
    }
    return removed
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const workshop = await this.#workshop?.catch(() => undefined)
    await workshop?.pool.close()
    await Promise.all(this.#running)
    if (workshop !== undefined && typeof workshop.cgroups !== 'string') await workshop.cgroups.close()
  }

  /** Without a sandbox there can still be leftovers of a time when there was one. */
  async #leftOverView(): Promise<{ cgroups: CgroupTree | string; pool: SlotPool | undefined }> {
    const workshop = await this.#open().catch(() => undefined)
    return workshop ?? { cgroups: await this.#openCgroups(), pool: undefined }
  }

  #open(): Promise<Workshop> {
    if (this.#isClosed) {
      return Promise.reject(
        new WeirError('engine.unavailable', 'The wasm engine is closed', { retryable: true }),
      )
    }
    // A failure is not remembered: somebody may install what is missing.
    this.#workshop ??= this.#build().catch((error: unknown) => {
      this.#workshop = undefined
      throw error
    })
    return this.#workshop
  }

  async #build(): Promise<Workshop> {
    const toolbox = await findToolbox(this.#options.path, this.#options.node)
    await mkdir(this.#slotsDir, { recursive: true, mode: 0o700 })
    const seccompFile = join(this.#options.dataDir, 'sandbox.bpf')
    await writeFile(seccompFile, seccompProgram(toolbox.arch), { mode: 0o600 })
    const cgroups = await this.#openCgroups()
    const options = {
      toolbox,
      slotsDir: this.#slotsDir,
      seccompFile,
      cgroups: typeof cgroups === 'string' ? undefined : cgroups,
      fileBytesMax: this.#limits.diskBytesMax,
      openFilesMax: this.#limits.openFilesMax,
      bootTimeoutMs: this.#limits.bootTimeoutMs,
    }
    const busy = this.#options.warmSlots ?? 1
    const pool = new SlotPool(options, { atRest: Math.min(1, busy), busy }, this.#logger)
    return { toolbox, cgroups, pool, snapshot: undefined }
  }

  /** Sandboxes start without it until it is there, and where this Node cannot make one. */
  async #useSnapshot(workshop: Workshop): Promise<void> {
    // For a single job it is not worth its price.
    if (workshop.snapshot !== undefined || this.#options.warmSlots === 0) return
    workshop.snapshot = ''
    try {
      const file = await buildRunnerSnapshot(workshop.toolbox.node, this.#options.dataDir)
      if (this.#isClosed) return
      await workshop.pool.use(file)
      workshop.snapshot = file
    } catch (error) {
      if (!this.#isClosed) this.#logger.warn({ error }, 'sandboxes start without a snapshot of the runner')
    }
  }

  /** Closing waits for it. */
  #background(work: Promise<unknown>): void {
    this.#running.add(work)
    void work.finally(() => this.#running.delete(work))
  }

  #openCgroups(): Promise<CgroupTree | string> {
    if (this.#options.cgroups === false) return Promise.resolve('switched off')
    const id = createHash('sha256').update(this.#options.dataDir).digest('hex').slice(0, 12)
    return openCgroupTree(`weir-wasm-${id}`)
  }

  /** Brings the run's directories into a slot: a waiting one where everything fits, else one made for it. */
  async #stage(
    pool: SlotPool,
    run: RunSpec,
    plan: JobPlan,
  ): Promise<{ slot: Slot; mounts: SandboxMount[]; isWarm: boolean }> {
    if (this.#fitsWarmSlot(run, plan)) {
      const slot = pool.take()
      if (slot !== undefined) {
        const isUp = await slot.ready.then(
          () => true,
          () => false,
        )
        if (isUp && this.#fill(slot, run, plan)) return { slot, mounts: warmMounts(run, plan), isWarm: true }
        await slot.dispose()
      }
    }
    const slot = pool.openWith({ binds: coldBinds(run, plan), fileBytesMax: plan.diskBytes })
    try {
      await slot.ready
    } catch (error) {
      await slot.dispose()
      throw error
    }
    return { slot, mounts: coldMounts(run, plan), isWarm: false }
  }

  #fitsWarmSlot(run: RunSpec, plan: JobPlan): boolean {
    if (run.outputs.length > SPARE_OUTPUTS || plan.volumes.some((one) => one.writable)) return false
    return plan.volumes.every((one) => looksSmall(one.hostPath, this.#limits.copyBytesMax))
  }

  /**
   * Copies the inputs, and puts the slot's output directories where the run wants its outputs. The sandbox has them
   * mounted, and a mount follows its directory when that is renamed.
   */
  #fill(slot: Slot, run: RunSpec, plan: JobPlan): boolean {
    try {
      for (const [index, volume] of plan.volumes.entries()) {
        if (!copySmall(volume.hostPath, join(slot.dir, 'in', String(index)), this.#limits.copyBytesMax))
          return false
      }
      for (const [index, { hostDir }] of run.outputs.entries()) {
        chmodSync(outputDir(slot.dir, index), statSync(hostDir).mode & 0o777)
        renameSync(outputDir(slot.dir, index), hostDir)
      }
      return true
    } catch (error) {
      // For example another file system, or an output that is not empty: a slot of its own binds what is there.
      this.#logger.debug({ error, executionId: run.executionId }, 'a waiting sandbox cannot take the job')
      return false
    }
  }

  async #hand(
    slot: Slot,
    plan: JobPlan,
    modules: LoadedModules,
    mounts: SandboxMount[],
    run: RunSpec,
  ): Promise<SandboxJob> {
    const all = [modules.entry, ...modules.imports]
    const moduleBytes = all.reduce((sum, one) => sum + one.bytes.length, 0)
    await Promise.all(all.map((one, index) => writeFile(join(slot.dir, 'mod', `${index}.wasm`), one.bytes)))
    const job: SandboxJob = {
      kind: 'run',
      module: '/mod/0.wasm',
      imports: modules.imports.map(({ name }, index) => ({ name, module: `/mod/${index + 1}.wasm` })),
      entryPoint: plan.params.EntryPoint,
      args: [modules.entry.name, ...plan.params.Parameters],
      env: plan.env,
      mounts,
      memoryPages: plan.memoryPages,
      diskBytes: plan.diskBytes,
      filesMax: this.#limits.filesMax,
      openFilesMax: this.#limits.openFilesMax,
      optimise: moduleBytes <= this.#limits.optimiseBytesMax,
    }
    await slot.run(job, {
      memoryBytes: plan.memoryPages * 65_536 + OVERHEAD_BYTES + moduleBytes * COMPILE_BYTES_PER_BYTE,
      cpu: run.resources.cpu,
      pids: PIDS_MAX,
    })
    return job
  }

  /** Waits until the code is compiled; what the compiler refuses rejects. */
  async #compiled(slot: Slot): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), this.#limits.compileTimeoutMs)
    })
    const answer = await Promise.race([slot.firstAnswer(), late])
    clearTimeout(timer)
    if (answer === 'late') {
      throw new WeirError(
        'wasm.invalid',
        `The module could not be compiled within ${this.#limits.compileTimeoutMs / 1000} s`,
        {
          hint: 'Build a smaller module',
        },
      )
    }
    if (answer?.status === 'refused' && answer.code === 'wasm.invalid') {
      throw new WeirError('wasm.invalid', `The compiler refuses the module: ${answer.message}`, {
        hint: 'Build the module again',
      })
    }
    if (answer !== undefined) return
    const { wasOutOfMemory, exitCode } = await slot.end
    const why = wasOutOfMemory
      ? 'it needs more memory than the sandbox has'
      : `the compiler ended (${exitCode})`
    throw new WeirError('wasm.invalid', `The module could not be compiled: ${why}`, {
      hint: 'Build a smaller module',
    })
  }
}

function warmMounts(run: RunSpec, plan: JobPlan): SandboxMount[] {
  return mountsOf(
    run,
    plan,
    (index) => `/in/${index}`,
    (index) => `/out/${index}`,
  )
}

function coldMounts(run: RunSpec, plan: JobPlan): SandboxMount[] {
  return mountsOf(
    run,
    plan,
    (index) => `/vol/${index}`,
    (index) => `/result/${index}`,
  )
}

function mountsOf(
  run: RunSpec,
  plan: JobPlan,
  volumeAt: (index: number) => string,
  outputAt: (index: number) => string,
): SandboxMount[] {
  const mounts: SandboxMount[] = [
    ...plan.volumes.map(({ target, kind, writable }, index) => ({
      target,
      source: volumeAt(index),
      kind,
      writable,
    })),
    ...run.outputs.map(({ path }, index) => ({
      target: path,
      source: outputAt(index),
      kind: 'directory' as const,
      writable: true,
    })),
  ]
  const hasTmp = mounts.some(({ target }) => target === '/tmp' || target === '/')
  return hasTmp ? mounts : [...mounts, { target: '/tmp', source: '/tmp', kind: 'directory', writable: true }]
}

function coldBinds(run: RunSpec, plan: JobPlan): Bind[] {
  return [
    ...plan.volumes.map(({ hostPath, writable }, index) => ({
      at: `/vol/${index}`,
      writable,
      from: hostPath,
    })),
    ...run.outputs.map(({ hostDir }, index) => ({ at: `/result/${index}`, writable: true, from: hostDir })),
  ]
}
