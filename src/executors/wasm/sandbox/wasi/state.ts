import type { BigIntStats } from 'node:fs'
import type { SandboxJob } from '../job.js'
import { DIRECTORY_RIGHTS, FILE_RIGHTS, RIGHTS, STDIN_RIGHTS, STDOUT_RIGHTS } from './abi.js'
import { Descriptors, type FileDescriptor, type OpenFile, type StreamDescriptor } from './descriptors.js'
import { DiskBudget } from './disk-budget.js'
import { ExactTimes } from './exact-times.js'
import { JobTree, latin } from './job-tree.js'

/** Everything the calls of one program share: one program, one state, however many modules it is made of. */
export interface WasiState {
  /** As bytes, each with its NUL. */
  args: Uint8Array[]
  environ: Uint8Array[]
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
  descriptors.add(stream(0, STDIN_RIGHTS))
  descriptors.add(stream(1, STDOUT_RIGHTS))
  descriptors.add(stream(2, STDOUT_RIGHTS))
  for (const { name, target } of job.preopens) {
    descriptors.add({
      kind: 'directory',
      place: tree.at(target),
      rights: DIRECTORY_RIGHTS,
      inheriting: DIRECTORY_RIGHTS | FILE_RIGHTS,
      denied: 0,
      deniedBelow: 0,
      flags: 0,
      preopen: latin(name),
    })
  }
  return {
    args: job.args.map(zeroEnded),
    environ: Object.entries(job.env).map(([name, value]) => zeroEnded(`${name}=${value}`)),
    tree,
    descriptors,
    budget: new DiskBudget(job.diskBytes, job.filesMax),
    times: new ExactTimes(),
    openFiles: new OpenFiles(),
    stderrTail: '',
    end,
  }
}

function stream(fd: number, rights: number): StreamDescriptor {
  const [canRead, canWrite] = [(rights & RIGHTS.FD_READ) !== 0, (rights & RIGHTS.FD_WRITE) !== 0]
  return { kind: 'stream', fd, rights, inheriting: 0, denied: 0, deniedBelow: 0, flags: 0, canRead, canWrite }
}

function zeroEnded(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, 'utf8')
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
