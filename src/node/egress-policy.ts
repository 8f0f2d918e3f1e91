import { readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ConfigValues } from '../config/index.js'
import { WeirError, toWeirError } from '../errors.js'
import { type HostPatternOptions, parseHostPattern } from '../model/host-pattern.js'
import type { NodeEgressPolicy } from '../ports/index.js'

const FILE_BYTES_MAX = 4 * 1024 * 1024
const PATTERNS_MAX = 100_000
const POLL_MS = 50
/** A list that is fine and could not be put in force is tried again after so long. */
const RETRY_MS = 1_000

/** A file is read again when one of these changed. */
interface FileStamp {
  mtimeMs: number
  size: number
  inode: number
}

/** What the watcher needs to know of the world. */
export interface PolicyWatch {
  /** Called with each new policy; what it rejects with is reported and the old policy stays. */
  apply: (policy: NodeEgressPolicy) => Promise<void>
  /** Called when a file cannot be used: the old policy stays in force. */
  warn: (error: WeirError) => void
  signal: AbortSignal
}

/**
 * The operator's rules from configuration and files. Rejects with `config.invalid`, naming every bad line: a node does
 * not start with a policy that it cannot read.
 */
export async function readEgressPolicy(
  values: ConfigValues,
  self: readonly string[],
): Promise<NodeEgressPolicy> {
  const allowPublicSuffix = values['Egress.AllowPublicSuffixes']
  const problems: string[] = []
  const read = async (
    key: 'Egress.Allow' | 'Egress.Deny',
    fileKey: 'Egress.AllowFile' | 'Egress.DenyFile',
  ) => {
    const lines = values[key].map((text, index) => ({ text, where: `${key}[${index}]` }))
    const file = values[fileKey]
    if (file !== '') lines.push(...(await readPatternFile(file)))
    // What is denied only narrows what is allowed: public suffixes and private names need no insisting there.
    const isDeny = key === 'Egress.Deny'
    return canonical(
      lines,
      { allowPublicSuffix: isDeny || allowPublicSuffix, allowPrivate: isDeny },
      problems,
    )
  }
  const allow = await read('Egress.Allow', 'Egress.AllowFile')
  const deny = await read('Egress.Deny', 'Egress.DenyFile')
  const privateExceptions = readExceptions(values, problems)
  const selfLines = values['Egress.Self'].map((text, index) => ({ text, where: `Egress.Self[${index}]` }))
  const ownNames = canonical(selfLines, { allowPublicSuffix: true, allowPrivate: true }, problems)
  if (problems.length > 0) {
    throw new WeirError('config.invalid', ['Cannot use the egress lists:', ...problems].join('\n  '), {
      hint: 'a pattern is `host`, `.host` or `*.host`, with an optional `:port`',
      details: { problems },
    })
  }
  return {
    allow,
    deny,
    privateExceptions,
    self: [...ownNames, ...self],
  }
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
 * Follows the list files until the signal aborts: a change is in force within 100 ms, a bad file changes nothing. What
 * is readable and cannot be put in force is tried again until it is: a list may take something away.
 */
export async function watchEgressPolicy(
  values: ConfigValues,
  self: readonly string[],
  { apply, warn, signal }: PolicyWatch,
): Promise<void> {
  const files = [values['Egress.AllowFile'], values['Egress.DenyFile']].filter((file) => file !== '')
  if (files.length === 0) return
  let known = JSON.stringify(await Promise.all(files.map(stamp)))
  let retryAtMs = Infinity
  while (await slept(POLL_MS, signal)) {
    const seen = JSON.stringify(await Promise.all(files.map(stamp)))
    if (seen === known && performance.now() < retryAtMs) continue
    known = seen
    retryAtMs = Infinity
    try {
      const policy = await readEgressPolicy(values, self)
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
): string[] {
  if (lines.length > PATTERNS_MAX) {
    problems.push(`more than ${PATTERNS_MAX} patterns`)
    return []
  }
  return lines.flatMap(({ text, where }) => {
    try {
      return [parseHostPattern(text, options).text]
    } catch (error) {
      const { message, hint } = toWeirError(error)
      problems.push(`${where}: ${message}${hint === undefined ? '' : ` (${hint})`}`)
      return []
    }
  })
}
