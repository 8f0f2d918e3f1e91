import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect, isIPv6 } from 'node:net'
import { type DnsAnswer, type DnsType, decodeAnswer, encodeQuery } from './message.js'

/** A server to ask: address and port. */
export interface DnsServer {
  readonly address: string
  readonly port: number
}

/** Asks one question; rejects with the signal's reason or when no server answers. */
export type DnsQuery = (name: string, type: DnsType, signal: AbortSignal) => Promise<DnsAnswer>

/**
 * A stub client over UDP, with TCP when an answer is truncated. Each question has a fresh socket (and so a random
 * source port) and a random id, asks the servers in turn and repeats after 1.5 s. Time is bounded by the signal.
 */
export function createDnsQuery(servers: readonly DnsServer[], retryMs = 1_500): DnsQuery {
  return async (name, type, signal) => {
    let last: unknown = new Error('no DNS server is configured')
    const rounds = servers.flatMap((server) => [server]).concat(servers)
    for (const server of rounds) {
      signal.throwIfAborted()
      const attempt = AbortSignal.any([signal, AbortSignal.timeout(retryMs)])
      try {
        const id = randomInt(0x10000)
        const answer = await askUdp(server, encodeQuery(id, name, type), id, name, type, attempt)
        return answer.truncated ? await askTcp(server, name, type, signal) : answer
      } catch (error) {
        signal.throwIfAborted()
        last = error
      }
    }
    throw last
  }
}

function askUdp(
  server: DnsServer,
  query: Buffer,
  id: number,
  name: string,
  type: DnsType,
  signal: AbortSignal,
): Promise<DnsAnswer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(server.address) ? 'udp6' : 'udp4')
    const finish = (settle: () => void) => {
      signal.removeEventListener('abort', onAbort)
      socket.removeAllListeners()
      // A late error of a closed socket has nobody left to tell.
      socket.on('error', () => {})
      try {
        socket.close()
      } catch {
        // It was closed already.
      }
      settle()
    }
    const onAbort = () => finish(() => reject(signal.reason as Error))
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('error', (error) => finish(() => reject(error)))
    socket.on('message', (bytes) => {
      const answer = decodeAnswer(bytes, id, name, type)
      if (answer !== undefined) finish(() => resolve(answer))
    })
    // A connected socket takes answers from the asked server only.
    socket.connect(server.port, server.address, () => {
      socket.send(query, (error) => {
        if (error) finish(() => reject(error))
      })
    })
  })
}

function askTcp(server: DnsServer, name: string, type: DnsType, signal: AbortSignal): Promise<DnsAnswer> {
  return new Promise((resolve, reject) => {
    const id = randomInt(0x10000)
    const query = encodeQuery(id, name, type)
    const socket = connect({ host: server.address, port: server.port, signal })
    let received = Buffer.alloc(0)
    socket.on('connect', () => {
      const length = Buffer.alloc(2)
      length.writeUInt16BE(query.length)
      socket.write(Buffer.concat([length, query]))
    })
    socket.on('data', (bytes) => {
      received = Buffer.concat([received, bytes])
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return
      const answer = decodeAnswer(received.subarray(2, 2 + received.readUInt16BE(0)), id, name, type)
      socket.destroy()
      if (answer === undefined) reject(new Error('the DNS answer is malformed'))
      else resolve(answer)
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('the DNS server closed the connection')))
  })
}
