import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { unpackTarGz } from '../../archive/index.js'
import { makeDirectory } from '../../make-directory.js'
import { isWeirError, toWeirError, WeirError } from '../../errors.js'
import type { SpecConfig } from '../../model/job-spec.js'
import { printable } from '../../model/printable.js'
import { fetchLink, type FetchLimits } from './fetch-link.js'
import { placeResults, type StagedResult } from './place-results.js'
import { describeLink, readResultLinks, type ResultLink } from './result-link.js'
import { readSelectedPath, type SelectedPath } from './selected-path.js'

export interface DownloadOptions {
  /** Made when missing. */
  outputDir: string
  /** Only this file or directory of the results; absent or empty = everything. */
  path?: string
  /** One folder per result instead of merging them. */
  raw: boolean
  onProgress?: (progress: DownloadProgress) => void
  signal: AbortSignal
  limits?: Partial<FetchLimits> & {
    /** Files and directories in one result. Default 1,000,000. */
    entriesMax?: number
    /** Content of one result after unpacking. Default 100 GiB, as is `bytesMax` for the download. */
    unpackedBytesMax?: number
    /** Downloads at the same time. Default 4. */
    parallelMax?: number
  }
}

export interface DownloadProgress {
  /** Results in all, and how many of them are downloaded and unpacked. */
  results: number
  finished: number
  receivedBytes: number
  /** Undefined while some size is unknown. */
  totalBytes: number | undefined
}

export interface DownloadedResults {
  /** Relative to `outputDir`, in order of their paths; those that were there already with the same content too. */
  files: string[]
  results: number
}

/**
 * Downloads published results and puts them into `outputDir`.
 *
 * Merged (Bacalhau's way): `stdout`, `stderr` and `exitCode` of all results are appended, other files put together; two
 * different files with one name are `results.conflict`. With `raw`, each result gets a folder named after its execution.
 * Downloads are verified when the result tells its SHA256. One that breaks leaves `<name>.part` beside the results, and the
 * next call continues it. Nothing appears under its final name before everything is there and judged; archives are
 * unpacked by code that trusts nothing in them. Rejects with `results.unavailable` (nothing published, not downloadable,
 * expired, no such path), `.corrupt`, `.unsafe`, `.conflict`, or the signal's reason.
 */
export async function downloadResults(
  items: readonly SpecConfig[],
  options: DownloadOptions,
): Promise<DownloadedResults> {
  const { outputDir, raw, signal } = options
  signal.throwIfAborted()
  const selected = readSelectedPath(options.path ?? '')
  const links = readResultLinks(items)
  if (links.length === 0)
    throw new WeirError('results.unavailable', 'Cannot download results: nothing was published', {
      hint: 'Read the output with `weir job logs`; run the job with --publisher local to keep its files',
    })
  const made = await makeDirectory(outputDir).catch((error: unknown) => {
    throw toWeirError(error, 'results.unavailable', `Cannot make the folder "${printable(outputDir, 200)}"`)
  })
  const staging = await mkdtemp(join(outputDir, '.weir-get-'))
  try {
    const roots = await fetchAll(links, staging, selected, options)
    const staged: StagedResult[] = links.map(({ name }, index) => ({
      dir: join(staging, String(index)),
      prefix: raw ? name : '',
    }))
    if (selected !== undefined) await requireSelected(staged, selected, roots)
    const files = await placeResults(staged, outputDir, staging, signal)
    for (const link of links) await rm(partPath(link, outputDir), { force: true })
    return { files, results: links.length }
  } catch (error) {
    if (signal.aborted) throw signal.reason
    throw toWeirError(error, 'results.unavailable', 'Cannot store the results')
  } finally {
    await rm(staging, { recursive: true, force: true })
    if (made !== undefined) await rmdir(outputDir).catch(() => undefined) // only when it stayed empty
  }
}

/** Returns what the results hold at their roots, for messages. The first failure ends the other downloads. */
async function fetchAll(
  links: ResultLink[],
  staging: string,
  selected: SelectedPath | undefined,
  options: DownloadOptions,
): Promise<Set<string>> {
  const roots = new Set<string>()
  const failure = new AbortController()
  const signal = AbortSignal.any([options.signal, failure.signal])
  const progress = new Progress(links, options.onProgress)
  const todo = links.entries()
  const work = async (): Promise<void> => {
    for (const [index, link] of todo) {
      const into = join(staging, String(index))
      await mkdir(into)
      const onBytes = (bytes: number): void => progress.received(index, bytes)
      const found = await fetchOne(link, into, selected, options, onBytes, signal)
      for (const root of found) roots.add(root)
      progress.finish()
    }
  }
  const workers = Array.from({ length: options.limits?.parallelMax ?? 4 }, () =>
    work().catch((error: unknown) => failure.abort(error)),
  )
  await Promise.all(workers)
  if (failure.signal.aborted) throw failure.signal.reason
  return roots
}

async function fetchOne(
  link: ResultLink,
  into: string,
  selected: SelectedPath | undefined,
  { outputDir, limits = {} }: DownloadOptions,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<string[]> {
  const { bytesMax = 100 * 1024 ** 3, retries = 4, backoffMs = 500, idleTimeoutMs = 60_000 } = limits
  const part = partPath(link, outputDir)
  await fetchLink(link, part, { bytesMax, retries, backoffMs, idleTimeoutMs }, onBytes, signal)
  if (!link.archive) {
    if (selected === undefined || selected.includes(link.name)) await rename(part, join(into, link.name))
    return [link.name]
  }
  try {
    const { roots } = await unpackTarGz(createReadStream(part), {
      into,
      bytesMax: limits.unpackedBytesMax ?? 100 * 1024 ** 3,
      entriesMax: limits.entriesMax ?? 1_000_000,
      what: `the result ${describeLink(link)}`,
      codes: { unsafe: 'results.unsafe', corrupt: 'results.corrupt', tooLarge: 'results.unsafe' },
      ...(selected === undefined ? {} : { select: (path: string) => selected.includes(path) }),
      signal,
    })
    return roots
  } catch (error) {
    if (isWeirError(error)) await rm(part, { force: true })
    throw error
  }
}

/** The same link always has the same part, so that a broken download is found again. */
function partPath({ url, name }: ResultLink, outputDir: string): string {
  const key = createHash('sha256').update(url.href).digest('hex').slice(0, 12)
  return join(outputDir, `${name}.${key}.part`)
}

async function requireSelected(
  staged: StagedResult[],
  selected: SelectedPath,
  roots: Set<string>,
): Promise<void> {
  for (const { dir } of staged) if ((await readdir(dir)).length > 0) return
  const names = [...roots].toSorted().slice(0, 20)
  throw new WeirError(
    'results.unavailable',
    `Cannot get "${printable(selected.text, 200)}": no result has such a file or directory`,
    { hint: `The results hold: ${names.map((name) => printable(name, 60)).join(', ')}` },
  )
}

class Progress {
  private readonly links: ResultLink[]
  private readonly bytes: number[]
  private readonly report: ((progress: DownloadProgress) => void) | undefined
  private finished = 0

  constructor(links: ResultLink[], report: ((progress: DownloadProgress) => void) | undefined) {
    this.links = links
    this.bytes = links.map(() => 0)
    this.report = report
  }

  received(index: number, bytes: number): void {
    this.bytes[index] = bytes
    this.tell()
  }

  finish(): void {
    this.finished += 1
    this.tell()
  }

  private tell(): void {
    const sizes = this.links.map((link) => link.bytes)
    this.report?.({
      results: this.links.length,
      finished: this.finished,
      receivedBytes: sum(this.bytes),
      totalBytes: sizes.every((size) => size !== undefined) ? sum(sizes) : undefined,
    })
  }
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
