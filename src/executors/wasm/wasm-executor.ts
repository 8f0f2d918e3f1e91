import { chmod, mkdir, readdir, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError, toWeirError } from '../../errors.js'
import type { ExecutionId, TaskSpec } from '../../model/index.js'
import { formatBytes, taskResources } from '../../model/index.js'
import type { EngineHealth, Executor, NetworkProvider, RunSpec, RunningExecution } from '../../ports/index.js'
import type { CgroupTree } from './cgroup.js'
import {
  type JobModule,
  bringComponent,
  bringModules,
  compileForNext,
  findCode,
  isCached,
} from './job-modules.js'
import { type JobPlan, checkInitialMemory, planJob } from './job-plan.js'
import { type LoadedModules, loadModules } from './load-modules.js'
import {
  DEFAULT_WASM_LIMITS,
  SILENT,
  type WasmExecutorOptions,
  type WasmLimits,
  type WasmLogger,
} from './options.js'
import { httpOnly } from './http-only.js'
import { removeTree } from './remove-tree.js'
import { watchProgram } from './running-program.js'
import type { SandboxJob, SandboxMount } from './sandbox/job.js'
import { SPARE_OUTPUTS, type Slot, outputDir } from './slot.js'
import { coldBinds, coldMounts, preopensOf, warmMounts } from './slot-mounts.js'
import type { SlotPool } from './slot-pool.js'
import { copySmall, looksSmall } from './staging.js'
import { endStraySandboxes } from './stray-sandboxes.js'
import {
  OVERHEAD_BYTES,
  PIDS_MAX,
  type Workshop,
  openCgroups,
  openWorkshop,
  slotsDir,
  useSnapshot,
} from './workshop.js'

/**
 * Runs WASI preview 1 programs and WASI 0.2 components, each in a sandboxed process of its own that is used once.
 *
 * `probe` builds a sandbox for real and keeps it for the first job. Nothing ever runs outside a sandbox: where none can
 * be built, `probe` says what to do and `start` rejects with `sandbox.unavailable`. With a gateway, programs of mode `http` ask
 * for HTTP through it; nothing else leads out, in any mode.
 */
export function createWasmExecutor(options: WasmExecutorOptions): Executor {
  return new WasmExecutor(options)
}

/** What compiling functions as they are called needs for each byte of a module, at most. */
const COMPILE_BYTES_PER_BYTE = 16

class WasmExecutor implements Executor {
  readonly engine = 'wasm'
  readonly network?: NetworkProvider
  readonly #options: WasmExecutorOptions
  readonly #limits: WasmLimits
  readonly #logger: WasmLogger
  readonly #slotsDir: string
  readonly #running = new Set<Promise<unknown>>()
  #workshop: Promise<Workshop> | undefined
  /** While it is made, and once it was. */
  #snapshot: Promise<void> | undefined
  #isClosed = false

  constructor(options: WasmExecutorOptions) {
    this.#options = options
    this.#limits = { ...DEFAULT_WASM_LIMITS, ...options.limits }
    this.#logger = options.logger ?? SILENT
    this.#slotsDir = slotsDir(options)
    if (options.gateway !== undefined) this.network = httpOnly(options.gateway)
  }

  async probe(signal: AbortSignal): Promise<EngineHealth> {
    try {
      const workshop = await this.#open()
      const { toolbox, cgroups, pool } = workshop
      await pool.probe()
      signal.throwIfAborted()
      // For a single job it is not worth its price.
      if (this.#options.warmSlots !== 0) this.#snapshot ??= useSnapshot(workshop, this.#options, this.#logger)
      return {
        available: true,
        details: {
          system: 'WASI preview 1, WASI 0.2 components',
          node: toolbox.nodeVersion,
          v8: toolbox.v8Version,
          start: pool.startsFromSnapshot ? 'snapshot' : 'plain',
          sandbox: `bubblewrap ${toolbox.bwrapVersion}, seccomp (${toolbox.arch}), prlimit`,
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
    const { pool, codes } = await this.#open()
    const withCode = await findCode(codes, modules)
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
      for (const { name, bytes, code } of withCode) {
        if (code === undefined && bytes.length > this.#limits.optimiseBytesMax)
          progress(`Compiling ${name} (${formatBytes(bytes.length)}), which is not compiled yet`)
      }
      // Before the job: whoever runs in the sandbox then finds the gateway there, or nobody.
      if (plan.attachment !== undefined)
        await this.#options.gateway?.carry(plan.attachment, slot.takeConnection())
      const job = await this.#hand(slot, plan, modules, withCode, mounts, run)
      const details: Record<string, string> = { slot: isWarm ? 'warm' : 'cold' }
      const running = watchProgram(slot, run.output, {
        outputBytesMax: this.#limits.outputBytesMax,
        memoryBytes: plan.memoryPages * 65_536,
        diskBytes: plan.diskBytes,
        details,
      })
      const fromCode = await this.#compiled(slot)
      details.compiler = isCached(withCode, fromCode) ? 'cached' : job.optimise ? 'optimising' : 'tiered'
      if (codes !== undefined) this.#background(compileForNext(codes, withCode, fromCode))
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
    const codesClosed = workshop?.codes?.close()
    await workshop?.pool.close()
    await codesClosed
    await this.#snapshot
    await Promise.all(this.#running)
    if (workshop !== undefined && typeof workshop.cgroups !== 'string') await workshop.cgroups.close()
  }

  /** Without a sandbox there can still be leftovers of a time when there was one. */
  async #leftOverView(): Promise<{ cgroups: CgroupTree | string; pool: SlotPool | undefined }> {
    const workshop = await this.#open().catch(() => undefined)
    return workshop ?? { cgroups: await openCgroups(this.#options), pool: undefined }
  }

  #open(): Promise<Workshop> {
    if (this.#isClosed) {
      return Promise.reject(
        new WeirError('engine.unavailable', 'The wasm engine is closed', { retryable: true }),
      )
    }
    // A failure is not remembered: somebody may install what is missing.
    this.#workshop ??= openWorkshop(this.#options, this.#limits, this.#logger).catch((error: unknown) => {
      this.#workshop = undefined
      throw error
    })
    return this.#workshop
  }

  /** Closing waits for it. */
  #background(work: Promise<unknown>): void {
    this.#running.add(work)
    void work.finally(() => this.#running.delete(work))
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
        if (isUp && (await this.#fill(slot, run, plan)))
          return { slot, mounts: warmMounts(run, plan), isWarm: true }
        await slot.dispose()
      }
    }
    const slot = await pool.openWith({ binds: coldBinds(run, plan), fileBytesMax: plan.diskBytes })
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
  async #fill(slot: Slot, run: RunSpec, plan: JobPlan): Promise<boolean> {
    try {
      for (const [index, volume] of plan.volumes.entries()) {
        if (!copySmall(volume.hostPath, join(slot.dir, 'in', String(index)), this.#limits.copyBytesMax))
          return false
      }
      for (const [index, { hostDir }] of run.outputs.entries()) {
        await chmod(outputDir(slot.dir, index), (await stat(hostDir)).mode & 0o777)
        await rename(outputDir(slot.dir, index), hostDir)
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
    { entry: program, parts }: LoadedModules,
    modules: JobModule[],
    mounts: SandboxMount[],
    run: RunSpec,
  ): Promise<SandboxJob> {
    const files = await bringModules(slot, modules)
    const [entry, ...imports] = parts === undefined ? files : [await bringComponent(slot, program)]
    if (entry === undefined) throw new WeirError('wasm.invalid', 'The run carries no WebAssembly module')
    const size = (some: JobModule[]): number => some.reduce((sum, { bytes }) => sum + bytes.length, 0)
    const toCompile = modules.filter(({ code }) => code === undefined)
    const job: SandboxJob = {
      kind: 'run',
      ...entry,
      imports: imports.map((file, index) => ({ name: modules[index + 1]?.name ?? '', ...file })),
      ...(parts && {
        parts: files.map((file, index) => ({ ...file, tableElements: parts[index]?.tableElements ?? 0 })),
      }),
      entryPoint: plan.params.EntryPoint,
      args: [program.name, ...plan.params.Parameters],
      env: plan.env,
      mounts,
      preopens: preopensOf(mounts, plan, this.#options.preopens),
      memoryPages: plan.memoryPages,
      diskBytes: plan.diskBytes,
      filesMax: this.#limits.filesMax,
      openFilesMax: this.#limits.openFilesMax,
      network: plan.attachment !== undefined,
      optimise: size(toCompile) <= this.#limits.optimiseBytesMax,
    }
    await slot.run(job, {
      memoryBytes:
        plan.memoryPages * 65_536 +
        OVERHEAD_BYTES +
        size(modules) * COMPILE_BYTES_PER_BYTE +
        (parts === undefined ? 0 : program.bytes.length),
      cpu: run.resources.cpu,
      pids: PIDS_MAX,
    })
    return job
  }

  /** Waits until the code is there; what the compiler refuses rejects. Returns how many modules needed no compiling. */
  async #compiled(slot: Slot): Promise<number> {
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
    if (answer !== undefined) return answer.status === 'started' ? answer.fromCode : 0
    const { wasOutOfMemory, exitCode } = await slot.end
    const why = wasOutOfMemory
      ? 'it needs more memory than the sandbox has'
      : `the compiler ended (${exitCode})`
    throw new WeirError('wasm.invalid', `The module could not be compiled: ${why}`, {
      hint: 'Build a smaller module',
    })
  }
}
