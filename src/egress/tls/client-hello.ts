import type { ErrorCode } from '../../errors.js'

/** What a TLS ClientHello says in clear. */
export interface ClientHello {
  /** The one host name of the server_name extension, bytes as latin1; absent without the extension. */
  readonly serverName?: string
  /** Protocols offered, in order; GREASE values left out. */
  readonly alpn: readonly string[]
  /** An encrypted_client_hello (or old ESNI) extension is there: the real name may be hidden. */
  readonly hidesName: boolean
}

export interface HelloProblem {
  readonly code: Extract<
    ErrorCode,
    'egress.not_tls' | 'egress.sni_missing' | 'egress.sni_mismatch' | 'egress.ech' | 'egress.alpn'
  >
  readonly reason: string
}

export type HelloReading =
  | { state: 'more' }
  | { state: 'bad'; problem: HelloProblem }
  /** `consumed` counts the raw bytes up to the end of the hello's last record. */
  | { state: 'ok'; hello: ClientHello; consumed: number }

/** Raw bytes of a hello, records included. Post-quantum hellos are below 2 KiB; 64 KiB is the house's bound. */
export const HELLO_BYTES_MAX = 64 * 1024

/**
 * Reads a ClientHello (RFC 8446 §4.1.2) out of a byte stream, wherever segments and TLS records cut it. Feed every
 * piece once. The hello has to come first, alone in its records, and be structurally perfect; otherwise `bad`.
 */
export class ClientHelloReader {
  readonly #message: Buffer[] = []
  #messageBytes = 0
  #header: number[] = []
  #recordLeft = 0
  #consumed = 0

  push(bytes: Buffer): HelloReading {
    let at = 0
    while (at < bytes.length) {
      if (this.#recordLeft === 0) {
        this.#header.push(bytes[at++] ?? 0)
        this.#consumed++
        const problem = recordHeaderProblem(this.#header)
        if (problem !== undefined) return notTls(problem)
        if (this.#header.length < 5) continue
        this.#recordLeft = ((this.#header[3] ?? 0) << 8) | (this.#header[4] ?? 0)
        this.#header = []
        continue
      }
      const take = Math.min(this.#recordLeft, bytes.length - at)
      this.#message.push(bytes.subarray(at, at + take))
      this.#messageBytes += take
      this.#recordLeft -= take
      this.#consumed += take
      at += take
      const reading = this.#check()
      if (reading !== undefined) return reading
    }
    return this.#consumed > HELLO_BYTES_MAX ? notTls('the hello is too large') : { state: 'more' }
  }

  /** True when the first bytes looked like a TLS handshake record, so that an alert will be understood. */
  get spokeTls(): boolean {
    return this.#messageBytes > 0
  }

  #check(): HelloReading | undefined {
    if (this.#messageBytes < 4) return undefined
    if (this.#message.length > 1 && (this.#messageBytes <= 64 || this.#recordLeft === 0)) this.#join()
    const first = this.#message[0]
    if (first === undefined || first.length < 4) this.#join()
    const start = this.#message[0] ?? Buffer.alloc(4)
    if (start[0] !== 1) return notTls('the first handshake message is not a ClientHello')
    const length = start.readUIntBE(1, 3)
    if (length + 4 > HELLO_BYTES_MAX) return notTls('the hello is too large')
    if (this.#messageBytes > length + 4) return notTls('something follows the hello in its record')
    if (this.#messageBytes < length + 4) return undefined
    if (this.#recordLeft > 0) return notTls('something follows the hello in its record')
    this.#join()
    const parsed = parseClientHello((this.#message[0] ?? start).subarray(4))
    return 'problem' in parsed
      ? { state: 'bad', problem: parsed.problem }
      : { state: 'ok', hello: parsed.hello, consumed: this.#consumed }
  }

  #join(): void {
    this.#message.splice(0, this.#message.length, Buffer.concat(this.#message))
  }
}

/** Reads the body of a ClientHello message. Every length must fit exactly. */
export function parseClientHello(body: Buffer): { hello: ClientHello } | { problem: HelloProblem } {
  try {
    const reader = new Cursor(body)
    reader.skip(2 + 32)
    if (reader.vector(1).length > 32) throw new RangeError('session id')
    const suites = reader.vector(2)
    if (suites.length < 2 || suites.length % 2 !== 0) throw new RangeError('cipher suites')
    if (reader.vector(1).length < 1) throw new RangeError('compression methods')
    const extensions = reader.atEnd ? new Map<number, Buffer>() : readExtensions(reader.vector(2))
    if (!reader.atEnd) throw new RangeError('trailing bytes')
    return helloOf(extensions)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    return { problem: { code: 'egress.not_tls', reason: 'the hello is malformed' } }
  }
}

/**
 * Decides on a hello for a tunnel to `host`. Order: name (missing, different), hidden name, protocols.
 * For an address the name must be absent, since RFC 6066 has no server names that are addresses.
 */
export function judgeHello(
  hello: ClientHello,
  host: { kind: 'name' | 'address'; text: string },
  options: { allowEch: boolean },
): HelloProblem | undefined {
  const { serverName } = hello
  if (host.kind === 'address') {
    if (serverName !== undefined) return mismatch('the server name differs from the CONNECT host, an address')
  } else if (serverName === undefined) {
    return { code: 'egress.sni_missing', reason: 'the TLS hello carries no server name' }
  } else if (lowerAscii(serverName) !== host.text) {
    return mismatch('the TLS server name differs from the CONNECT host')
  }
  if (hello.hidesName && !options.allowEch) {
    return { code: 'egress.ech', reason: 'the TLS hello has an encrypted client hello' }
  }
  const foreign = hello.alpn.find((protocol) => !HTTP_PROTOCOLS.has(protocol))
  return foreign === undefined
    ? undefined
    : { code: 'egress.alpn', reason: 'the TLS hello announces a protocol that is not HTTP over TCP' }
}

/** TLS alert, fatal, access_denied (RFC 8446 §6.2). */
export const ALERT_ACCESS_DENIED: Buffer = Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x31])

/** TLS alert, fatal, internal_error: allowed, but it did not work. */
export const ALERT_INTERNAL_ERROR: Buffer = Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50])

const HTTP_PROTOCOLS: ReadonlySet<string> = new Set(['h2', 'http/1.1', 'http/1.0'])

const EXTENSION = { serverName: 0, alpn: 16, ech: 0xfe0d, esni: 0xffce } as const

/** Checks as much of a record header as is there: a handshake record of TLS 1.x, not empty, not over 2^14 bytes. */
function recordHeaderProblem(header: readonly number[]): string | undefined {
  const [type, major, minor, high, low] = header
  if (type !== undefined && type !== 22) return 'the first record is not a TLS handshake'
  if (major !== undefined && major !== 3) return 'the record has a wrong version'
  if (minor !== undefined && (minor < 1 || minor > 3)) return 'the record has a wrong version'
  if (high === undefined || low === undefined) return undefined
  const length = (high << 8) | low
  return length === 0 || length > 16_384 ? 'the record has a wrong length' : undefined
}

function readExtensions(bytes: Buffer): Map<number, Buffer> {
  const reader = new Cursor(bytes)
  const found = new Map<number, Buffer>()
  while (!reader.atEnd) {
    const type = reader.uint(2)
    const data = reader.vector(2)
    if (found.has(type)) {
      if (type === EXTENSION.serverName) found.set(TWICE, data)
      else throw new RangeError('an extension stands twice')
    }
    found.set(type, data)
  }
  return found
}

/** Marks a second server_name extension: no extension has a negative number. */
const TWICE = -1

function helloOf(extensions: Map<number, Buffer>): { hello: ClientHello } | { problem: HelloProblem } {
  if (extensions.has(TWICE)) return { problem: mismatch('the TLS hello carries two server names') }
  const names = extensions.get(EXTENSION.serverName)
  const serverName = names === undefined ? undefined : readServerName(names)
  if (names !== undefined && serverName === undefined)
    return { problem: mismatch('the server name of the TLS hello is malformed') }
  const alpn = readAlpn(extensions.get(EXTENSION.alpn))
  const hidesName = extensions.has(EXTENSION.ech) || extensions.has(EXTENSION.esni)
  return { hello: serverName === undefined ? { alpn, hidesName } : { serverName, alpn, hidesName } }
}

/** Exactly one entry, of type host_name, not empty. Undefined for anything else. */
function readServerName(data: Buffer): string | undefined {
  const outer = new Cursor(data)
  const list = new Cursor(outer.vector(2))
  if (!outer.atEnd) return undefined
  const type = list.uint(1)
  const name = list.vector(2)
  return type === 0 && name.length > 0 && name.length <= 255 && list.atEnd
    ? name.toString('latin1')
    : undefined
}

function readAlpn(data: Buffer | undefined): string[] {
  if (data === undefined) return []
  const outer = new Cursor(data)
  const list = new Cursor(outer.vector(2))
  if (!outer.atEnd) throw new RangeError('protocols')
  const protocols: string[] = []
  while (!list.atEnd) {
    const name = list.vector(1)
    if (name.length === 0) throw new RangeError('protocols')
    if (!isGrease(name)) protocols.push(name.toString('latin1'))
  }
  return protocols
}

/** RFC 8701. */
function isGrease(name: Buffer): boolean {
  const [first, second] = name
  return name.length === 2 && first === second && ((first ?? 0) & 0x0f) === 0x0a
}

function lowerAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

function mismatch(reason: string): HelloProblem {
  return { code: 'egress.sni_mismatch', reason }
}

function notTls(reason: string): HelloReading {
  return { state: 'bad', problem: { code: 'egress.not_tls', reason } }
}

/** Reads numbers and length-prefixed vectors; throws RangeError at the end of the bytes. */
class Cursor {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  skip(count: number): void {
    this.#need(count)
    this.#at += count
  }

  uint(size: number): number {
    this.#need(size)
    const value = this.#bytes.readUIntBE(this.#at, size)
    this.#at += size
    return value
  }

  vector(lengthSize: number): Buffer {
    const length = this.uint(lengthSize)
    this.#need(length)
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  #need(count: number): void {
    if (this.#at + count > this.#bytes.length) throw new RangeError('the message is too short')
  }
}
