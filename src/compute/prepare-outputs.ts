import { RECEIPT_FILE } from '../model/egress-receipt.js'
import { chmod, mkdir } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { WeirError } from '../errors.js'
import type { ResultPathSpec, TaskSpec } from '../model/job-spec.js'
import { task } from '../model/task-accessors.js'
import type { OutputMount } from '../ports/index.js'
import { OpenDirectory } from './open-directory.js'
import type { Run } from './run.js'

/** One result path, ready for the run. */
export interface PreparedOutput {
  mount: OutputMount
  /** The same directory, held: whatever its path means later, this is what is collected. */
  opened: OpenDirectory
}

/**
 * Makes one empty directory per result path, writable for whatever user the job runs as; their parent is closed to
 * everybody else. Every job has `/outputs`, unless one of its paths is or overlaps it. The directories are held open
 * until the run is closed. `taken`: an earlier process has made them, and the program may have filled them.
 */
export async function prepareOutputs(
  { desired, dirs, closing }: Run,
  { taken = false }: { taken?: boolean } = {},
): Promise<PreparedOutput[]> {
  const mounts = resultPaths(task(desired.jobSpec)).map(({ Name, Path }, index) => ({
    name: Name,
    hostDir: join(dirs.outputs, String(index)),
    path: Path,
  }))
  const prepared: PreparedOutput[] = []
  for (const mount of mounts) {
    const { name, hostDir } = mount
    if (!isResultName(name)) {
      throw new WeirError('spec.invalid', `Cannot use ${JSON.stringify(name)} as the name of a result path`, {
        hint: 'Use one path segment other than stdout, stderr and exitCode',
      })
    }
    if (!taken) {
      await mkdir(hostDir, { recursive: true, mode: 0o700 })
      // Not by `mode`: the process's umask would narrow it.
      await chmod(hostDir, 0o777)
    }
    const output = { mount, opened: new OpenDirectory(hostDir) }
    closing.add('output directory', () => output.opened.close())
    prepared.push(output)
  }
  return prepared
}

/**
 * For the moment when the engine has started the program: an engine may have put a directory of its own in an output's
 * place, which it had bound beforehand. From now on that one is held. What is no directory changes nothing.
 */
export function holdStarted(outputs: readonly PreparedOutput[]): void {
  for (const output of outputs) {
    let now: OpenDirectory
    try {
      now = new OpenDirectory(output.mount.hostDir)
    } catch {
      continue // Gone or a link already: then the engine did not put it there.
    }
    const [{ dev, ino }, before] = [now.stat(), output.opened.stat()]
    const unused = dev === before.dev && ino === before.ino ? now : output.opened
    if (unused !== now) output.opened = now
    unused.closeAside()
  }
}

/** The task's result paths, with the default one. */
export function resultPaths({ ResultPaths, InputSources }: TaskSpec): ResultPathSpec[] {
  const taken =
    ResultPaths.some(({ Name, Path }) => Name === DEFAULT.Name || overlaps(Path, DEFAULT.Path)) ||
    InputSources.some(({ Target }) => overlaps(Target, DEFAULT.Path))
  return taken ? ResultPaths : [...ResultPaths, DEFAULT]
}

const DEFAULT: ResultPathSpec = Object.freeze({ Name: 'outputs', Path: '/outputs' })

const OWN_NAMES: readonly string[] = ['stdout', 'stderr', 'exitCode', RECEIPT_FILE, '.', '..', '']

function isResultName(name: string): boolean {
  return !OWN_NAMES.includes(name) && !/[/\\\0]/.test(name) && name.length <= 255
}

function overlaps(a: string, b: string): boolean {
  const [left, right] = [withSlash(a), withSlash(b)]
  return left.startsWith(right) || right.startsWith(left)
}

function withSlash(path: string): string {
  const normal = posix.normalize(path)
  return normal.endsWith('/') ? normal : `${normal}/`
}
