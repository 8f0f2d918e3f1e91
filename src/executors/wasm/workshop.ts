import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type CgroupTree, openCgroupTree } from './cgroup.js'
import { CodeCache } from './code-cache.js'
import { codeFingerprint } from './code-fingerprint.js'
import { compileAhead } from './compile-ahead.js'
import type { WasmExecutorOptions, WasmLimits, WasmLogger } from './options.js'
import { buildRunnerSnapshot } from './runner-snapshot.js'
import { seccompProgram } from './seccomp-program.js'
import { SlotPool } from './slot-pool.js'
import { type Toolbox, findToolbox } from './toolbox.js'

/** What exists once the first sandbox is to be built. */
export interface Workshop {
  toolbox: Toolbox
  /** Or why there are none. */
  cgroups: CgroupTree | string
  pool: SlotPool
  /** Undefined when no code is kept. */
  codes: CodeCache | undefined
}

/** Node itself, beside the guest's memory: code, heap, page cache of the files it reads. */
export const OVERHEAD_BYTES = 128 * 1024 * 1024
/** Node's threads, with room to spare. */
export const PIDS_MAX = 64

/** Rejects with `sandbox.unavailable` when something is missing on this machine. */
export async function openWorkshop(
  options: WasmExecutorOptions,
  limits: WasmLimits,
  logger: WasmLogger,
): Promise<Workshop> {
  const toolbox = await findToolbox(options.path, options.node)
  await mkdir(slotsDir(options), { recursive: true, mode: 0o700 })
  const seccompFile = join(options.dataDir, 'sandbox.bpf')
  await writeFile(seccompFile, seccompProgram(toolbox.arch), { mode: 0o600 })
  const cgroups = await openCgroups(options)
  const slotOptions = {
    toolbox,
    slotsDir: slotsDir(options),
    seccompFile,
    cgroups: typeof cgroups === 'string' ? undefined : cgroups,
    fileBytesMax: limits.diskBytesMax,
    openFilesMax: limits.openFilesMax,
    bootTimeoutMs: limits.bootTimeoutMs,
  }
  const busy = options.warmSlots ?? 1
  const pool = new SlotPool(slotOptions, { atRest: Math.min(1, busy), busy }, logger)
  const codes = await openCodes(toolbox, pool, options, limits, logger)
  return { toolbox, cgroups, pool, codes }
}

export function slotsDir(options: WasmExecutorOptions): string {
  return join(options.dataDir, 'slots')
}

export function openCgroups(options: WasmExecutorOptions): Promise<CgroupTree | string> {
  if (options.cgroups === false) return Promise.resolve('switched off')
  const id = createHash('sha256').update(options.dataDir).digest('hex').slice(0, 12)
  return openCgroupTree(`weir-wasm-${id}`)
}

/**
 * Has sandboxes start from a snapshot of the runner. Until it is there, and where this Node cannot make one, they start
 * without. Call it once.
 */
export async function useSnapshot(
  { toolbox, pool }: Workshop,
  options: WasmExecutorOptions,
  logger: WasmLogger,
): Promise<void> {
  try {
    await pool.use(await buildRunnerSnapshot(toolbox.node, options.dataDir))
  } catch (error) {
    if (!pool.isClosed) logger.warn({ error }, 'sandboxes start without a snapshot of the runner')
  }
}

/** What compiling a whole module needs for each of its bytes, at most, and in all. */
const AHEAD_BYTES_PER_BYTE = 64
const AHEAD_MEMORY_MAX = 2 * 1024 ** 3

async function openCodes(
  toolbox: Toolbox,
  pool: SlotPool,
  { codeBytesMax = 0, dataDir }: WasmExecutorOptions,
  limits: WasmLimits,
  logger: WasmLogger,
): Promise<CodeCache | undefined> {
  if (codeBytesMax === 0) return undefined
  return CodeCache.open({
    dir: join(dataDir, 'code'),
    bytesMax: codeBytesMax,
    fingerprint: codeFingerprint(toolbox),
    now: () => Date.now(),
    logger,
    compile: (module, keep) => {
      const memoryBytes = Math.min(AHEAD_MEMORY_MAX, OVERHEAD_BYTES + module.length * AHEAD_BYTES_PER_BYTE)
      const ahead = {
        open: pool.openWith.bind(pool),
        moduleBytesMax: limits.aheadBytesMax,
        codeBytesMax: Math.min(codeBytesMax, limits.diskBytesMax),
        timeoutMs: limits.aheadTimeoutMs,
        limits: { memoryBytes, cpu: 0, pids: PIDS_MAX, isBackground: true },
      }
      return compileAhead(module, ahead, keep)
    },
  })
}
