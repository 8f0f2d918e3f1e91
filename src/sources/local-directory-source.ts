import { realpath, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { WeirError } from '../errors.js'
import type { InputSourceSpec } from '../model/job-spec.js'
import type { StorageSource } from '../ports/data.js'
import { parameter } from './parameter.js'
import { matchesPathPattern, parsePathPatterns, type PathPattern } from './path-pattern.js'

export interface LocalDirectorySourceOptions {
  /** `path[:ro|:rw]`, see {@link parsePathPatterns}. Absent and empty: nothing is allowed. */
  allowed: string[]
  /**
   * Files and directories that no job gets, whatever is allowed: what holds the node's own secrets, and the sockets of those
   * that start programs. Neither they, nor what lies below or above them. They need not exist.
   */
  withheld?: readonly string[]
}

type Checked = { path: string; writable: boolean } | { problem: { message: string; hint: string } }

/**
 * Directories and files of the node (`localDirectory`, parameters `SourcePath` and `ReadWrite`), where the operator
 * allows them. What counts is where the path really leads: links and `..` are resolved first, when a job is admitted
 * and again when it starts, and the volume points at the resolved path. Writable only when the job asks for it and the
 * operator's entry says `:rw`. Rejects with `source.refused`, or `source.unavailable` when nothing is there.
 * Throws `config.invalid` for a malformed entry.
 */
export function localDirectorySource({ allowed, withheld = [] }: LocalDirectorySourceOptions): StorageSource {
  const rules = { patterns: allowed.flatMap(parsePathPatterns), withheld }
  return {
    type: 'localdirectory',
    async admit(input) {
      const checked = await check(input, rules)
      return 'problem' in checked ? [checked.problem] : []
    },
    // Nothing is copied, so it takes none of the run's disk.
    measure: async () => 0,
    async fetch(input, _intoDir, _limits, signal) {
      signal.throwIfAborted()
      const checked = await check(input, rules)
      if ('problem' in checked)
        throw new WeirError('source.refused', checked.problem.message, { hint: checked.problem.hint })
      return [{ hostPath: checked.path, target: input.Target, writable: checked.writable }]
    },
  }
}

interface Rules {
  patterns: PathPattern[]
  withheld: readonly string[]
}

async function check({ Source }: InputSourceSpec, { patterns, withheld }: Rules): Promise<Checked> {
  const asked = parameter(Source, 'SourcePath')
  if (typeof asked !== 'string' || !isAbsolute(asked) || asked.includes('\0'))
    return refuse(
      String(asked),
      'the path is not absolute',
      'Give SourcePath as an absolute path on the node',
    )
  const create = parameter(Source, 'CreateAs')
  if (typeof create === 'string' && !['', 'nocreate'].includes(create.toLowerCase()))
    return refuse(asked, 'this node creates no local paths', 'Leave CreateAs out and use a path that exists')
  const writable = isTrue(parameter(Source, 'ReadWrite'))
  // The same answer whether it is missing or not allowed: a job learns nothing about other paths.
  const path = await realpath(asked).catch(() => undefined)
  const matching = path === undefined ? [] : await matchingPatterns(path, patterns)
  if (path === undefined || matching.length === 0)
    return refuse(
      asked,
      'it does not exist or is not among the allowed paths of this node',
      'Ask the operator to list it in Compute.AllowListedLocalPaths; links count as what they point to',
    )
  // A socket can be used through a mount that is read-only.
  if (await touchesAny(path, withheld))
    return refuse(
      asked,
      'it holds what belongs to the node itself, or is held by it',
      'Use a directory beside it; the operator can keep data and the node apart',
    )
  if (writable && !matching.some((pattern) => pattern.writable))
    return refuse(
      asked,
      'the operator allows reading only',
      'Leave ReadWrite out, or ask for an entry ending in :rw',
    )
  const stats = await stat(path).catch(() => undefined)
  if (stats === undefined || !(stats.isDirectory() || stats.isFile()))
    return refuse(asked, 'it is neither a directory nor a regular file', 'Use a directory or a regular file')
  return { path, writable }
}

async function matchingPatterns(path: string, patterns: PathPattern[]): Promise<PathPattern[]> {
  const matching: PathPattern[] = []
  for (const pattern of patterns) {
    // The operator's own path may lead over links (/data → /mnt/disk1); a job's path is compared with where it ends.
    const base = await realpath(pattern.base).catch(() => undefined)
    if (base !== undefined && matchesPathPattern(path, pattern, base)) matching.push(pattern)
  }
  return matching
}

/** True when one of them is the path, lies below it or above it; where it stands and where it leads. */
async function touchesAny(path: string, withheld: readonly string[]): Promise<boolean> {
  for (const text of withheld) {
    for (const other of [text, await realpath(text).catch(() => text)])
      if (isWithin(path, other) || isWithin(other, path)) return true
  }
  return false
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`)
}

function isTrue(value: unknown): boolean {
  return value === true || (typeof value === 'string' && value.toLowerCase() === 'true')
}

function refuse(path: string, why: string, hint: string): Checked {
  return {
    problem: { message: `Cannot use the local path ${JSON.stringify(path.slice(0, 200))}: ${why}`, hint },
  }
}
