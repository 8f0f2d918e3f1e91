import { createReadStream, createWriteStream } from 'node:fs'
import { lstat, mkdir, open, readdir, readFile, rename } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { WeirError } from '../../errors.js'
import { RECEIPT_FILE } from '../../model/egress-receipt.js'
import { printable } from '../../model/printable.js'

/** A result that was unpacked into a directory of its own. */
export interface StagedResult {
  dir: string
  /** Directory for it below the output directory; empty to merge it with the others. */
  prefix: string
}

interface Planned {
  kind: 'file' | 'directory'
  /** More than one only for the files that are appended. */
  sources: string[]
}

/** Merging appends these: output, exit code and receipt of every execution. */
const APPENDED = ['stdout', 'stderr', 'exitCode', RECEIPT_FILE]

/**
 * Moves staged results to where they belong, merged or each in its own directory; returns the files, relative to
 * `outputDir`. All conflicts are found before anything is moved: two results that disagree on a file, something else
 * that is there already, a link in the way; they reject with `results.conflict`. Files that are there already with
 * the same content are fine, and receipts are added to those that are there. Every file appears whole, by a rename: `scratchDir` must be on the same file system.
 */
export async function placeResults(
  staged: readonly StagedResult[],
  outputDir: string,
  scratchDir: string,
  signal: AbortSignal,
): Promise<string[]> {
  const plan = new Map<string, Planned>()
  for (const result of staged) await addToPlan(plan, result.dir, result.prefix)
  const files: string[] = []
  const moves: { from: string; path: string }[] = []
  for (const [path, planned] of plan) {
    signal.throwIfAborted()
    if (planned.kind === 'directory') {
      await checkDirectory(outputDir, path)
      continue
    }
    const joined = join(scratchDir, `joined-${files.length}`)
    const from = await oneSource(await withEarlierReceipts(planned.sources, outputDir, path), joined)
    if (isReceiptFile(path) || !(await isThereAlready(from, outputDir, path))) moves.push({ from, path })
    files.push(path)
  }
  for (const [path, { kind }] of plan)
    if (kind === 'directory') await mkdir(join(outputDir, path), { recursive: true })
  for (const { from, path } of moves) {
    await mkdir(dirname(join(outputDir, path)), { recursive: true })
    await rename(from, join(outputDir, path))
  }
  return files
}

async function addToPlan(plan: Map<string, Planned>, dir: string, prefix: string): Promise<void> {
  if (prefix !== '') addDirectory(plan, prefix)
  const entries = await readdir(dir, { withFileTypes: true })
  entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const entry of entries) {
    const path = prefix === '' ? entry.name : `${prefix}/${entry.name}`
    const source = join(dir, entry.name)
    if (entry.isDirectory()) await addToPlan(plan, source, path)
    else await addFile(plan, path, source)
  }
}

function addDirectory(plan: Map<string, Planned>, path: string): void {
  const known = plan.get(path)
  if (known === undefined) plan.set(path, { kind: 'directory', sources: [] })
  else if (known.kind === 'file')
    throw disagreement(path, 'is a file in one result and a directory in another')
}

async function addFile(plan: Map<string, Planned>, path: string, source: string): Promise<void> {
  const known = plan.get(path)
  if (known === undefined) {
    plan.set(path, { kind: 'file', sources: [source] })
    return
  }
  const [first] = known.sources
  if (known.kind === 'directory' || first === undefined)
    throw disagreement(path, 'is a file in one result and a directory in another')
  if (APPENDED.includes(path)) known.sources.push(source)
  else if (!(await sameContent(first, source))) throw disagreement(path, 'differs between results')
}

/** Receipts of results that were downloaded to the same place before are kept: each is of another execution. */
async function withEarlierReceipts(sources: string[], outputDir: string, path: string): Promise<string[]> {
  if (!isReceiptFile(path)) return sources
  await checkDirectory(outputDir, dirname(path))
  const earlier = join(outputDir, path)
  const stats = await lstat(earlier).catch(() => undefined)
  if (stats === undefined) return sources
  if (!stats.isFile()) throw occupied(outputDir, path, 'is something else already')
  const sizes = await Promise.all([earlier, ...sources].map(async (file) => (await lstat(file)).size))
  if (Math.max(...sizes) > RECEIPTS_BYTES_MAX)
    throw occupied(outputDir, path, 'exists already with other content')
  const known = await readFile(earlier, 'utf8')
  const fresh: string[] = []
  for (const source of sources) if (!known.includes(await readFile(source, 'utf8'))) fresh.push(source)
  return [earlier, ...fresh]
}

/** A receipt has a few KiB; a file of this name may be anything. */
const RECEIPTS_BYTES_MAX = 16 * 1024 * 1024

function isReceiptFile(path: string): boolean {
  return basename(path) === RECEIPT_FILE && dirname(path) === '.'
}

async function oneSource(sources: string[], joined: string): Promise<string> {
  const [first = '', ...others] = sources
  if (others.length === 0) return first
  for (const source of sources) await append(source, joined)
  return joined
}

async function append(source: string, joined: string): Promise<void> {
  await pipeline(createReadStream(source), createWriteStream(joined, { flags: 'a' }))
}

/** True when the same file is there; false when the place is free. */
async function isThereAlready(from: string, outputDir: string, path: string): Promise<boolean> {
  await checkDirectory(outputDir, dirname(path))
  const target = join(outputDir, path)
  const stats = await lstat(target).catch(() => undefined)
  if (stats === undefined) return false
  if (stats.isFile() && (await sameContent(from, target))) return true
  throw occupied(
    outputDir,
    path,
    stats.isFile() ? 'exists already with other content' : 'is something else already',
  )
}

/** Every part of the path below the output directory is missing or really a directory: never a link. */
async function checkDirectory(outputDir: string, path: string): Promise<void> {
  let below = ''
  for (const segment of path.split('/')) {
    if (segment === '' || segment === '.') continue
    below = below === '' ? segment : `${below}/${segment}`
    const stats = await lstat(join(outputDir, below)).catch(() => undefined)
    if (stats === undefined) return
    if (!stats.isDirectory()) throw occupied(outputDir, below, 'is not a directory')
  }
}

async function sameContent(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([open(a, 'r'), open(b, 'r')])
  try {
    const [{ size }, { size: otherSize }] = await Promise.all([one.stat(), other.stat()])
    if (size !== otherSize) return false
    const left = Buffer.allocUnsafe(Math.min(1024 * 1024, Math.max(size, 1)))
    const right = Buffer.allocUnsafe(left.length)
    for (let position = 0; position < size; position += left.length) {
      const length = Math.min(left.length, size - position)
      const here = await one.read(left, 0, length, position)
      const there = await other.read(right, 0, length, position)
      if (here.bytesRead !== length || there.bytesRead !== length) return false
      if (left.compare(right, 0, length, 0, length) !== 0) return false
    }
    return true
  } finally {
    await Promise.all([one.close(), other.close()])
  }
}

function disagreement(path: string, why: string): WeirError {
  return new WeirError('results.conflict', `Cannot merge the results: "${printable(path, 200)}" ${why}`, {
    hint: 'Use --raw to get one folder per result',
    details: { path },
  })
}

function occupied(outputDir: string, path: string, why: string): WeirError {
  return new WeirError(
    'results.conflict',
    `Cannot write "${printable(path, 200)}" into "${printable(outputDir, 200)}": it ${why}`,
    { hint: 'Choose another folder with --output-dir, or remove what is in the way', details: { path } },
  )
}
