import { existsSync, lstatSync, realpathSync, statSync } from 'node:fs'
import { dirname, isAbsolute, relative, resolve } from 'node:path'
import { WeirError } from '../../errors.js'
import { outsideSockets } from './outside-sockets.js'

/** Which files the program may write and must not see. Paths may be relative to `cwd`. */
export interface FileWishes {
  cwd: string
  home: string
  /** Directories or files that it may write, besides the working directory. */
  allowWrite?: readonly string[]
  /** Directories or files that it must not see. */
  hide?: readonly string[]
  /** Where its rules come from: it must not write those of its next run. */
  policyFile?: string
}

/** What the program sees of the file system. */
export interface FileView {
  /** Options of bubblewrap, in order. */
  args: string[]
  writable: string[]
  /** Why the working directory cannot be written; undefined when it can. */
  cwdReadOnly: string | undefined
  /** It could put another policy file in the place of its own, by moving a directory or a link. */
  canReplacePolicy: boolean
}

/** Empty inside, private to the program: sockets, temporary files and state of running services live there. */
const PRIVATE = ['/tmp', '/var/tmp', '/run', '/var/run']
/**
 * Settings of the whole machine. The kernel asks for root's number there, not for a capability, and root keeps its number:
 * one line in core_pattern would run a program outside.
 */
const KERNEL_READ_ONLY = ['bus', 'fs', 'irq', 'mtrr', 'pressure', 'sys', 'sysrq-trigger'].map(
  (name) => `/proc/${name}`,
)
/** What the kernel tells root about the whole machine. */
const KERNEL_HIDDEN = [
  'acpi',
  'asound',
  'kcore',
  'keys',
  'latency_stats',
  'sched_debug',
  'scsi',
  'timer_list',
].map((name) => `/proc/${name}`)
const ROOT = ['--ro-bind', '/', '/', '--dev', '/dev', '--proc', '/proc']
/** Nothing in there becomes writable. */
const NEVER_WRITABLE = ['/proc', '/sys', '/dev', '/run', '/var/run']

/**
 * The whole file system read-only, with its own /dev, /proc and /tmp; /run is empty; what was asked for is writable or
 * hidden. The working directory is writable unless it holds the home directory or the system itself. Throws
 * `cli.usage` with every path that cannot be used.
 */
export function fileView({ cwd, home, allowWrite = [], hide = [], policyFile }: FileWishes): FileView {
  const problems: string[] = []
  const real = (flag: string, path: string): string | undefined => {
    try {
      return realpathSync(resolve(cwd, path))
    } catch (error) {
      problems.push(
        `${flag} ${path}: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is nothing' : (error as Error).message}`,
      )
      return undefined
    }
  }
  const asked = allowWrite.flatMap((path) => real('--allow-write', path) ?? [])
  for (const path of asked) {
    const reason = unwritable(path)
    if (reason !== undefined) problems.push(`--allow-write ${path}: ${reason}`)
  }
  const hidden = hide.flatMap((path) => real('--hide', path) ?? [])
  const inTheWay = hidden.filter((path) => isBelow(cwd, path))
  problems.push(...inTheWay.map((path) => `--hide ${path}: the working directory is in there`))
  if (problems.length > 0)
    throw new WeirError('cli.usage', ['Cannot use these paths:', ...problems].join('\n  '), {
      hint: 'make a directory first, and name the smallest one that is needed',
    })
  if (['/proc', '/sys', '/dev', '/run'].some((place) => isBelow(cwd, place)))
    throw new WeirError('cli.usage', `Cannot run a program in ${cwd}: it does not see that directory`, {
      hint: 'Change to another directory first',
    })
  const cwdReadOnly = asked.some((path) => isBelow(cwd, path)) ? undefined : reasonForReadOnly(cwd, home)
  const writable = [...new Set([...(cwdReadOnly === undefined ? [cwd] : []), ...asked])].sort()
  const args = mountArguments(cwd, writable, hidden)
  const policy = policyFile === undefined ? undefined : resolve(cwd, policyFile)
  if (policy === undefined || !writable.some((open) => isBelow(policy, open)))
    return { args, writable, cwdReadOnly, canReplacePolicy: false }
  // A place for a mount cannot be moved or removed inside; what lies around it can, but for the writable directory itself.
  const isFile = lstatSync(policy, { throwIfNoEntry: false })?.isFile() === true
  const canReplacePolicy = !isFile || !(writable.includes(dirname(policy)) || writable.includes(policy))
  return {
    args: [...args, ...(isFile ? ['--ro-bind', policy, policy] : [])],
    writable,
    cwdReadOnly,
    canReplacePolicy,
  }
}

/** True when `path` is `directory` or lies below it. */
export function isBelow(path: string, directory: string): boolean {
  const way = relative(directory, path)
  return way === '' || (way !== '..' && !way.startsWith('../') && !isAbsolute(way))
}

function mountArguments(cwd: string, writable: readonly string[], hidden: readonly string[]): string[] {
  const places = PRIVATE.filter(isRealDirectory)
  // A working directory in a private place that cannot be written has to be there all the same.
  const visible = places.some((place) => cwd !== place && isBelow(cwd, place)) ? ['--ro-bind', cwd, cwd] : []
  const binds = writable.flatMap((path) => ['--bind', path, path])
  const covered = (path: string): boolean =>
    places.some((place) => isBelow(path, place)) && ![cwd, ...writable].some((open) => isBelow(path, open))
  const sockets = outsideSockets().filter((path) => !covered(path))
  return [
    ...ROOT,
    ...KERNEL_READ_ONLY.filter((path) => existsSync(path)).flatMap((path) => ['--ro-bind', path, path]),
    ...KERNEL_HIDDEN.filter((path) => existsSync(path)).flatMap(cover),
    ...places.flatMap((path) => ['--tmpfs', path]),
    ...visible,
    ...binds,
    ...hidden.flatMap(cover),
    ...sockets.filter((path) => !hidden.some((directory) => isBelow(path, directory))).flatMap(cover),
  ]
}

/** An empty directory that stays empty, or a file that holds nothing. */
function cover(path: string): string[] {
  return statSync(path).isDirectory()
    ? ['--tmpfs', path, '--remount-ro', path]
    : ['--ro-bind', '/dev/null', path]
}

function reasonForReadOnly(cwd: string, home: string): string | undefined {
  const reason = unwritable(cwd)
  if (reason !== undefined) return reason
  if (home !== '' && isBelow(home, cwd)) return 'the home directory is in there'
  return dirname(cwd) === '/' && SYSTEM.has(cwd) ? 'it belongs to the system' : undefined
}

function unwritable(path: string): string | undefined {
  if (path === '/') return 'it is the whole file system'
  if (PRIVATE.includes(path)) return 'the program has its own one there'
  if (NEVER_WRITABLE.some((place) => isBelow(path, place))) return 'it belongs to the system'
  return undefined
}

const SYSTEM: ReadonlySet<string> = new Set(
  ['bin', 'boot', 'etc', 'home', 'lib', 'lib64', 'media', 'mnt', 'opt', 'sbin', 'usr', 'var'].map(
    (name) => `/${name}`,
  ),
)

/** /var/run is mostly a link to /run, which cannot be a place for a mount. */
function isRealDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}
