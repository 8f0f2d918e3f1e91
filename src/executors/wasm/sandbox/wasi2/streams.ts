import { readSync, writeSync } from 'node:fs'
import { CanonicalTrap, Failure } from '../component/faults.js'
import { sleepNs } from '../wasi/clocks.js'
import type { FileDescriptor } from '../wasi/descriptors.js'
import { errnoOf } from '../wasi/errno.js'
import { readBytes, writeBytes } from '../wasi/files.js'
import type { WasiState } from '../wasi/state.js'
import { rememberStderr } from '../wasi/stream-calls.js'
import type { HostInterfaces } from './host-interface.js'

/** Most bytes that one call reads or writes. */
export const CHUNK_BYTES_MAX = 1024 * 1024

/** What `wasi:io/error` is about. */
export class IoError {
  readonly text: string
  /** Of the system, if it was one. */
  readonly errno: number | undefined

  constructor(text: string, errno?: number) {
    this.text = text
    this.errno = errno
  }
}

/** What is waited for. Only clocks are: reading and writing are done in the call itself. */
export class Pollable {
  readonly #deadlineNs: bigint

  /** `deadlineNs`: of the monotonic clock; 0 is ready at once. */
  constructor(deadlineNs = 0n) {
    this.#deadlineNs = deadlineNs
  }

  get waitNs(): bigint {
    const left = this.#deadlineNs === 0n ? 0n : this.#deadlineNs - process.hrtime.bigint()
    return left > 0n ? left : 0n
  }
}

export interface InputStream {
  /** Up to so many bytes; undefined is the end. Errors of the system are thrown. */
  read(length: number): Uint8Array | undefined
}

export interface OutputStream {
  /** Writes all of it. Errors of the system are thrown. */
  write(bytes: Uint8Array): void
  flush?(): void
}

/** The end of a stream, as the program is told it. */
export function closed(): Failure {
  return new Failure({ tag: 'closed' })
}

export class InputStreamHandle {
  readonly source: InputStream

  constructor(source: InputStream) {
    this.source = source
  }
}

export class OutputStreamHandle {
  readonly sink: OutputStream

  constructor(sink: OutputStream) {
    this.sink = sink
  }
}

/** One of the sandbox's own descriptors. */
export function systemInput(fd: number): InputStream {
  return {
    read: (length) => {
      const bytes = Buffer.allocUnsafe(length)
      const count = readSync(fd, bytes, 0, length, null)
      return count === 0 ? undefined : bytes.subarray(0, count)
    },
  }
}

export function systemOutput(state: WasiState, fd: number): OutputStream {
  return {
    write: (bytes) => {
      if (fd === 2) rememberStderr(state, [bytes])
      for (let sent = 0; sent < bytes.length; ) sent += writeSync(fd, bytes, sent)
    },
  }
}

/** The program's descriptor `number`, as long as it is this very file. */
function stillOpen(state: WasiState, number: number, file: FileDescriptor): void {
  if (state.descriptors.get(number) !== file) throw closed()
}

export function fileInput(state: WasiState, number: number, start: number): InputStream {
  const file = state.descriptors.file(number)
  let offset = start
  return {
    read: (length) => {
      stillOpen(state, number, file)
      const bytes = readBytes(file, length, offset)
      offset += bytes.length
      return bytes.length === 0 ? undefined : bytes
    },
  }
}

export function fileOutput(state: WasiState, number: number, start: number | 'end'): OutputStream {
  const file = state.descriptors.file(number)
  let offset = start
  return {
    write: (bytes) => {
      stillOpen(state, number, file)
      for (let sent = 0; sent < bytes.length; ) {
        const count = writeBytes(state, file, bytes.subarray(sent), offset)
        sent += count
        if (offset !== 'end') offset += count
      }
    },
  }
}

/** `wasi:io`: errors, streams, and waiting. */
export function ioInterfaces(): HostInterfaces {
  return {
    'wasi:io/error': {
      resources: ['error'],
      functions: { '[method]error.to-debug-string': (error: IoError) => error.text },
    },
    'wasi:io/poll': {
      resources: ['pollable'],
      functions: {
        '[method]pollable.ready': (one: Pollable) => one.waitNs === 0n,
        '[method]pollable.block': (one: Pollable) => sleepNs(one.waitNs),
        poll: (all: Pollable[]) => waitForSome(all),
      },
    },
    'wasi:io/streams': {
      resources: ['input-stream', 'output-stream'],
      failureOf: streamFailure,
      functions: { ...inputFunctions(), ...outputFunctions() },
    },
  }
}

/** What went wrong with a stream: a broken pipe is its end. */
function streamFailure(error: unknown): Failure | undefined {
  const errno = errnoOf(error)
  if (errno === undefined) return undefined
  const { code } = error as { code?: string }
  if (code === 'EPIPE') return closed()
  const text = error instanceof Error ? error.message : String(error)
  return new Failure({ tag: 'last-operation-failed', value: new IoError(text, errno) })
}

function inputFunctions(): Record<string, (stream: InputStreamHandle, length: bigint) => unknown> {
  const read = ({ source }: InputStreamHandle, length: bigint): Uint8Array => {
    if (length === 0n) return new Uint8Array(0)
    const bytes = source.read(bounded(length))
    if (bytes === undefined) throw closed()
    return bytes
  }
  const skip = (stream: InputStreamHandle, length: bigint): bigint => BigInt(read(stream, length).length)
  const subscribe = (stream: InputStreamHandle): Pollable => {
    void stream
    return new Pollable()
  }
  return {
    '[method]input-stream.read': read,
    '[method]input-stream.blocking-read': read,
    '[method]input-stream.skip': skip,
    '[method]input-stream.blocking-skip': skip,
    '[method]input-stream.subscribe': subscribe,
  }
}

function outputFunctions(): Record<string, (...args: never[]) => unknown> {
  const write = ({ sink }: OutputStreamHandle, bytes: Uint8Array): void => {
    if (bytes.length > CHUNK_BYTES_MAX) throw tooMuch()
    sink.write(bytes)
  }
  const flush = ({ sink }: OutputStreamHandle): void => sink.flush?.()
  const zeroes = (stream: OutputStreamHandle, length: bigint): void => {
    if (length > BigInt(CHUNK_BYTES_MAX)) throw tooMuch()
    stream.sink.write(Buffer.alloc(Number(length)))
  }
  const splice = (stream: OutputStreamHandle, from: InputStreamHandle, length: bigint): bigint => {
    if (length === 0n) return 0n
    const bytes = from.source.read(bounded(length))
    if (bytes === undefined) throw closed()
    stream.sink.write(bytes)
    return BigInt(bytes.length)
  }
  return {
    '[method]output-stream.check-write': (stream: OutputStreamHandle) => {
      void stream
      return BigInt(CHUNK_BYTES_MAX)
    },
    '[method]output-stream.write': write,
    '[method]output-stream.blocking-write-and-flush': (stream: OutputStreamHandle, bytes: Uint8Array) => {
      write(stream, bytes)
      flush(stream)
    },
    '[method]output-stream.flush': flush,
    '[method]output-stream.blocking-flush': flush,
    '[method]output-stream.write-zeroes': zeroes,
    '[method]output-stream.blocking-write-zeroes-and-flush': (stream: OutputStreamHandle, length: bigint) => {
      zeroes(stream, length)
      flush(stream)
    },
    '[method]output-stream.splice': splice,
    '[method]output-stream.blocking-splice': splice,
    '[method]output-stream.subscribe': (stream: OutputStreamHandle) => {
      void stream
      return new Pollable()
    },
  }
}

/** The positions of those that are ready, after waiting for the first of them. */
function waitForSome(all: readonly Pollable[]): number[] {
  if (all.length === 0) throw new CanonicalTrap('poll is asked to wait for nothing')
  const ready = (): number[] => all.flatMap(({ waitNs }, index) => (waitNs === 0n ? [index] : []))
  for (let found = ready(); ; found = ready()) {
    if (found.length > 0) return found
    sleepNs(all.reduce((least, { waitNs }) => (waitNs < least ? waitNs : least), all[0]?.waitNs ?? 0n))
  }
}

function tooMuch(): CanonicalTrap {
  return new CanonicalTrap('more is written to a stream than check-write allows')
}

function bounded(length: bigint): number {
  return length > BigInt(CHUNK_BYTES_MAX) ? CHUNK_BYTES_MAX : Number(length)
}
