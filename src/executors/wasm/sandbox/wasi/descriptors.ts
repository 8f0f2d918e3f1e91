import { closeSync } from 'node:fs'
import { ALL_RIGHTS, RIGHTS } from './abi.js'
import { WasiError } from './errno.js'
import type { Place } from './job-tree.js'

/** What a descriptor may do. Rights only ever shrink. */
export interface DescriptorRights {
  /** What the descriptor was opened for, as `fd_fdstat_get` tells it. */
  rights: number
  /** What may be opened through it, as `fd_fdstat_get` tells it. */
  inheriting: number
  /** Rights that were given up: what needs one of them is ENOTCAPABLE. */
  denied: number
  /** Rights that nothing opened through it can have. */
  deniedBelow: number
}

/** stdin, stdout and stderr. */
export interface StreamDescriptor extends DescriptorRights {
  kind: 'stream'
  fd: number
  flags: number
  canRead: boolean
  canWrite: boolean
}

/** Shared by all descriptors of one file, so that sizes are counted once. */
export interface OpenFile {
  key: string
  size: number
  references: number
  /** True when its last name is gone; its bytes are given back at the last close. */
  isUnlinked: boolean
}

export interface FileDescriptor extends DescriptorRights {
  kind: 'file'
  fd: number
  flags: number
  offset: number
  canRead: boolean
  canWrite: boolean
  /** True when the system's descriptor is open for writing, with which the size can be changed. */
  canResize: boolean
  file: OpenFile
}

export interface DirectoryDescriptor extends DescriptorRights {
  kind: 'directory'
  place: Place
  flags: number
  /** The path it was preopened as. */
  preopen?: string
  /** Names as they were when the listing began. */
  listing?: string[]
}

export type Descriptor = StreamDescriptor | FileDescriptor | DirectoryDescriptor

/**
 * ENOTCAPABLE when the right was given up.
 *
 * A right that was only never asked for is not missed: compilers and libraries of today ask for reading and writing and
 * expect the rest to work, and engines that have dropped rights let it. Whoever limits a descriptor says so.
 */
export function needs(descriptor: DescriptorRights, right: number): void {
  if ((descriptor.denied & right) !== 0) throw new WasiError('NOTCAPABLE')
}

/** What `fd_fdstat_set_rights` does: from now on exactly these; ENOTCAPABLE when one of them was not there before. */
export function shrinkRights(descriptor: Descriptor, base: bigint, inheriting: bigint): void {
  const asked = BigInt.asUintN(64, base)
  const passed = BigInt.asUintN(64, inheriting)
  // Compared as they came: a bit without a meaning is one that nobody has.
  if ((asked & ~BigInt(descriptor.rights)) !== 0n || (passed & ~BigInt(descriptor.inheriting)) !== 0n)
    throw new WasiError('NOTCAPABLE')
  // A half that stays as it is has not been made use of.
  if (Number(asked) !== descriptor.rights) descriptor.denied = ALL_RIGHTS & ~Number(asked)
  if (Number(passed) !== descriptor.inheriting) descriptor.deniedBelow = ALL_RIGHTS & ~Number(passed)
  descriptor.rights = Number(asked)
  descriptor.inheriting = Number(passed)
  if (descriptor.kind === 'directory') return
  descriptor.canRead &&= (descriptor.rights & RIGHTS.FD_READ) !== 0
  descriptor.canWrite &&= (descriptor.rights & RIGHTS.FD_WRITE) !== 0
}

/** The program's file descriptors: lowest free number first, as in POSIX. */
export class Descriptors {
  readonly #max: number
  readonly #table: (Descriptor | undefined)[] = []
  #count = 0
  /** No number below this one is free. */
  #lowestFree = 0

  constructor(max: number) {
    this.#max = max
  }

  /** EMFILE when the program has as many open as it may; call before anything is opened for real. */
  checkRoom(): void {
    if (this.#count >= this.#max) throw new WasiError('MFILE')
  }

  add(descriptor: Descriptor): number {
    this.checkRoom()
    let number = this.#lowestFree
    while (this.#table[number] !== undefined) number++
    this.#table[number] = descriptor
    this.#count++
    this.#lowestFree = number + 1
    return number
  }

  get(number: number): Descriptor {
    const found = this.#table[number]
    if (found === undefined) throw new WasiError('BADF')
    return found
  }

  /** A file; EBADF for directories, ESPIPE for streams. */
  file(number: number): FileDescriptor {
    const found = this.get(number)
    if (found.kind === 'directory') throw new WasiError('BADF')
    if (found.kind === 'stream') throw new WasiError('SPIPE')
    return found
  }

  /** A directory; ENOTDIR for others, ENOTCAPABLE when the right was given up. */
  directory(number: number, right: number): DirectoryDescriptor {
    const found = this.get(number)
    if (found.kind !== 'directory') throw new WasiError('NOTDIR')
    needs(found, right)
    return found
  }

  remove(number: number): Descriptor {
    const found = this.get(number)
    this.#take(number)
    if (found.kind === 'file') closeSync(found.fd)
    return found
  }

  /**
   * `to` must be open: a program that could choose any number would race with one that is handed out meanwhile. Returns
   * what was there, closed.
   */
  renumber(from: number, to: number): Descriptor | undefined {
    const moved = this.get(from)
    this.get(to)
    if (from === to) return undefined
    const closed = this.remove(to)
    this.#take(from)
    this.#table[to] = moved
    this.#count++
    return closed
  }

  directories(): DirectoryDescriptor[] {
    return this.#table.filter((one) => one?.kind === 'directory')
  }

  /** The numbers and names of the directories that were open from the start, as far as they still are. */
  preopens(): [number: number, name: string][] {
    return this.#table.flatMap((one, number): [number, string][] =>
      one?.kind === 'directory' && one.preopen !== undefined ? [[number, one.preopen]] : [],
    )
  }

  #take(number: number): void {
    this.#table[number] = undefined
    this.#count--
    this.#lowestFree = Math.min(this.#lowestFree, number)
  }
}
