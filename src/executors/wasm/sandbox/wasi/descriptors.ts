import { closeSync } from 'node:fs'
import { WasiError } from './errno.js'
import type { Place } from './job-tree.js'

/** stdin, stdout and stderr. */
export interface StreamDescriptor {
  kind: 'stream'
  fd: number
  rights: bigint
  inheriting: bigint
  flags: number
}

/** Shared by all descriptors of one file, so that sizes are counted once. */
export interface OpenFile {
  key: string
  size: number
  references: number
  /** True when its last name is gone; its bytes are given back at the last close. */
  isUnlinked: boolean
}

export interface FileDescriptor {
  kind: 'file'
  fd: number
  rights: bigint
  inheriting: bigint
  flags: number
  offset: number
  canRead: boolean
  canWrite: boolean
  file: OpenFile
}

export interface DirectoryDescriptor {
  kind: 'directory'
  place: Place
  rights: bigint
  inheriting: bigint
  flags: number
  /** The path it was preopened as. */
  preopen?: string
  /** Names as they were when the listing began. */
  listing?: string[]
}

export type Descriptor = StreamDescriptor | FileDescriptor | DirectoryDescriptor

/** The program's file descriptors: lowest free number first, as in POSIX. */
export class Descriptors {
  readonly #max: number
  readonly #table = new Map<number, Descriptor>()
  /** No number below this one is free. */
  #lowestFree = 0

  constructor(max: number) {
    this.#max = max
  }

  /** EMFILE when the program has as many open as it may; call before anything is opened for real. */
  checkRoom(): void {
    if (this.#table.size >= this.#max) throw new WasiError('MFILE')
  }

  add(descriptor: Descriptor): number {
    this.checkRoom()
    let number = this.#lowestFree
    while (this.#table.has(number)) number++
    this.#table.set(number, descriptor)
    this.#lowestFree = number + 1
    return number
  }

  get(number: number): Descriptor {
    const found = this.#table.get(number)
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

  /** A directory with the rights; ENOTDIR for others, ENOTCAPABLE without the rights. */
  directory(number: number, rights: bigint): DirectoryDescriptor {
    const found = this.get(number)
    if (found.kind !== 'directory') throw new WasiError('NOTDIR')
    if ((found.rights & rights) !== rights) throw new WasiError('NOTCAPABLE')
    return found
  }

  remove(number: number): Descriptor {
    const found = this.get(number)
    this.#table.delete(number)
    this.#lowestFree = Math.min(this.#lowestFree, number)
    if (found.kind === 'file') closeSync(found.fd)
    return found
  }

  /** `to` must be open; returns what was there, closed. */
  renumber(from: number, to: number): Descriptor | undefined {
    const moved = this.get(from)
    this.get(to)
    if (from === to) return undefined
    const closed = this.remove(to)
    this.#table.delete(from)
    this.#table.set(to, moved)
    this.#lowestFree = Math.min(this.#lowestFree, from)
    return closed
  }

  directories(): DirectoryDescriptor[] {
    return [...this.#table.values()].filter((one) => one.kind === 'directory')
  }
}
