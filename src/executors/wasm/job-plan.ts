import { lstatSync } from 'node:fs'
import { WeirError } from '../../errors.js'
import { type WasmEngineParams, formatBytes, wasmEngine } from '../../model/index.js'
import type { GatewayAttachment, RunSpec } from '../../ports/index.js'
import type { WasmLimits } from './options.js'

/** What a run asks for, checked and bounded. */
export interface JobPlan {
  params: WasmEngineParams
  env: Record<string, string>
  memoryPages: number
  diskBytes: number
  /** In the order in which they are mounted: a volume's index is its number in the slot. */
  volumes: PlannedVolume[]
  /** Where what the program asks for leaves; absent = nowhere. */
  attachment?: GatewayAttachment
}

export interface PlannedVolume {
  hostPath: string
  target: string
  kind: 'directory' | 'file'
  writable: boolean
}

const PAGE_BYTES = 65_536
/** A 32-bit memory has no more. */
const PAGES_MAX = 65_536
const MOUNTS_MAX = 256

/** @throws WeirError `compute.network`, `compute.resources`, `spec.invalid`. */
export function planJob(run: RunSpec, limits: WasmLimits): JobPlan {
  const { mode, attachment } = run.network
  if (mode === 'full' || (mode === 'http') !== (attachment !== undefined)) {
    throw new WeirError('compute.network', `The wasm engine cannot give a job the network type "${mode}"`, {
      hint: 'A WebAssembly program reaches listed hosts: --network http --domain …',
    })
  }
  const params = wasmEngine(run.task)
  const env = { ...params.EnvironmentVariables, ...run.env }
  checkArguments(params.Parameters, env, limits.argumentBytesMax)
  const mounts = run.volumes.length + run.outputs.length
  if (mounts > MOUNTS_MAX)
    throw new WeirError(
      'spec.invalid',
      `The job has ${mounts} inputs and result paths, ${MOUNTS_MAX} are allowed`,
    )
  return {
    params,
    env,
    ...(attachment !== undefined && { attachment }),
    memoryPages: memoryPages(run.resources.memoryBytes, limits),
    diskBytes: run.resources.diskBytes > 0 ? run.resources.diskBytes : limits.diskBytesMax,
    volumes: run.volumes.map(({ hostPath, target, writable }) => ({
      hostPath,
      target,
      writable,
      kind: kindOf(hostPath),
    })),
  }
}

/** 0 means that the job states nothing. */
export function memoryPages(memoryBytes: number, limits: WasmLimits): number {
  const bytes = memoryBytes > 0 ? memoryBytes : limits.memoryBytesDefault
  return Math.min(PAGES_MAX, Math.max(1, Math.floor(bytes / PAGE_BYTES)))
}

/** @throws WeirError `execution.out_of_memory` when the modules start with more memory than the job has. */
export function checkInitialMemory(initialPages: number, pages: number): void {
  if (initialPages <= pages) return
  const [asks, has] = [formatBytes(initialPages * PAGE_BYTES), formatBytes(pages * PAGE_BYTES)]
  throw new WeirError(
    'execution.out_of_memory',
    `The module starts with ${asks} of memory, the job has ${has}`,
    {
      hint: 'Ask for more memory (--memory)',
    },
  )
}

function checkArguments(args: string[], env: Record<string, string>, bytesMax: number): void {
  for (const [name, value] of Object.entries(env)) {
    if (name === '' || name.includes('=') || name.includes('\0') || value.includes('\0')) {
      throw new WeirError(
        'spec.invalid',
        `Cannot set the environment variable ${JSON.stringify(name.slice(0, 80))}`,
        {
          hint: 'Names must not be empty or contain "=", neither names nor values a NUL',
        },
      )
    }
  }
  if (args.some((one) => one.includes('\0'))) {
    throw new WeirError('spec.invalid', 'Cannot pass a parameter that contains a NUL')
  }
  const all = [...args, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
  const bytes = all.reduce((sum, one) => sum + Buffer.byteLength(one) + 1, 0)
  if (bytes <= bytesMax) return
  throw new WeirError(
    'spec.invalid',
    `The parameters and environment have ${bytes} bytes, ${bytesMax} are allowed`,
    {
      hint: 'Pass large data as an input',
    },
  )
}

function kindOf(hostPath: string): 'directory' | 'file' {
  const found = lstatSync(hostPath, { throwIfNoEntry: false })
  if (found?.isDirectory() === true) return 'directory'
  if (found?.isFile() === true) return 'file'
  throw new WeirError(
    'source.unavailable',
    `The input ${JSON.stringify(hostPath)} is neither a file nor a directory`,
  )
}
