import { readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConfigName, ConfigValues } from '../config/index.js'
import { WeirError, toWeirError } from '../errors.js'
import {
  type EgressMode,
  type HostPatternOptions,
  type NetworkEgressPolicy,
  PATTERNS_MAX,
  parseHostPattern,
} from '../model/index.js'
import type { NodeEgressPolicy } from '../ports/index.js'

const FILE_BYTES_MAX = 4 * 1024 * 1024
const POLL_MS = 25
/** A list that is fine and could not be put in force is tried again after so long. */
const RETRY_MS = 1_000

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
  /** Called with each new policy; what it rejects with is reported and the old policy stays. */
  apply: (policy: T) => Promise<void>
  /** Called when a file cannot be used: the old policy stays in force. */
  warn: (error: WeirError) => void
  signal: AbortSignal
}

/**
 * The operator's rules from configuration and files. Rejects with `config.invalid`, naming every bad line: a node does
 * not start with a policy that it cannot read. With the `memo` of the last reading only what changed is judged anew.
 */
export async function readEgressPolicy(
  values: ConfigValues,
  self: readonly string[],
  memo = new PatternMemo(),
): Promise<NodeEgressPolicy> {
  const problems: string[] = []
  const allow = await readList(values, 'Egress.Allow', problems, memo)
  const deny = await readList(values, 'Egress.Deny', problems, memo)
  memo.forgetUnused()
  const privateExceptions = readExceptions(values, problems)
  const selfLines = values['Egress.Self'].map((text, index) => ({ text, where: `Egress.Self[${index}]` }))
  const ownNames = canonical(selfLines, { allowPublicSuffix: true, allowPrivate: true }, problems)
  refuseProblems(problems)
  return {
    mode: values['Egress.Mode'] as EgressMode,
    allow,
    deny,
    privateExceptions,
    self: [...ownNames, ...self],
  }
}

/**
 * The lists of the whole network from configuration and files; `isSet` tells which keys somebody has set. Without any key
 * of `Orchestrator.Egress.Allow…` the network restricts nothing; with one that is empty it allows nothing. Rejects with
 * `config.invalid`, naming every bad line.
 */
export async function readNetworkLists(
  values: ConfigValues,
  isSet: (name: ConfigName) => boolean,
): Promise<Omit<NetworkEgressPolicy, 'version'>> {
  const problems: string[] = []
  const memo = new PatternMemo()
  const allow = await readList(values, 'Orchestrator.Egress.Allow', problems, memo)
  const deny = await readList(values, 'Orchestrator.Egress.Deny', problems, memo)
  refuseProblems(problems)
  const isLimited = isSet('Orchestrator.Egress.Allow') || isSet('Orchestrator.Egress.AllowFile')
  return { ...(isLimited ? { allow } : {}), deny }
}

type ListKey = 'Egress.Allow' | 'Egress.Deny' | 'Orchestrator.Egress.Allow' | 'Orchestrator.Egress.Deny'

async function readList(
  values: ConfigValues,
  key: ListKey,
  problems: string[],
  memo: PatternMemo,
): Promise<string[]> {
  const lines = values[key].map((text, index) => ({ text, where: `${key}[${index}]` }))
  const file = values[`${key}File`]
  if (file !== '') lines.push(...(await readPatternFile(file)))
  // What is denied only narrows what is allowed: public suffixes and private names need no insisting there. A list of
  // the network opens nothing by itself.
  const isNarrowing = key !== 'Egress.Allow'
  return canonical(
    lines,
    { allowPublicSuffix: isNarrowing || values['Egress.AllowPublicSuffixes'], allowPrivate: isNarrowing },
    problems,
    memo,
  )
}

/**
 * Remembers what patterns came to at the last reading: of a list of 10,000 only what changed is looked up among the public
 * suffixes again, so that the change is in force in time.
 */
export class PatternMemo {
  #known = new Map<string, string>()
  #used = new Map<string, string>()

  /** Throws `pattern.invalid`. */
  canonical(text: string, options: HostPatternOptions): string {
    const key = `${options.allowPublicSuffix === true} ${options.allowPrivate === true} ${text}`
    const found = this.#known.get(key) ?? parseHostPattern(text, options).text
    this.#used.set(key, found)
    return found
  }

  /** What was not asked for since the last time is forgotten. */
  forgetUnused(): void {
    this.#known = this.#used
    this.#used = new Map()
  }
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
export async function watchEgressLists<T>({ files, read, apply, warn, signal }: ListWatch<T>): Promise<void> {
  const named = files.filter((file) => file !== '')
  if (named.length === 0) return
  let known = JSON.stringify(await Promise.all(named.map(stamp)))
  let retryAtMs = Infinity
  while (await slept(POLL_MS, signal)) {
    const seen = JSON.stringify(await Promise.all(named.map(stamp)))
    if (seen === known && performance.now() < retryAtMs) continue
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

async function readPatternFile(file: string): Promise<{ text: string; where: string }[]> {
  const bytes = await readFile(file).catch((error: Error) => {
    throw new WeirError('config.invalid', `Cannot read the egress list ${file}: ${error.message}`, {
      cause: error,
    })
  })
  if (bytes.length > FILE_BYTES_MAX)
    throw new WeirError(
      'config.invalid',
      `The egress list ${file} has ${bytes.length} bytes, more than ${FILE_BYTES_MAX}`,
    )
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new WeirError('config.invalid', `The egress list ${file} is not UTF-8`)
  }
  const lines = text
    .split(/\r?\n/)
    .map((line, index) => ({ text: withoutComment(line), where: `${file}:${index + 1}` }))
  const patterns = lines.filter((line) => line.text !== '')
  // A truncated file must not silently close or open anything: an operator who wants nothing leaves the key empty.
  if (patterns.length === 0)
    throw new WeirError('config.invalid', `The egress list ${file} holds no pattern`, {
      hint: 'it may be half-written; to allow nothing, remove the key that names it',
    })
  return patterns
}

function withoutComment(line: string): string {
  return line.replace(/(^|\s)#.*$/, '').trim()
}

function canonical(
  lines: { text: string; where: string }[],
  options: HostPatternOptions,
  problems: string[],
  memo = new PatternMemo(),
): string[] {
  if (lines.length > PATTERNS_MAX) {
    problems.push(`a list of ${lines.length} patterns is too long, at most ${PATTERNS_MAX} are allowed`)
    return []
  }
  return lines.flatMap(({ text, where }) => {
    try {
      return [memo.canonical(text, options)]
    } catch (error) {
      const { message, hint } = toWeirError(error)
      problems.push(`${where}: ${message}${hint === undefined ? '' : ` (${hint})`}`)
      return []
    }
  })
}
