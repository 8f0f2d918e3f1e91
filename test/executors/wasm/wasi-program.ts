import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { SandboxMount, SandboxPreopen } from '../../../src/executors/wasm/sandbox/job.js'
import { ALL_RIGHTS, DIRECTORY_RIGHTS, FILE_RIGHTS } from '../../../src/executors/wasm/sandbox/wasi/abi.js'
import { ERRNO } from '../../../src/executors/wasm/sandbox/wasi/errno.js'
import {
  GuestMemory,
  type WasiState,
  createWasiState,
  wasiFunctions,
} from '../../../src/executors/wasm/sandbox/wasi/index.js'
import { wasmApi } from '../../../src/executors/wasm/sandbox/web-assembly.js'

export interface WasiProgramOptions {
  args?: string[]
  env?: Record<string, string>
  /** Directories of the program, each preopened under its own path. Absent: `work` alone, writable, preopened as `work`. */
  mounts?: { target: string; writable: boolean }[]
  /** Absent: one for each mount. */
  preopens?: SandboxPreopen[]
  diskBytes?: number
  openFilesMax?: number
  pages?: number
}

export interface OpenOptions {
  fd?: number
  follow?: boolean
  oflags?: number
  rights?: number
  inheriting?: number
  fdflags?: number
}

/** Where in the program's memory things are put: two paths, a list of buffers, their bytes, and results. */
const [PATH_AT, OTHER_AT, IOVS_AT, BYTES_AT, OUT_AT] = [1_024, 9_216, 20_480, 32_768, 512]

/** How the program ended; thrown through the host, as the real end never returns. */
export class Ended extends Error {
  readonly how: string
  readonly value: number

  constructor(how: string, value: number) {
    super(`${how} ${value}`)
    this.how = how
    this.value = value
  }
}

/**
 * The WASI host on directories of this machine, with calls made as a program makes them: numbers and pointers.
 *
 * Calls answer with the name of the error, or `ok`.
 */
export class WasiProgram {
  readonly base = mkdtempSync(join(tmpdir(), 'weir-wasi-'))
  readonly work = join(this.base, 'work')
  /** Directories on this machine by the targets of mounts. */
  readonly dirs: Record<string, string> = {}
  readonly memory: InstanceType<typeof wasmApi.Memory>
  readonly state: WasiState
  readonly #functions: Record<string, (...args: unknown[]) => unknown>

  constructor(options: WasiProgramOptions = {}) {
    mkdirSync(this.work)
    const mounts = (options.mounts ?? []).map(({ target, writable }, index): SandboxMount => {
      const source = join(this.base, `mount-${index}`)
      mkdirSync(source)
      this.dirs[target] = source
      return { target, source, kind: 'directory', writable }
    })
    if (options.mounts === undefined)
      mounts.push({ target: 'work', source: this.work, kind: 'directory', writable: true })
    this.memory = new wasmApi.Memory({ initial: options.pages ?? 4 })
    this.state = createWasiState(
      {
        kind: 'run',
        module: '',
        imports: [],
        entryPoint: '_start',
        args: options.args ?? [],
        env: options.env ?? {},
        mounts,
        preopens: options.preopens ?? mounts.map(({ target }) => ({ name: target, target })),
        memoryPages: 4,
        diskBytes: options.diskBytes ?? 64 << 20,
        filesMax: 1_000,
        openFilesMax: options.openFilesMax ?? 64,
        network: false,
        optimise: false,
      },
      (how, value) => {
        throw new Ended(how, value)
      },
    )
    const memory = new GuestMemory()
    memory.attach(this.memory)
    this.#functions = wasiFunctions(this.state, memory) as never
  }

  get view(): DataView {
    return new DataView(this.memory.buffer)
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.memory.buffer)
  }

  /** Any function with its raw arguments. */
  call(name: string, ...args: (number | bigint)[]): string {
    const answer = this.#functions[name]?.(...args)
    const found = Object.entries(ERRNO).find(([, number]) => number === answer)
    if (found === undefined) throw new Error(`${name} answered ${String(answer)}`)
    return found[0] === 'SUCCESS' ? 'ok' : found[0]
  }

  /** Puts text, one byte per character, into the memory: pointer and length. */
  text(text: string, at = PATH_AT): [pointer: number, length: number] {
    const bytes = Buffer.from(text, 'latin1')
    this.bytes.set(bytes, at)
    return [at, bytes.length]
  }

  /** The number of the descriptor, or the name of the error. */
  open(path: string, options: OpenOptions = {}): number | string {
    const {
      fd = 3,
      follow = false,
      oflags = 0,
      rights = FILE_RIGHTS,
      inheriting = ALL_RIGHTS,
      fdflags = 0,
    } = options
    const [at, length] = this.text(path)
    const passed = [oflags, BigInt(rights), BigInt(inheriting), fdflags] as const
    const answer = this.call('path_open', fd, follow ? 1 : 0, at, length, ...passed, OUT_AT)
    return answer === 'ok' ? this.view.getUint32(OUT_AT, true) : answer
  }

  openDirectory(path: string, options: OpenOptions = {}): number | string {
    return this.open(path, { oflags: 2, rights: DIRECTORY_RIGHTS, ...options })
  }

  /** A call whose only variable part is a path below a directory. */
  at(name: string, path: string, fd = 3): string {
    return this.call(name, fd, ...this.text(path))
  }

  rename(from: string, to: string, fromFd = 3, toFd = 3): string {
    return this.call('path_rename', fromFd, ...this.text(from), toFd, ...this.text(to, OTHER_AT))
  }

  link(from: string, to: string, flags = 0, fromFd = 3, toFd = 3): string {
    return this.call('path_link', fromFd, flags, ...this.text(from), toFd, ...this.text(to, OTHER_AT))
  }

  symlink(target: string, path: string, fd = 3): string {
    return this.call('path_symlink', ...this.text(target, OTHER_AT), fd, ...this.text(path))
  }

  readlink(path: string, room = 4_096, fd = 3): string {
    const answer = this.call('path_readlink', fd, ...this.text(path), BYTES_AT, room, OUT_AT)
    return answer === 'ok' ? `ok ${this.told(this.view.getUint32(OUT_AT, true))}` : answer
  }

  /** What a path leads to. */
  stat(path: string, follow = false, fd = 3): Filestat | string {
    const answer = this.call('path_filestat_get', fd, follow ? 1 : 0, ...this.text(path), OUT_AT)
    return answer === 'ok' ? this.#filestat() : answer
  }

  fdStat(fd: number): Filestat | string {
    const answer = this.call('fd_filestat_get', fd, OUT_AT)
    return answer === 'ok' ? this.#filestat() : answer
  }

  /** Type, flags and rights of a descriptor. */
  fdstat(fd: number): Fdstat | string {
    const answer = this.call('fd_fdstat_get', fd, OUT_AT)
    if (answer !== 'ok') return answer
    const { view } = this
    return {
      type: view.getUint8(OUT_AT),
      flags: view.getUint16(OUT_AT + 2, true),
      rights: Number(view.getBigUint64(OUT_AT + 8, true)),
      inheriting: Number(view.getBigUint64(OUT_AT + 16, true)),
    }
  }

  write(fd: number, ...texts: string[]): number | string {
    return this.#counted('fd_write', fd, this.#gather(texts))
  }

  pwrite(fd: number, text: string, offset: bigint): number | string {
    return this.#counted('fd_pwrite', fd, this.#gather([text]), offset)
  }

  /** The bytes as text, or the name of the error. */
  read(fd: number, ...rooms: number[]): { text: string } | string {
    const answer = this.#counted('fd_read', fd, this.#scatter(rooms))
    return typeof answer === 'string' ? answer : { text: this.told(answer) }
  }

  pread(fd: number, room: number, offset: bigint): { text: string } | string {
    const answer = this.#counted('fd_pread', fd, this.#scatter([room]), offset)
    return typeof answer === 'string' ? answer : { text: this.told(answer) }
  }

  seek(fd: number, delta: bigint, whence: number): bigint | string {
    const answer = this.call('fd_seek', fd, delta, whence, OUT_AT)
    return answer === 'ok' ? this.view.getBigUint64(OUT_AT, true) : answer
  }

  tell(fd: number): bigint | string {
    const answer = this.call('fd_tell', fd, OUT_AT)
    return answer === 'ok' ? this.view.getBigUint64(OUT_AT, true) : answer
  }

  /** One call: raw bytes of the entries, or the name of the error. */
  readdirRaw(fd: number, room: number, cookie = 0n): Buffer | string {
    const answer = this.call('fd_readdir', fd, BYTES_AT, room, cookie, OUT_AT)
    if (answer !== 'ok') return answer
    return Buffer.from(this.bytes.slice(BYTES_AT, BYTES_AT + this.view.getUint32(OUT_AT, true)))
  }

  /** Whole entries of one call. */
  readdir(fd: number, room = 8_192, cookie = 0n): Entry[] {
    const raw = this.readdirRaw(fd, room, cookie)
    if (typeof raw === 'string') throw new Error(`fd_readdir answered ${raw}`)
    const entries: Entry[] = []
    for (let at = 0; at + 24 <= raw.length; ) {
      const length = raw.readUInt32LE(at + 16)
      if (at + 24 + length > raw.length) break
      entries.push({
        next: raw.readBigUInt64LE(at),
        ino: raw.readBigUInt64LE(at + 8),
        type: raw.readUInt8(at + 20),
        name: raw.toString('latin1', at + 24, at + 24 + length),
      })
      at += 24 + length
    }
    return entries
  }

  /** The first bytes of where reads and lists put theirs. */
  told(length: number): string {
    return Buffer.from(this.bytes.subarray(BYTES_AT, BYTES_AT + length)).toString('latin1')
  }

  remove(): void {
    for (let fd = 0; fd < 256; fd++) this.#functions['fd_close']?.(fd)
    rmSync(this.base, { recursive: true, force: true })
  }

  #counted(name: string, fd: number, vectors: number, offset?: bigint): number | string {
    const rest = offset === undefined ? [OUT_AT] : [offset, OUT_AT]
    const answer = this.call(name, fd, IOVS_AT, vectors, ...rest)
    return answer === 'ok' ? this.view.getUint32(OUT_AT, true) : answer
  }

  #gather(texts: string[]): number {
    let at = BYTES_AT
    texts.forEach((text, index) => {
      const [pointer, length] = this.text(text, at)
      this.#vector(index, pointer, length)
      at += length
    })
    return texts.length
  }

  #scatter(rooms: number[]): number {
    let at = BYTES_AT
    rooms.forEach((room, index) => {
      this.#vector(index, at, room)
      at += room
    })
    return rooms.length
  }

  #vector(index: number, pointer: number, length: number): void {
    this.view.setUint32(IOVS_AT + index * 8, pointer, true)
    this.view.setUint32(IOVS_AT + index * 8 + 4, length, true)
  }

  #filestat(): Filestat {
    const { view } = this
    const [dev, ino, nlink, size, atim, mtim] = [0, 8, 24, 32, 40, 48].map((at) =>
      view.getBigUint64(OUT_AT + at, true),
    ) as [bigint, bigint, bigint, bigint, bigint, bigint]
    return { dev, ino, type: view.getUint8(OUT_AT + 16), nlink, size, atim, mtim }
  }
}

export interface Filestat {
  dev: bigint
  ino: bigint
  type: number
  nlink: bigint
  size: bigint
  atim: bigint
  mtim: bigint
}

export interface Fdstat {
  type: number
  flags: number
  rights: number
  inheriting: number
}

export interface Entry {
  next: bigint
  ino: bigint
  type: number
  name: string
}
