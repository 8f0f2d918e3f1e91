/** A question as a program in a job asks it. */
export interface DnsQuestion {
  readonly id: number
  /** Labels joined by dots, bytes as latin1, case as sent, without root dot; a label with a dot inside makes it unreadable. */
  readonly name: string
  /** 1 = A, 28 = AAAA; anything else is answered with nothing. */
  readonly type: number
  readonly class: number
  readonly recursionDesired: boolean
  /** The question section as sent, to be repeated in the answer. */
  readonly section: Buffer
  /** The version of EDNS the program speaks (RFC 6891); absent: none. */
  readonly ednsVersion?: number
}

/** Response codes (RFC 1035 §4.1.1, RFC 6891 §9). */
export const RCODE = {
  ok: 0,
  malformed: 1,
  failed: 2,
  unknownName: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16,
} as const

export type QuestionReading =
  | { state: 'ok'; question: DnsQuestion }
  /** Answered with a code and nothing else. */
  | { state: 'bad'; id: number; code: number }
  /** Not a question: an answer to it could be used to make two servers talk to each other. */
  | { state: 'drop' }

/**
 * Reads one DNS message that should be a question (RFC 1035 §4): exactly one question, not compressed, no other record
 * but one OPT, nothing behind it.
 */
export function readQuestion(bytes: Buffer): QuestionReading {
  if (bytes.length < HEADER_BYTES) return { state: 'drop' }
  const id = bytes.readUInt16BE(0)
  const flags = bytes.readUInt16BE(2)
  if ((flags & 0x8000) !== 0) return { state: 'drop' }
  if ((flags & 0x7800) !== 0) return { state: 'bad', id, code: RCODE.notImplemented }
  try {
    return { state: 'ok', question: read(bytes, id, flags) }
  } catch (error) {
    if (error instanceof RangeError) return { state: 'bad', id, code: RCODE.malformed }
    throw error
  }
}

/** One address in the answer, or none. */
export interface DnsReply {
  readonly code: number
  readonly address?: { readonly bytes: readonly number[] }
}

/** How long a program may keep an address: short, so that it asks again after a change. */
export const TTL_SECONDS = 60

/** Encodes the answer to a question: what was asked, at most one address, OPT if the program sent one. */
export function encodeReply(question: DnsQuestion, { code, address }: DnsReply): Buffer {
  const edns = question.ednsVersion !== undefined
  const header = headerOf(question.id, code, question.recursionDesired)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(address === undefined ? 0 : 1, 6)
  header.writeUInt16BE(edns ? 1 : 0, 10)
  return Buffer.concat([
    header,
    question.section,
    ...(address === undefined ? [] : [addressRecord(question.type, address.bytes)]),
    ...(edns ? [optRecord(code)] : []),
  ])
}

/** An answer that says only what was wrong. */
export function encodeProblem(id: number, code: number): Buffer {
  return headerOf(id, code, false)
}

const HEADER_BYTES = 12
const OPT = 41

function read(bytes: Buffer, id: number, flags: number): DnsQuestion {
  const [questions, answers, authorities, additional] = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at))
  if (questions !== 1 || answers !== 0 || authorities !== 0 || (additional ?? 0) > 1)
    throw new RangeError('counts')
  const { name, end } = readUncompressedName(bytes)
  const section = bytes.subarray(HEADER_BYTES, end + 4)
  const question = {
    id,
    name,
    type: bytes.readUInt16BE(end),
    class: bytes.readUInt16BE(end + 2),
    recursionDesired: (flags & 0x0100) !== 0,
    section,
  }
  const rest = bytes.subarray(end + 4)
  if (additional === 0) {
    if (rest.length > 0) throw new RangeError('trailing bytes')
    return question
  }
  // Root name, type, payload size, extended code and version, flags, length.
  if (rest.readUInt8(0) !== 0 || rest.readUInt16BE(1) !== OPT) throw new RangeError('not OPT')
  if (rest.length !== 11 + rest.readUInt16BE(9)) throw new RangeError('OPT length')
  return { ...question, ednsVersion: rest.readUInt8(6) }
}

function readUncompressedName(bytes: Buffer): { name: string; end: number } {
  const labels: string[] = []
  let at = HEADER_BYTES
  for (;;) {
    const length = bytes.readUInt8(at)
    at += 1
    if (length === 0) break
    if (length > 63 || at + length > bytes.length || at + length - HEADER_BYTES > 254)
      throw new RangeError('name')
    const label = bytes.toString('latin1', at, at + length)
    // A dot inside a label would read as two labels; no host name has one.
    labels.push(label.includes('.') ? '\0' : label)
    at += length
  }
  return { name: labels.join('.'), end: at }
}

function headerOf(id: number, code: number, recursionDesired: boolean): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt16BE(id, 0)
  header.writeUInt16BE(0x8080 | (recursionDesired ? 0x0100 : 0) | (code & 0x0f), 2)
  return header
}

function addressRecord(type: number, bytes: readonly number[]): Buffer {
  const record = Buffer.alloc(12)
  // The name of the question, at byte 12.
  record.writeUInt16BE(0xc00c, 0)
  record.writeUInt16BE(type, 2)
  record.writeUInt16BE(1, 4)
  record.writeUInt32BE(TTL_SECONDS, 6)
  record.writeUInt16BE(bytes.length, 10)
  return Buffer.concat([record, Buffer.from(bytes)])
}

/** Payload size of 1,232 bytes: more than any answer here has. */
function optRecord(code: number): Buffer {
  return Buffer.from([0, 0, OPT, 0x04, 0xd0, code >> 4, 0, 0, 0, 0, 0])
}
