import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

const ENTRIES_MAX = 64
const DEPTH_MAX = 8

/**
 * Copies a small read-only input into a slot. Links are copied as links, with their text; pipes and devices are left
 * out. Returns false, with an incomplete copy, when it is larger than `bytesMax` or has many files.
 *
 * Every step goes through an open directory, so a path that somebody swaps while it is read cannot lead elsewhere.
 */
export function copySmall(from: string, to: string, bytesMax: number): boolean {
  const budget = { bytes: bytesMax, entries: ENTRIES_MAX }
  const fd = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    return copyOpened(fd, to, budget, 0)
  } finally {
    closeSync(fd)
  }
}

interface Budget {
  bytes: number
  entries: number
}

function copyOpened(fd: number, to: string, budget: Budget, depth: number): boolean {
  const stat = fstatSync(fd)
  if (--budget.entries < 0) return false
  if (stat.isFile()) {
    budget.bytes -= stat.size
    if (budget.bytes < 0) return false
    writeFileSync(to, readAll(fd, stat.size), { mode: 0o444 | (stat.mode & 0o111), flag: 'wx' })
    utimesSync(to, stat.atime, stat.mtime)
    return true
  }
  if (!stat.isDirectory()) return true
  if (depth >= DEPTH_MAX) return false
  mkdirSync(to, { mode: 0o700 })
  const here = `/proc/self/fd/${fd}`
  for (const name of readdirSync(here)) {
    // A name that is not UTF-8 cannot be looked up by its decoded form; such inputs are bound, not copied.
    if (name.includes('\ufffd')) return false
    if (!copyEntry(join(here, name), join(to, name), budget, depth)) return false
  }
  utimesSync(to, stat.atime, stat.mtime)
  return true
}

function copyEntry(from: string, to: string, budget: Budget, depth: number): boolean {
  const stat = lstatSync(from)
  if (stat.isSymbolicLink()) {
    if (--budget.entries < 0) return false
    symlinkSync(readlinkSync(from), to)
    return true
  }
  // Pipes and devices are not even opened.
  if (!stat.isFile() && !stat.isDirectory()) return true
  const fd = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    return copyOpened(fd, to, budget, depth + 1)
  } finally {
    closeSync(fd)
  }
}

/** A guess without copying, so that no slot is wasted on an input that is too large for it. */
export function looksSmall(path: string, bytesMax: number): boolean {
  const budget = { bytes: bytesMax, entries: ENTRIES_MAX }
  const visit = (at: string, depth: number): boolean => {
    // A name that is not UTF-8 is not found by its decoded form.
    const stat = lstatSync(at, { throwIfNoEntry: false })
    if (stat === undefined || --budget.entries < 0 || depth > DEPTH_MAX) return false
    if (stat.isFile()) budget.bytes -= stat.size
    if (budget.bytes < 0) return false
    return !stat.isDirectory() || readdirSync(at).every((name) => visit(join(at, name), depth + 1))
  }
  return visit(path, 0)
}

/** At most `size` bytes: a file that grows meanwhile does not matter. */
function readAll(fd: number, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  let have = 0
  while (have < size) {
    const count = readSync(fd, bytes, have, size - have, null)
    if (count === 0) break
    have += count
  }
  return bytes.subarray(0, have)
}
