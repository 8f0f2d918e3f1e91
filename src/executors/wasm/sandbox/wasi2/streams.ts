import { readSync, writeSync } from 'node:fs'
import { CanonicalTrap, Failure } from '../component/faults.js'
import { sleepNs } from '../wasi/clocks.js'
import type { FileDescriptor } from '../wasi/descriptors.js'
import { errnoOf } from '../wasi/errno.js'
import { readBytes, writeBytes } from '../wasi/files.js'
import type { WasiState } from '../wasi/state.js'
import { rememberStderr } from '../wasi/stream-calls.js'
import type { HttpClient } from '../http/http-client.js'
import { HttpFailure } from '../http/http-failure.js'
import type { HostFunction, HostInterfaces } from './host-interface.js'

/** Most bytes that one call reads or writes. */
export const CHUNK_BYTES_MAX = 1024 * 1024

/** What `wasi:io/error` is about. */
export class IoError {
  readonly text: string
  /** Of the system, if it was one. */
  readonly errno: number | undefined
  /** Of HTTP, if it was that. */
  readonly http: HttpFailure | undefined

  constructor(text: string, errno?: number, http?: HttpFailure) {
    this.text = text
    this.errno = errno
    this.http = http
  }
}

/** What is waited for: a time, or what the gateway says. Files and standard streams are always ready. */
export class Pollable {
  readonly #deadlineNs: bigint | undefined
  readonly #isReady: (() => boolean) | undefined

  /** `deadlineNs`: of the monotonic clock. Without either it is ready at once; with both, as soon as one is. */
  constructor(deadlineNs?: bigint, isReady?: () => boolean) {
    this.#deadlineNs = deadlineNs
    this.#isReady = isReady
  }

  get isReady(): boolean {
    if (this.#deadlineNs === undefined && this.#isReady === undefined) return true
    return this.waitNs === 0n || this.#isReady?.() === true
  }

  /** The same, after looking whether the gateway has said something. */
  isReadyNow(http: HttpClient): boolean {
    return this.isReady || (this.#isReady !== undefined && hasArrived(http, () => this.isReady))
  }

  /** How long it takes at most; undefined when nobody knows. */
  get waitNs(): bigint | undefined {
    if (this.#deadlineNs === undefined) return undefined
    const left = this.#deadlineNs - process.hrtime.bigint()
    return left > 0n ? left : 0n
  }

  /** Whether the gateway can make it ready. */
  get needsGateway(): boolean {
    return this.#isReady !== undefined
  }
}

export interface InputStream {
  /** Up to so many bytes; undefined is the end. Errors of the system are thrown. */
  read(length: number): Uint8Array | undefined
  /** False when reading would wait. Absent: reading is done in the call, however long it takes. */
  isReady?(): boolean
}

export interface OutputStream {
  /** Writes all of it. Errors of the system are thrown. */
  write(bytes: Uint8Array): void
  /** Bytes that can be written without waiting, 0 when it must be waited for. Absent: writing is done in the call. */
  room?(): number
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
export function ioInterfaces(http: HttpClient): HostInterfaces {
  return {
    'wasi:io/error': {
      resources: ['error'],
      functions: { '[method]error.to-debug-string': (error: IoError) => error.text },
    },
    'wasi:io/poll': {
      resources: ['pollable'],
      functions: {
        '[method]pollable.ready': (one: Pollable) => one.isReadyNow(http),
        '[method]pollable.block': (one: Pollable) => void waitForSome([one], http),
        poll: (all: Pollable[]) => waitForSome(all, http),
      },
    },
    'wasi:io/streams': {
      resources: ['input-stream', 'output-stream'],
      failureOf: streamFailure,
      functions: { ...inputFunctions(http), ...outputFunctions(http) },
    },
  }
}

/** What went wrong with a stream: a broken pipe is its end. */
function streamFailure(error: unknown): Failure | undefined {
  if (error instanceof HttpFailure)
    return new Failure({
      tag: 'last-operation-failed',
      value: new IoError(`HTTP: ${error.problem}`, undefined, error),
    })
  const errno = errnoOf(error)
  if (errno === undefined) return undefined
  const { code } = error as { code?: string }
  if (code === 'EPIPE') return closed()
  const text = error instanceof Error ? error.message : String(error)
  return new Failure({ tag: 'last-operation-failed', value: new IoError(text, errno) })
}

function inputFunctions(http: HttpClient): Record<string, HostFunction> {
  const blockingRead = ({ source }: InputStreamHandle, length: bigint): Uint8Array => {
    if (length === 0n) return new Uint8Array(0)
    const bytes = source.read(bounded(length))
    if (bytes === undefined) throw closed()
    return bytes
  }
  const read = (stream: InputStreamHandle, length: bigint): Uint8Array =>
    isReadable(stream.source, http) ? blockingRead(stream, length) : new Uint8Array(0)
  return {
    '[method]input-stream.read': read,
    '[method]input-stream.blocking-read': blockingRead,
    '[method]input-stream.skip': (stream: InputStreamHandle, length: bigint) =>
      BigInt(read(stream, length).length),
    '[method]input-stream.blocking-skip': (stream: InputStreamHandle, length: bigint) =>
      BigInt(blockingRead(stream, length).length),
    '[method]input-stream.subscribe': ({ source }: InputStreamHandle) =>
      new Pollable(undefined, source.isReady && (() => source.isReady?.() === true)),
  }
}

function outputFunctions(http: HttpClient): Record<string, HostFunction> {
  const room = ({ sink }: OutputStreamHandle): number => {
    if (sink.room?.() === 0) hasArrived(http, () => isWritable(sink))
    return Math.min(CHUNK_BYTES_MAX, sink.room?.() ?? CHUNK_BYTES_MAX)
  }
  const write = (stream: OutputStreamHandle, bytes: Uint8Array): void => {
    if (bytes.length > room(stream)) throw tooMuch()
    stream.sink.write(bytes)
  }
  const blockingWrite = ({ sink }: OutputStreamHandle, bytes: Uint8Array): void => {
    if (bytes.length > CHUNK_BYTES_MAX) throw tooMuch()
    sink.write(bytes)
  }
  // Everything is written in the call that writes it.
  const flush = (stream: OutputStreamHandle): void => void stream
  const zeroes = (length: bigint): Uint8Array => {
    if (length > BigInt(CHUNK_BYTES_MAX)) throw tooMuch()
    return Buffer.alloc(Number(length))
  }
  const splice = (
    stream: OutputStreamHandle,
    { source }: InputStreamHandle,
    length: bigint,
    most: number,
  ): bigint => {
    if (length === 0n || most === 0) return 0n
    const bytes = source.read(Math.min(most, bounded(length)))
    if (bytes === undefined) throw closed()
    stream.sink.write(bytes)
    return BigInt(bytes.length)
  }
  return {
    '[method]output-stream.check-write': (stream: OutputStreamHandle) => BigInt(room(stream)),
    '[method]output-stream.write': write,
    '[method]output-stream.blocking-write-and-flush': blockingWrite,
    '[method]output-stream.flush': flush,
    '[method]output-stream.blocking-flush': flush,
    '[method]output-stream.write-zeroes': (stream: OutputStreamHandle, length: bigint) =>
      write(stream, zeroes(length)),
    '[method]output-stream.blocking-write-zeroes-and-flush': (stream: OutputStreamHandle, length: bigint) =>
      blockingWrite(stream, zeroes(length)),
    '[method]output-stream.splice': (stream: OutputStreamHandle, from: InputStreamHandle, length: bigint) =>
      isReadable(from.source, http) ? splice(stream, from, length, room(stream)) : 0n,
    '[method]output-stream.blocking-splice': (
      stream: OutputStreamHandle,
      from: InputStreamHandle,
      length: bigint,
    ) => splice(stream, from, length, CHUNK_BYTES_MAX),
    '[method]output-stream.subscribe': ({ sink }: OutputStreamHandle) =>
      new Pollable(undefined, sink.room && (() => isWritable(sink))),
  }
}

/** The positions of those that are ready, after waiting for the first of them. */
function waitForSome(all: readonly Pollable[], http: HttpClient): number[] {
  if (all.length === 0) throw new CanonicalTrap('poll is asked to wait for nothing')
  const ready = (): number[] => all.flatMap((one, index) => (one.isReady ? [index] : []))
  for (let found = ready(); ; found = ready()) {
    if (found.length > 0) return found
    const waits = all.flatMap(({ waitNs }) => (waitNs === undefined ? [] : [waitNs]))
    const least = waits.reduce<bigint | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined)
    if (!all.some(({ needsGateway }) => needsGateway)) sleepNs(least ?? 0n)
    // Without the gateway there is nothing to wait for: whoever looks is told that it is gone.
    else if (!waitForGateway(all, http, least))
      return all.flatMap((one, index) => (one.needsGateway ? [index] : []))
  }
}

/** False when the gateway is gone. */
function waitForGateway(all: readonly Pollable[], http: HttpClient, waitNs: bigint | undefined): boolean {
  try {
    const ms = waitNs === undefined ? undefined : Math.ceil(Number(waitNs) / 1e6)
    http.waitUntil(() => all.some(({ isReady }) => isReady), ms)
    return true
  } catch (error) {
    if (error instanceof HttpFailure) return false
    throw error
  }
}

function isReadable(source: InputStream, http: HttpClient): boolean {
  return (
    source.isReady === undefined || source.isReady() || hasArrived(http, () => source.isReady?.() === true)
  )
}

/** Takes what the gateway has said meanwhile, without waiting for more; true when that was enough, or when it is gone. */
function hasArrived(http: HttpClient, isEnough: () => boolean): boolean {
  try {
    return http.waitUntil(isEnough, 0)
  } catch (error) {
    if (error instanceof HttpFailure) return true
    throw error
  }
}

/** Also when it is closed, which the next call tells. */
function isWritable(sink: OutputStream): boolean {
  try {
    return sink.room?.() !== 0
  } catch {
    return true
  }
}

function tooMuch(): CanonicalTrap {
  return new CanonicalTrap('more is written to a stream than check-write allows')
}

function bounded(length: bigint): number {
  return length > BigInt(CHUNK_BYTES_MAX) ? CHUNK_BYTES_MAX : Number(length)
}
