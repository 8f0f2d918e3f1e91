import { mkdir, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExecutionId } from '../model/state.js'
import { removeTree } from './remove-tree.js'

/** The directories of one execution, `<dataDir>/compute/executions/<id>/…`; all 0700. */
export interface ExecutionDirs {
  root: string
  inputs: string
  outputs: string
  /** Belongs to the executor. */
  scratch: string
  result: string
  /** The output log: kept after the end. */
  log: string
  /** What the node knows about the execution: kept after the end. */
  stateFile: string
  outputFile: string
}

/** Ids become directory names, so only these are accepted from outside. */
export function isSafeId(id: unknown): id is ExecutionId {
  return typeof id === 'string' && /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/.test(id)
}

export function executionsDir(dataDir: string): string {
  return join(dataDir, 'compute', 'executions')
}

export function executionDirs(dataDir: string, id: ExecutionId): ExecutionDirs {
  const root = join(executionsDir(dataDir), id)
  return {
    root,
    inputs: join(root, 'inputs'),
    outputs: join(root, 'outputs'),
    scratch: join(root, 'scratch'),
    result: join(root, 'result'),
    log: join(root, 'log'),
    stateFile: join(root, 'state.json'),
    outputFile: join(root, 'log', 'output'),
  }
}

export async function makeWorkDirs(dirs: ExecutionDirs): Promise<void> {
  for (const dir of workDirs(dirs)) await mkdir(dir, { recursive: true, mode: 0o700 })
}

/** Removes everything but the log and the state. */
export async function removeWorkDirs(dirs: ExecutionDirs): Promise<void> {
  for (const dir of workDirs(dirs)) await removeTree(dir)
}

/** Replaces a file in one step that survives a power cut; readers see the old or the new content. */
export async function writeDurably(file: string, dir: string, text: string): Promise<void> {
  const partial = `${file}.part`
  const handle = await open(partial, 'w', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(partial, file)
  const parent = await open(dir, 'r')
  try {
    await parent.sync()
  } finally {
    await parent.close()
  }
}

function workDirs({ inputs, outputs, scratch, result }: ExecutionDirs): string[] {
  return [inputs, outputs, scratch, result]
}
