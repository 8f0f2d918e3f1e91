import { readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConfigName, ConfigValues } from '../config/index.js'
import { WeirError, toWeirError } from '../errors.js'
import {
  type EgressMode,
  type HostPatternOptions,
  type LearningOffer,
  type NetworkEgressPolicy,
  NOTHING,
  NO_PRESETS,
  PATTERNS_MAX,
  presetReader,
  parseHostPattern,
  PatternMemo,
  patternLines,
  type Presets,
  principalIdProblem,
  readPresets,
} from '../model/index.js'
import { quoted } from '../model/printable.js'
import type { NodeEgressPolicy } from '../ports/index.js'

/** The longest list file that is read. */
export const LIST_BYTES_MAX = 4 * 1024 * 1024
const POLL_MS = 25
/** A list that is fine and could not be put in force is tried again after so long. */
const RETRY_MS = 1_000

/** The list file of a node that names none, in its data directory: `weir node allowlist add` makes it. */
export const NODE_ALLOW_FILE = 'allowed-hosts'
/** The same of an orchestrator, in its own directory there. */
export const NETWORK_ALLOW_FILE = 'orchestrator/allowed-hosts'

/** A file is read again when one of these changed. */
interface FileStamp {
  mtimeMs: number
  size: number
  inode: number
}

/** What the watcher needs to know of the world. */
export interface ListWatch<T> {
  /** Empty names are no files. */
  files: readonly string[]
  read: () => Promise<T>
  /** True when what was read is out of date although no file changed. Absent: never. */
  isDue?: () => boolean
  /** Called with each new policy; what it rejects with is reported and the old policy stays. */
  apply: (policy: T) => Promise<void>
  /** Called when a file cannot be used: the old policy stays in force. */
  warn: (error: WeirError) => void
  signal: AbortSignal
}

/**
 * The operator's rules from configuration and files. Rejects with `config.invalid`, naming every bad line: a node does
 * not start with a policy that it cannot read. With the `memo` of the last reading only what changed is judged anew.
 * `standardFile` counts where `Egress.AllowFile` is empty; it need not be there.
 */
export async function readEgressPolicy(
  values: ConfigValues,
  self: readonly string[],
  { memo = new PatternMemo(), standardFile = '' }: { memo?: PatternMemo; standardFile?: string } = {},
): Promise<NodeEgressPolicy> {
  const problems: string[] = []
  const reading = { values, problems, memo, presets: readPresets(values['Egress.Presets']) }
  const { patterns: allow } = await readList('Egress.Allow', reading, standardFile)
  const { patterns: deny } = await readList('Egress.Deny', reading)
  memo.forgetUnused()
  const privateExceptions = readExceptions(values, problems)
  const selfLines = values['Egress.Self'].map((text, index) => ({ text, where: `Egress.Self[${index}]` }))
  const ownNames = canonical(selfLines, { allowPublicSuffix: true, allowPrivate: true }, problems)
  refuseProblems(problems)
  const mayLearn = readLearning(values) !== undefined
  return {
    ...(mayLearn && { learning: true }),
    mode: values['Egress.Mode'] as EgressMode,
    allow,
    deny,
    privateExceptions,
    self: [...ownNames, ...self],
  }
}

/** Whose jobs may learn on this node; undefined: nobody's. Throws `config.invalid`, naming every wrong user. */
export function readLearning(values: ConfigValues): LearningOffer | undefined {
  const users = [...new Set(values['Egress.Learning.Users'])]
  const problems = users.flatMap((user, index) => {
    const problem = principalIdProblem(user)
    return problem === undefined ? [] : [`Egress.Learning.Users[${index}]: ${problem}`]
  })
  if (problems.length > 0)
    throw new WeirError('config.invalid', ['Cannot let these users learn:', ...problems].join('\n  '), {
      hint: 'the id of whoever is logged in: weir auth whoami',
      details: { problems },
    })
  return users.length === 0 ? undefined : { users, timeoutMaxMs: values['Egress.Learning.TimeoutMax'] }
}

/**
 * The lists of the whole network from configuration and files; `isSet` tells which keys somebody has set. Without any key
 * of `Orchestrator.Egress.Allow…` the network restricts nothing; with one that is empty it allows nothing. Rejects with
 * `config.invalid`, naming every bad line. `standardFile` counts where `Orchestrator.Egress.AllowFile` is empty: it need not be
 * there, and where it is, the network is limited.
 */
export async function readNetworkLists(
  values: ConfigValues,
  isSet: (name: ConfigName) => boolean,
  standardFile = '',
): Promise<Omit<NetworkEgressPolicy, 'version'>> {
  const problems: string[] = []
  const memo = new PatternMemo()
  const reading = { values, problems, memo, presets: readPresets(values['Egress.Presets']) }
  const { patterns: allow, hasFile } = await readList('Orchestrator.Egress.Allow', reading, standardFile)
  const { patterns: deny } = await readList('Orchestrator.Egress.Deny', reading)
  refuseProblems(problems)
  const isLimited = isSet('Orchestrator.Egress.Allow') || isSet('Orchestrator.Egress.AllowFile') || hasFile
  return { ...(isLimited ? { allow } : {}), deny }
}

/**
 * Judges lists of hosts before they are written to a configuration: those of `names`, with what else the configuration says.
 * Files are not read. Rejects with `config.invalid`, naming every bad entry.
 */
export async function checkEgressValues(values: ConfigValues, names: readonly ConfigName[]): Promise<void> {
  const isMeant = (key: ConfigName): boolean => names.includes(key)
  const without = (keys: readonly ConfigName[], nothing: unknown): Partial<ConfigValues> =>
    Object.fromEntries(keys.filter((key) => !isMeant(key)).map((key) => [key, nothing]))
  const asked = { ...values, ...without(LIST_KEYS, []) }
  for (const key of FILE_KEYS) asked[key] = ''
  await readEgressPolicy(asked, [])
  await readNetworkLists(asked, () => true)
}

const LIST_KEYS = [
  'Egress.Allow',
  'Egress.Deny',
  'Egress.PrivateExceptions',
  'Egress.Self',
  'Orchestrator.Egress.Allow',
  'Orchestrator.Egress.Deny',
] as const
const FILE_KEYS = [
  'Egress.AllowFile',
  'Egress.DenyFile',
  'Orchestrator.Egress.AllowFile',
  'Orchestrator.Egress.DenyFile',
] as const

export type ListKey =
  | 'Egress.Allow'
  | 'Egress.Deny'
  | 'Orchestrator.Egress.Allow'
  | 'Orchestrator.Egress.Deny'

interface ListReading {
  values: ConfigValues
  problems: string[]
  memo: PatternMemo
  presets: Presets
}

async function readList(
  key: ListKey,
  { values, problems, memo, presets }: ListReading,
  standardFile = '',
): Promise<{ patterns: string[]; hasFile: boolean }> {
  const lines = values[key].map((text, index) => ({ text, where: `${key}[${index}]` }))
  const named = values[`${key}File`]
  const file = named === '' ? standardFile : named
  const inFile = file === '' ? undefined : await readPatternFile(file, `${key}File`, named === '')
  lines.push(...(inFile ?? []))
  const patterns = canonical(lines, listOptions(key, values), problems, memo, presets)
  return { patterns, hasFile: inFile !== undefined }
}

/**
 * How patterns of a list are read. What is denied only narrows what is allowed: public suffixes and private names need no
 * insisting there. A list of the network opens nothing by itself.
 */
export function listOptions(key: ListKey, values: ConfigValues): HostPatternOptions {
  const isNarrowing = key !== 'Egress.Allow'
  return { allowPublicSuffix: isNarrowing || values['Egress.AllowPublicSuffixes'], allowPrivate: isNarrowing }
}

function refuseProblems(problems: readonly string[]): void {
  if (problems.length === 0) return
  throw new WeirError('config.invalid', ['Cannot use the egress lists:', ...problems].join('\n  '), {
    hint: 'a pattern is `host`, `.host` or `*.host`, with an optional `:port` and an optional `https://` before it',
    details: { problems },
  })
}

/** Each exception opens one exact host on one port, so that nobody opens a whole network by mistake. */
function readExceptions(values: ConfigValues, problems: string[]): string[] {
  const lines = values['Egress.PrivateExceptions'].map((text, index) => ({
    text,
    where: `Egress.PrivateExceptions[${index}]`,
  }))
  const options = { allowPublicSuffix: false, allowPrivate: true }
  return lines.flatMap((line) =>
    canonical([line], options, problems).filter((text) => {
      const { reach, port, host } = parseHostPattern(text, options)
      if (reach === 'exact' && port !== undefined) return true
      problems.push(
        `${line.where}: "${text}" is not one exact host with its port (write for example "${host}:8080")`,
      )
      return false
    }),
  )
}

/**
 * Follows list files until the signal aborts: a change is in force within 100 ms, a bad file changes nothing. What
 * is readable and cannot be put in force is tried again until it is: a list may take something away.
 */
export async function watchEgressLists<T>({
  files,
  read,
  isDue = () => false,
  apply,
  warn,
  signal,
}: ListWatch<T>): Promise<void> {
  const named = files.filter((file) => file !== '')
  if (named.length === 0) return
  let known = JSON.stringify(await Promise.all(named.map(stamp)))
  let retryAtMs = Infinity
  while (await slept(POLL_MS, signal)) {
    const seen = JSON.stringify(await Promise.all(named.map(stamp)))
    if (seen === known && performance.now() < retryAtMs && !isDue()) continue
    known = seen
    retryAtMs = Infinity
    try {
      const policy = await read()
      retryAtMs = performance.now() + RETRY_MS
      await apply(policy)
      retryAtMs = Infinity
    } catch (error) {
      if (signal.aborted) return
      warn(
        toWeirError(
          error,
          'config.invalid',
          'The egress lists changed but cannot be used; the old ones stay',
        ),
      )
    }
  }
}

/** False when the signal aborted. */
async function slept(ms: number, signal: AbortSignal): Promise<boolean> {
  await sleep(ms, undefined, { signal }).catch(() => undefined)
  return !signal.aborted
}

async function stamp(file: string): Promise<FileStamp | string> {
  try {
    const { mtimeMs, size, ino } = await stat(file)
    return { mtimeMs, size, inode: ino }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unreadable'
  }
}

/** Undefined when the file is not there and need not be. Rejects with `config.invalid`, which names the key. */
export async function readListFile(
  file: string,
  key: string,
  isOptional = false,
): Promise<string | undefined> {
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (isOptional && error.code === 'ENOENT') return undefined
    throw new WeirError(
      'config.invalid',
      `Cannot read the egress list ${quoted(file, 200)} (${key}): ${REASONS[error.code ?? ''] ?? error.message}`,
      { hint: `make the file, or correct the path in ${key}`, cause: error },
    )
  })
  if (bytes === undefined) return undefined
  if (bytes.length > LIST_BYTES_MAX)
    throw new WeirError(
      'config.invalid',
      `The egress list ${file} (${key}) has ${bytes.length} bytes, more than ${LIST_BYTES_MAX}`,
    )
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new WeirError('config.invalid', `The egress list ${file} (${key}) is not UTF-8`)
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'this user may not read it',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of the path is not a directory',
}

async function readPatternFile(
  file: string,
  key: string,
  isOptional: boolean,
): Promise<{ text: string; where: string }[] | undefined> {
  const text = await readListFile(file, key, isOptional)
  if (text === undefined) return undefined
  const lines = patternLines(text).map((one) => ({ text: one.text, where: `${file}:${one.line}` }))
  const nothing = lines.find((line) => line.text === NOTHING)
  // A truncated file must not silently close or open anything: an operator who wants nothing says so.
  if (lines.length === 0)
    throw new WeirError('config.invalid', `The egress list ${file} (${key}) holds no pattern`, {
      hint: `it may be half-written; to allow nothing, write the line ${NOTHING} or remove the key that names it`,
    })
  if (nothing !== undefined && lines.length > 1)
    throw new WeirError('config.invalid', `${nothing.where}: ${NOTHING} stands beside patterns`, {
      hint: 'it says that a list is empty on purpose; remove it or the patterns',
    })
  return lines.filter((line) => line !== nothing)
}

function canonical(
  lines: { text: string; where: string }[],
  options: HostPatternOptions,
  problems: string[],
  memo = new PatternMemo(),
  presets: Presets = NO_PRESETS,
): string[] {
  if (lines.length > PATTERNS_MAX) {
    problems.push(`a list of ${lines.length} patterns is too long, at most ${PATTERNS_MAX} are allowed`)
    return []
  }
  const expand = presetReader(presets)
  return lines.flatMap(({ text, where }) => {
    try {
      return expand(text).map((one) => memo.read(one, options).text)
    } catch (error) {
      const { message, hint } = toWeirError(error)
      problems.push(`${where}: ${message}${hint === undefined ? '' : ` (${hint})`}`)
      return []
    }
  })
}
