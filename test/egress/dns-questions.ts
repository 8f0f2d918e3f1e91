import { parseIpAddress } from '../../src/model/index.js'
import { ipAddressFromBytes } from '../../src/model/ip-address.js'
import type { Namespace } from './network.js'

const TYPES = { A: 1, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SVCB: 64, HTTPS: 65, ANY: 255 } as const

/** A question as programs ask it; with `edns` an OPT record of that version. */
export function encodeQuestion(name: string, type: keyof typeof TYPES, edns?: number): Buffer {
  const labels = name === '' ? [] : name.split('.')
  const parts = labels.map((label) =>
    Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')]),
  )
  const opt = edns === undefined ? [] : [Buffer.from([0, 0, 41, 0x10, 0, 0, edns, 0, 0, 0, 0])]
  return Buffer.concat([
    Buffer.from([0x77, 0x65, 1, 0, 0, 1, 0, 0, 0, 0, 0, opt.length]),
    ...parts,
    Buffer.from([0, 0, TYPES[type], 0, 1]),
    ...opt,
  ])
}

/** Sends bytes to a name server from inside a namespace; undefined when no answer comes in time. */
export async function ask(
  from: Namespace,
  bytes: Buffer,
  { server = '127.0.0.1', tcp = false }: { server?: string; tcp?: boolean } = {},
  waitMs = 2_000,
): Promise<Buffer | undefined> {
  if (tcp) return await askTcp(from, bytes, server, waitMs)
  const socket = await from.udp('0.0.0.0', 0)
  try {
    return await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(undefined), waitMs)
      socket.once('message', (answer, { address }) => {
        clearTimeout(timer)
        resolve(address === server ? answer : undefined)
      })
      socket.send(bytes, 53, server)
    })
  } finally {
    socket.close()
  }
}

async function askTcp(
  from: Namespace,
  bytes: Buffer,
  server: string,
  waitMs: number,
): Promise<Buffer | undefined> {
  const socket = await from.connect(server, 53)
  try {
    return await new Promise((resolve) => {
      let received = Buffer.alloc(0)
      const timer = setTimeout(() => resolve(undefined), waitMs)
      socket.on('error', () => {})
      socket.on('data', (more: Buffer) => {
        received = Buffer.concat([received, more])
        if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return
        clearTimeout(timer)
        resolve(received.subarray(2))
      })
      socket.write(Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]))
    })
  } finally {
    socket.destroy()
  }
}

/** What an answer says; `code` with the bits of EDNS. */
export function readAnswer(bytes: Buffer): {
  code: number
  answers: number
  ttl: number
  edns: boolean
  address?: string
} {
  let at = 12
  if (bytes.readUInt16BE(4) > 0) {
    while (bytes.readUInt8(at) !== 0) at += bytes.readUInt8(at) + 1
    at += 5
  }
  const answers = bytes.readUInt16BE(6)
  const edns = bytes.readUInt16BE(10) > 0
  const opt = edns ? bytes.subarray(-11) : undefined
  const code = (bytes.readUInt16BE(2) & 0xf) | ((opt?.readUInt8(5) ?? 0) << 4)
  if (answers === 0) return { code, answers, ttl: 0, edns }
  const address = ipAddressFromBytes(bytes.subarray(at + 12, at + 12 + bytes.readUInt16BE(at + 10)))
  if (address === undefined || parseIpAddress(address.text) === undefined) throw new Error('no address')
  return { code, answers, ttl: bytes.readUInt32BE(at + 6), edns, address: address.text }
}
