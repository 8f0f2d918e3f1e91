import type { Socket as UdpSocket } from 'node:dgram'
import type { Server, Socket } from 'node:net'
import { WeirError } from '../../errors.js'
import { type Host, readHost } from '../../model/index.js'
import {
  type DnsQuestion,
  type DnsReply,
  encodeProblem,
  encodeReply,
  RCODE,
  readQuestion,
} from '../dns/query.js'
import { SyntheticAddresses } from '../dns/synthetic-addresses.js'
import type { MonotonicClock } from '../limits/token-bucket.js'
import { decideName } from '../policy/decide.js'
import { Attempt, type Outcome } from './attempt.js'
import type { Lease } from './lease.js'

/**
 * The name server of one namespace. It knows exactly the names that the lease's rules let a job reach, gives each a
 * synthetic address, and asks nobody: what a name really resolves to is looked up when it is connected to. Every other
 * name does not exist, at once; the first question for each becomes a record. To a learning execution every public name is
 * one it may reach, and the first question for each is a record as well.
 */
export class NameServer {
  readonly addresses = new SyntheticAddresses()
  readonly #lease: () => Lease | undefined
  readonly #hasIpv6: () => boolean
  readonly #now: MonotonicClock
  readonly #recorded = new Set<string>()
  #refused = 0
  readonly #connections = new Set<Socket>()
  #credit = QUESTIONS_BURST
  #creditedAt = 0

  constructor(input: { lease: () => Lease | undefined; hasIpv6: () => boolean; now: MonotonicClock }) {
    this.#lease = input.lease
    this.#hasIpv6 = input.hasIpv6
    this.#now = input.now
  }

  serveUdp(socket: UdpSocket): void {
    socket.on('error', () => {
      // A failed send concerns nobody else.
    })
    socket.on('message', (bytes, { address, port }) => {
      void this.#answer(bytes).then((answer) => {
        if (answer === undefined) return
        try {
          socket.send(answer, port, address)
        } catch {
          // The listener was closed meanwhile.
        }
      })
    })
  }

  serveTcp(server: Server): void {
    server.on('error', () => {
      // As for every listener: a failed accept concerns nobody else.
    })
    server.on('connection', (socket) => this.#converse(socket))
  }

  close(): void {
    for (const socket of this.#connections) socket.destroy()
  }

  /** RFC 7766: messages with two bytes of length before each. */
  #converse(socket: Socket): void {
    socket.on('error', () => {})
    if (this.#connections.size >= CONNECTIONS_MAX) {
      socket.destroy()
      return
    }
    this.#connections.add(socket)
    socket.on('close', () => this.#connections.delete(socket))
    socket.setTimeout(CONNECTION_IDLE_MS, () => socket.destroy())
    let received: Buffer = Buffer.alloc(0)
    const next = async (): Promise<void> => {
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const end = 2 + received.readUInt16BE(0)
        const answer = await this.#answer(received.subarray(2, end))
        received = received.subarray(end)
        // Whoever asks and never reads would have its answers kept here.
        if (answer === undefined || socket.writableLength > ANSWERS_BYTES_MAX) socket.destroy()
        else socket.write(Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 0xff]), answer]))
      }
      if (received.length > QUESTION_BYTES_MAX) socket.destroy()
    }
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes])
      socket.pause()
      void next().then(() => socket.resume())
    })
  }

  /** The answer to a message; undefined for what gets none. Never rejects. */
  async #answer(bytes: Buffer): Promise<Buffer | undefined> {
    if (!this.#mayAsk()) return undefined
    const reading = readQuestion(bytes)
    if (reading.state === 'drop') return undefined
    if (reading.state === 'bad') return encodeProblem(reading.id, reading.code)
    return encodeReply(reading.question, await this.#replyTo(reading.question))
  }

  async #replyTo(question: DnsQuestion): Promise<DnsReply> {
    const lease = this.#lease()
    if (lease === undefined || lease.closed) return { code: RCODE.refused }
    if ((question.ednsVersion ?? 0) > 0) return { code: RCODE.badVersion }
    if (question.class !== CLASS_INTERNET) return { code: RCODE.refused }
    const reading = readHost(question.name)
    if (!reading.ok || reading.host.kind === 'address') return { code: RCODE.unknownName }
    const { host } = reading
    if (host.text === 'localhost' || host.text.endsWith('.localhost')) return localhost(question.type)
    const decision = decideName(host, lease.transparentPorts, lease.rules)
    if (!decision.allowed) return await this.#refuse(lease, host, question.name, decision)
    const reply = this.#addressOf(host.text, question.type)
    if (!lease.isLearning || reply.code !== RCODE.ok) return reply
    // A program may ask for a name and never connect: who learns wants to know of it as well.
    const noted = await this.#record(lease, host, question.name, { ...decision, code: '', end: 'client' })
    return noted ? reply : { code: RCODE.failed }
  }

  #addressOf(name: string, type: number): DnsReply {
    const pair = this.addresses.addressesOf(name)
    if (pair === undefined) return { code: RCODE.refused }
    if (type === TYPE_A) return { code: RCODE.ok, address: pair.four }
    if (type === TYPE_AAAA && this.#hasIpv6()) return { code: RCODE.ok, address: pair.six }
    // Never HTTPS or SVCB: they carry ports, keys and addresses of others.
    return { code: RCODE.ok }
  }

  async #refuse(
    lease: Lease,
    host: Host,
    hostAsSent: string,
    { code, rule, owner }: { code: WeirError['code']; rule: string; owner: Attempt['owner'] },
  ): Promise<DnsReply> {
    const noted = await this.#record(lease, host, hostAsSent, { code, rule, owner, end: 'refused' })
    // Without a record there is no answer either; the ledger has reported its trouble.
    return { code: noted ? RCODE.unknownName : RCODE.failed }
  }

  /** The first question for each name becomes a record. False when it could not be written. */
  async #record(
    lease: Lease,
    host: Host,
    hostAsSent: string,
    outcome: Omit<Outcome, 'status'>,
  ): Promise<boolean> {
    if (this.#recorded.has(host.text)) return true
    if (outcome.code !== '' && this.#refused >= REFUSED_NAMES_MAX) return true
    this.#recorded.add(host.text)
    if (outcome.code !== '') this.#refused++
    const about = { method: 'DNS', hostAsSent, arrivedAt: '' }
    const attempt = new Attempt(lease, { kind: 'connect', host, port: 0 }, about, () => {})
    try {
      await attempt.end({ ...outcome, status: 0 })
      return true
    } catch {
      this.#recorded.delete(host.text)
      return false
    }
  }

  /** So many questions a second; what is above gets no answer. */
  #mayAsk(): boolean {
    const now = this.#now()
    const earned = Math.max(0, now - this.#creditedAt) * QUESTIONS_PER_MS
    this.#credit = Math.min(QUESTIONS_BURST, this.#credit + earned)
    this.#creditedAt = now
    if (this.#credit < 1) return false
    this.#credit -= 1
    return true
  }
}

const TYPE_A = 1
const TYPE_AAAA = 28
const CLASS_INTERNET = 1

/** 500 a second, 1,000 at once. */
const QUESTIONS_PER_MS = 0.5
const QUESTIONS_BURST = 1_000

/** Refused names that become records, per namespace; those that are answered are bounded by their addresses. */
const REFUSED_NAMES_MAX = 256

const CONNECTIONS_MAX = 16
const CONNECTION_IDLE_MS = 5_000
const QUESTION_BYTES_MAX = 4_096
const ANSWERS_BYTES_MAX = 64 * 1024

/** RFC 6761 §6.3. */
function localhost(type: number): DnsReply {
  if (type === TYPE_A) return { code: RCODE.ok, address: { bytes: [127, 0, 0, 1] } }
  if (type === TYPE_AAAA) return { code: RCODE.ok, address: { bytes: [...Array<number>(15).fill(0), 1] } }
  return { code: RCODE.ok }
}
