import { type ClientHello, ClientHelloReader, type HelloProblem } from './client-hello.js'

/** What may go on to the other side, or why the tunnel has to end. */
export type WatchVerdict = { forward: Buffer } | { problem: HelloProblem }

/**
 * Watches a tunnel after its first ClientHello, while the handshake is in clear: a server may ask for a second hello
 * (HelloRetryRequest, RFC 8446 §4.1.4), which has to name the same host.
 *
 * Until the server's hello was seen, every handshake record of the client must be such a second hello: it may come
 * before its request, and after early data. Its bytes are held until it was judged. `settled` turns true when nothing
 * more can be seen; then bytes need not pass through here any more.
 */
export class HandshakeWatch {
  readonly #judge: (hello: ClientHello) => HelloProblem | undefined
  readonly #server = new ServerHelloReader()
  #second: ClientHelloReader | undefined
  #held: Buffer[] = []
  #heldBytes = 0
  #header: Buffer = NOTHING
  #recordLeft = 0
  #hellosSeen = 0
  #settled = false

  constructor(judge: (hello: ClientHello) => HelloProblem | undefined) {
    this.#judge = judge
  }

  get settled(): boolean {
    return this.#settled && this.#held.length === 0 && this.#header.length === 0
  }

  /** Bytes from the server: they always go on to the client, unless the server does not speak TLS. */
  fromServer(bytes: Buffer): HelloProblem | undefined {
    if (this.#settled) return undefined
    const answer = this.#server.push(bytes)
    if (answer === 'not-tls') return notTls('the host does not answer with TLS')
    if (answer === 'hello' || answer === 'alert') {
      this.#settled = true
      this.#server.forget()
    }
    return undefined
  }

  /** Bytes from the client: returns those that may go on. */
  fromClient(bytes: Buffer): WatchVerdict {
    if (this.#settled) return { forward: this.#release(bytes) }
    const out: Buffer[] = []
    let rest = bytes
    while (rest.length > 0) {
      const step = this.#second === undefined ? this.#passRecord(rest, out) : this.#readHello(rest, out)
      if ('problem' in step) return step
      rest = step.rest
    }
    return { forward: Buffer.concat(out) }
  }

  #passRecord(bytes: Buffer, out: Buffer[]): { rest: Buffer } | { problem: HelloProblem } {
    if (this.#recordLeft > 0) {
      const take = Math.min(this.#recordLeft, bytes.length)
      this.#recordLeft -= take
      out.push(bytes.subarray(0, take))
      return { rest: bytes.subarray(take) }
    }
    const need = 5 - this.#header.length
    this.#header = Buffer.concat([this.#header, bytes.subarray(0, need)])
    const rest = bytes.subarray(need)
    const type = this.#header[0]
    if (type !== 20 && type !== 21 && type !== 22 && type !== 23)
      return { problem: notTls('the tunnel stopped speaking TLS') }
    if (this.#header.length < 5) return { rest }
    const header = this.#header
    this.#header = NOTHING
    if (type === 22) {
      this.#hellosSeen++
      if (this.#hellosSeen > 1) return { problem: notTls('the client sends more than two hellos') }
      this.#second = new ClientHelloReader()
      return { rest: Buffer.concat([header, rest]) }
    }
    this.#recordLeft = header.readUInt16BE(3)
    out.push(header)
    return { rest }
  }

  #readHello(bytes: Buffer, out: Buffer[]): { rest: Buffer } | { problem: HelloProblem } {
    const before = this.#heldBytes
    const reading = this.#second?.push(bytes) ?? { state: 'more' as const }
    if (reading.state === 'bad') return { problem: reading.problem }
    if (reading.state === 'more') {
      this.#held.push(bytes)
      this.#heldBytes += bytes.length
      return { rest: Buffer.alloc(0) }
    }
    const problem = this.#judge(reading.hello)
    if (problem !== undefined) return { problem }
    const take = reading.consumed - before
    out.push(...this.#held, bytes.subarray(0, take))
    this.#held = []
    this.#heldBytes = 0
    this.#second = undefined
    return { rest: bytes.subarray(take) }
  }

  /** Once settled, whatever was held back goes first. */
  #release(bytes: Buffer): Buffer {
    const pieces = [...this.#held, this.#header, bytes]
    this.#held = []
    this.#heldBytes = 0
    this.#header = NOTHING
    this.#second = undefined
    return Buffer.concat(pieces)
  }
}

/** SHA-256 of "HelloRetryRequest": the random value that marks one (RFC 8446 §4.1.3). */
const RETRY_RANDOM = Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex')

const NOTHING = Buffer.alloc(0)

/** Looks at the first bytes of a server: up to the random value of its hello. */
class ServerHelloReader {
  #bytes: Buffer = NOTHING
  #done = false

  push(bytes: Buffer): 'more' | 'hello' | 'retry' | 'alert' | 'not-tls' {
    if (this.#done) return 'more'
    const first = bytes.subarray(0, 4096)
    // A copy: the memory of what passes by belongs to somebody else.
    this.#bytes = Buffer.concat([this.#bytes, first])
    const answer = this.#read()
    if (answer === 'retry') this.#done = true
    return answer === 'more' && this.#bytes.length > 4096 ? 'not-tls' : answer
  }

  /** Nothing more is asked. */
  forget(): void {
    this.#bytes = NOTHING
  }

  #read(): 'more' | 'hello' | 'retry' | 'alert' | 'not-tls' {
    let message: Buffer = NOTHING
    let at = 0
    while (message.length < 38) {
      const type = this.#bytes[at]
      if (type === undefined) return 'more'
      if (type === 21) return 'alert'
      if (type !== 22) return 'not-tls'
      if (this.#bytes.length < at + 5) return 'more'
      const length = this.#bytes.readUInt16BE(at + 3)
      const end = Math.min(at + 5 + length, this.#bytes.length)
      message = Buffer.concat([message, this.#bytes.subarray(at + 5, end)])
      at += 5 + length
    }
    if (message[0] !== 2) return 'not-tls'
    return message.subarray(6, 38).equals(RETRY_RANDOM) ? 'retry' : 'hello'
  }
}

function notTls(reason: string): HelloProblem {
  return { code: 'egress.not_tls', reason }
}
