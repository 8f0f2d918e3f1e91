import type { BigIntStats } from 'node:fs'
import type { SandboxJob } from '../job.js'
import { DIRECTORY_RIGHTS, FILE_RIGHTS, STDIN_RIGHTS, STDOUT_RIGHTS } from './abi.js'
import { Descriptors, type FileDescriptor, type OpenFile } from './descriptors.js'
import { DiskBudget } from './disk-budget.js'
import { ExactTimes } from './exact-times.js'
import { JobTree, latin } from './job-tree.js'

/** Everything the calls of one program share: one program, one state, however many modules it is made of. */
export interface WasiState {
  args: string[]
  environ: string[]
  tree: JobTree
  descriptors: Descriptors
  budget: DiskBudget
  times: ExactTimes
  openFiles: OpenFiles
  /** Last bytes the program wrote to stderr, as one character per byte. */
  stderrTail: string
  /** Ends the program; does not return. */
  end: (how: 'exit' | 'raise', value: number) => never
}

export function createWasiState(job: SandboxJob, end: WasiState['end']): WasiState {
  const tree = new JobTree(job.mounts)
  const descriptors = new Descriptors(job.openFilesMax)
  descriptors.add({ kind: 'stream', fd: 0, rights: STDIN_RIGHTS, inheriting: 0n, flags: 0 })
  descriptors.add({ kind: 'stream', fd: 1, rights: STDOUT_RIGHTS, inheriting: 0n, flags: 0 })
  descriptors.add({ kind: 'stream', fd: 2, rights: STDOUT_RIGHTS, inheriting: 0n, flags: 0 })
  const preopen = (path: string, place = tree.root): void => {
    const inheriting = DIRECTORY_RIGHTS | FILE_RIGHTS
    descriptors.add({
      kind: 'directory',
      place,
      rights: DIRECTORY_RIGHTS,
      inheriting,
      flags: 0,
      preopen: path,
    })
  }
  preopen('/')
  for (const mount of job.mounts) {
    if (mount.kind === 'directory' && mount.target !== '/')
      preopen(latin(mount.target), tree.at(mount.target))
  }
  return {
    args: job.args,
    environ: Object.entries(job.env).map(([name, value]) => `${name}=${value}`),
    tree,
    descriptors,
    budget: new DiskBudget(job.diskBytes, job.filesMax),
    times: new ExactTimes(),
    openFiles: new OpenFiles(),
    stderrTail: '',
    end,
  }
}

/** Which files are open, by inode, so that their bytes are counted once and given back at the right moment. */
export class OpenFiles {
  readonly #byKey = new Map<string, OpenFile>()

  open(stat: BigIntStats): OpenFile {
    const key = `${stat.dev}:${stat.ino}`
    const file = this.#byKey.get(key) ?? { key, size: Number(stat.size), references: 0, isUnlinked: false }
    file.references++
    this.#byKey.set(key, file)
    return file
  }

  close(descriptor: FileDescriptor, budget: DiskBudget): void {
    const { file } = descriptor
    if (--file.references > 0) return
    this.#byKey.delete(file.key)
    if (file.isUnlinked) budget.giveBytes(file.size)
  }

  /** A name of the file is gone; `stat` was taken before. */
  unlinked(stat: BigIntStats, budget: DiskBudget): void {
    budget.giveFile()
    if (stat.nlink > 1n || !stat.isFile()) return
    const open = this.#byKey.get(`${stat.dev}:${stat.ino}`)
    if (open === undefined) budget.giveBytes(Number(stat.size))
    else open.isUnlinked = true
  }
}
