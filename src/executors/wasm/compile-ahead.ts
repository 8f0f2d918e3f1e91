import { linkSync, lstatSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { formatBytes } from '../../model/index.js'
import type { CgroupLimits } from './cgroup.js'
import type { Keep } from './code-cache.js'
import type { SandboxStatus, SandboxTask } from './sandbox/job.js'
import { type Slot, type SlotOptions, outputDir } from './slot.js'

export interface CompileAheadOptions {
  /** A slot of its own for each task. */
  open(options: Partial<SlotOptions>): Promise<Slot>
  /** Largest module that is compiled ahead. */
  moduleBytesMax: number
  codeBytesMax: number
  timeoutMs: number
  limits: CgroupLimits
}

/**
 * Compiles a module in a sandbox that never runs a program, and has the code loaded in a second one: what ends that one
 * would end every job. Other tasks go first.
 *
 * @returns why there is no code; undefined when `keep` took it. Rejects when no sandbox can be built.
 */
export async function compileAhead(
  module: Buffer,
  options: CompileAheadOptions,
  keep: Keep,
): Promise<string | undefined> {
  if (module.length > options.moduleBytesMax) return `it has more than ${formatBytes(options.moduleBytesMax)}`
  return inSlot(module, options, async (compiler) => {
    const task = { kind: 'compile', module: MODULE, code: '/out/0/code' } as const
    const problem = await finish(compiler, task, options)
    if (problem !== undefined) return problem
    // The compiler is gone: what lies there stays as it is.
    const file = join(outputDir(compiler.dir, 0), 'code')
    if (lstatSync(file, { throwIfNoEntry: false })?.isFile() !== true) return 'the compiler left no code'
    return inSlot(module, options, async (loader) => {
      linkSync(file, join(loader.dir, 'mod', '0.code'))
      const load = { kind: 'load', module: MODULE, code: '/mod/0.code' } as const
      return (await finish(loader, load, options)) ?? keep(file)
    })
  })
}

const MODULE = '/mod/0.wasm'

async function inSlot<Result>(
  module: Buffer,
  options: CompileAheadOptions,
  work: (slot: Slot) => Promise<Result>,
): Promise<Result> {
  const slot = await options.open({ fileBytesMax: options.codeBytesMax, isBackground: true })
  try {
    await slot.ready
    await writeFile(join(slot.dir, 'mod', '0.wasm'), module)
    return await work(slot)
  } finally {
    await slot.dispose()
  }
}

/** Waits for the task's end and the slot's. */
async function finish(
  slot: Slot,
  task: SandboxTask,
  options: CompileAheadOptions,
): Promise<string | undefined> {
  await slot.run(task, options.limits)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), options.timeoutMs)
  })
  const answer = await Promise.race([slot.firstAnswer(), late])
  clearTimeout(timer)
  slot.kill()
  const { wasOutOfMemory, exitCode } = await slot.end
  if (answer === 'late') return `it takes longer than ${options.timeoutMs / 1000} s`
  if (wasOutOfMemory) return `it takes more than ${formatBytes(options.limits.memoryBytes)} of memory`
  return problemIn(answer, task.kind, exitCode)
}

function problemIn(
  answer: SandboxStatus | undefined,
  kind: string,
  exitCode: number | null,
): string | undefined {
  if (answer?.status === 'code') return answer.good ? undefined : `V8 refuses to ${kind} it`
  return `the sandbox that was to ${kind} it ended (${exitCode})`
}
