import { mkdir, open, rename, rm, rmdir, writeFile } from 'node:fs/promises'
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
  /** What the orchestrator wants of it: kept until the end. */
  desiredFile: string
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
    desiredFile: join(root, 'desired.json'),
    outputFile: join(root, 'log', 'output'),
  }
}

/** Makes those that every run needs; `inputs` and `result` come when there is something for them. */
export async function makeWorkDirs({ outputs, scratch }: ExecutionDirs): Promise<void> {
  await Promise.all([outputs, scratch].map((dir) => mkdir(dir, { recursive: true, mode: 0o700 })))
}

/** Removes everything but the log and the state. */
export async function removeWorkDirs(dirs: ExecutionDirs): Promise<void> {
  await clearWorkDirs(dirs)
  await rm(dirs.desiredFile, { force: true })
}

/** Removes what a run has made or fetched. */
export async function clearWorkDirs({ inputs, outputs, scratch, result }: ExecutionDirs): Promise<void> {
  for (const dir of [inputs, outputs, scratch, result]) if (!(await isGoneAtOnce(dir))) await removeTree(dir)
}

/** Replaces a file in one step: readers see the old or the new content. */
export async function writeAtomically(file: string, text: string): Promise<void> {
  const partial = `${file}.part`
  await writeFile(partial, text, { mode: 0o600 })
  await rename(partial, file)
}

/** When it resolves, the file as it is now survives a power cut. `dir` holds the file. */
export async function syncToDisk(file: string, dir: string): Promise<void> {
  for (const path of [file, dir]) {
    const handle = await open(path, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }
}

/** True when the directory is missing, or was empty and is removed: the common case, and a cheap one. */
async function isGoneAtOnce(dir: string): Promise<boolean> {
  try {
    await rmdir(dir)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
