import type { Socket } from 'node:net'
import type { IpAddress } from '../../model/index.js'
import type { EgressRequest } from '../policy/decide.js'
import type { TlsSession } from './origin-tls.js'
import { SocketReader } from './socket-stream.js'

/** Kept per execution, and by the gateway in all. */
const KEPT_MAX = 64
const KEPT_TOTAL_MAX = 1_024

/** Shorter than servers keep an unused connection, so that hardly a request meets one that is being closed. */
export const KEPT_MS = 2_000

/** Who resumes a session shows no certificate, so whoever had a valid one for this host has to show one again so often. */
export const SESSION_MS = 5 * 60_000
/** It holds what the host says and its certificate; a longer one is not kept. */
const SESSION_BYTES_MAX = 16 * 1024

/** How many connections all executions together keep. */
export interface KeptCount {
  connections: number
}

/** A connection to an origin, and what reads from it. */
export interface OriginConnection {
  readonly socket: Socket
  readonly reader: SocketReader
  /** The judged address that it goes to. */
  readonly address: IpAddress
  /** It carried another request before. */
  readonly isReused: boolean
}

/** The clock on the wall, for certificates, and one that nobody sets. Milliseconds. */
export interface PoolClocks {
  readonly now: () => number
  readonly monotonic: () => number
}

/** What a session goes back to, through however many that were resumed. */
interface Certificate {
  /** By the monotonic clock. */
  readonly shownAtMs: number
  /** When it, or one of those above it, ceases to be valid. */
  readonly validUntilMs: number
}

interface Session extends Certificate {
  readonly bytes: Buffer
}

interface Kept extends OriginConnection {
  /** Whom it speaks with, and whether over TLS. */
  readonly whom: string
  /** Rules were replaced so often when it was made. */
  readonly epoch: number
  readonly timer: NodeJS.Timeout
  isIdle: boolean
  isReused: boolean
}

/**
 * Connections of one execution to origins, kept for a moment for its next request to the same host and port. One with TLS and
 * one without never stand for each other.
 * One that says anything between two answers, or closes, is dropped at once. It is used again only if its address is among
 * those that the lookup of the new request found and that were judged for it. When rules change all are closed.
 *
 * Beside them, for a host and port, the newest TLS session of a connection whose certificate was found valid: with it the next
 * handshake is shorter. It opens no connection, and nobody but this execution uses it. A handshake that resumes one shows no
 * certificate, so a session lasts {@link SESSION_MS} after one was shown, however often it was resumed since, and no longer
 * than that certificate.
 */
export class OriginPool {
  readonly #idle: Kept[] = []
  readonly #sessions = new Map<string, Session>()
  readonly #count: KeptCount
  readonly #clocks: PoolClocks
  #epoch = 0

  constructor(count: KeptCount, clocks: PoolClocks) {
    this.#count = count
    this.#clocks = clocks
  }

  /** Makes a connection one that can be kept. It belongs to the caller until {@link keep}. */
  adopt(request: EgressRequest, socket: Socket, address: IpAddress): OriginConnection {
    const reader = new SocketReader(socket)
    const drop = () => {
      if (kept.isIdle) this.#drop(kept)
    }
    const timer = setTimeout(drop, KEPT_MS).unref()
    const kept: Kept = {
      socket,
      reader,
      address,
      whom: whomOf(request),
      epoch: this.#epoch,
      timer,
      isIdle: false,
      isReused: false,
    }
    socket.on('error', () => {})
    socket.on('data', drop)
    socket.on('end', drop)
    socket.on('close', () => {
      clearTimeout(timer)
      drop()
    })
    return kept
  }

  /** The newest that may be used for these answers, or undefined. It belongs to the caller until {@link keep}. */
  take(request: EgressRequest, addresses: readonly IpAddress[]): OriginConnection | undefined {
    const whom = whomOf(request)
    for (let index = this.#idle.length - 1; index >= 0; index--) {
      const kept = this.#idle[index]
      if (kept === undefined || kept.whom !== whom) continue
      const isJudged = addresses.some((one) => one.text === kept.address.text)
      if (!isJudged || !isUsable(kept)) {
        this.#drop(kept)
        continue
      }
      this.#forget(kept)
      return kept
    }
    return undefined
  }

  /** Keeps a connection whose last answer ended exactly where it said; it is closed where there is no room. */
  keep(connection: OriginConnection): void {
    const kept = connection as Kept
    const { socket, epoch, timer, reader } = kept
    if (epoch !== this.#epoch || this.#count.connections >= KEPT_TOTAL_MAX || !isUsable(kept))
      return void socket.destroy()
    const [oldest] = this.#idle
    if (oldest !== undefined && this.#idle.length >= KEPT_MAX) this.#drop(oldest)
    reader.release()
    kept.isIdle = true
    kept.isReused = true
    this.#idle.push(kept)
    this.#count.connections++
    timer.refresh()
  }

  /** What a new connection goes on with, and where its own sessions go: nowhere once rules changed. */
  session(request: EgressRequest): TlsSession {
    const whom = whomOf(request)
    const epoch = this.#epoch
    const known = this.#sessions.get(whom)
    if (known !== undefined && !this.#lasts(known)) {
      this.#sessions.delete(whom)
      return this.session(request)
    }
    let shown: Certificate | undefined = known
    return {
      known: known?.bytes,
      certificateShown: (validUntilMs) => {
        shown = { shownAtMs: this.#clocks.monotonic(), validUntilMs }
      },
      keep: (bytes) => {
        if (shown === undefined || epoch !== this.#epoch || bytes.length > SESSION_BYTES_MAX) return
        this.#keepSession(whom, { ...shown, bytes })
      },
    }
  }

  #lasts({ shownAtMs, validUntilMs }: Certificate): boolean {
    const { now, monotonic } = this.#clocks
    return monotonic() - shownAtMs < SESSION_MS && now() < validUntilMs
  }

  #keepSession(whom: string, session: Session): void {
    this.#sessions.delete(whom)
    const [oldest] = this.#sessions.keys()
    if (oldest !== undefined && this.#sessions.size >= KEPT_MAX) this.#sessions.delete(oldest)
    this.#sessions.set(whom, session)
  }

  /** Closes all, also those in use once their request has ended. */
  clear(): void {
    this.#epoch++
    this.#sessions.clear()
    for (const kept of this.#idle.slice()) this.#drop(kept)
  }

  #drop(kept: Kept): void {
    this.#forget(kept)
    kept.socket.destroy()
  }

  #forget(kept: Kept): void {
    kept.isIdle = false
    this.#idle.splice(this.#idle.indexOf(kept), 1)
    this.#count.connections--
  }
}

/** Nothing came after the last answer, not even the end. */
function isUsable({ socket, reader }: OriginConnection): boolean {
  return !reader.hasBuffered && !reader.peerEnded && !socket.destroyed && socket.writable
}

function whomOf({ kind, host, port }: EgressRequest): string {
  return `${kind} ${host.text} ${port}`
}
