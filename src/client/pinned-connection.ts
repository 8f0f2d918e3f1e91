import { createHash, timingSafeEqual, type X509Certificate } from 'node:crypto'
import { Agent as HttpAgent, type AgentOptions } from 'node:http'
import { isIP, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WeirError } from '../errors.js'

export interface PinnedTarget {
  host: string
  port: number
  timeoutMs: number
}

/**
 * Connects to a server whose key is known. The key is compared before a single byte of a request is written, so a server
 * with another one learns nothing. Names, authorities and dates are not looked at: the key says who it is. Rejects with
 * `tls.untrusted`, or with what the network says.
 */
export async function connectPinned(target: PinnedTarget, fingerprint: string): Promise<Socket> {
  const { socket, found } = await connectUnverified(target)
  if (sameFingerprint(found, fingerprint)) return socket
  socket.destroy()
  throw new WeirError(
    'tls.untrusted',
    `Cannot trust ${target.host}:${target.port}: its key is not the expected one`,
    {
      hint: `Somebody may be in between, or the server has a new key. Ask its operator for the fingerprint; if it is ${found}, accept it with \`weir auth login https://${target.host}:${target.port} --fingerprint ${found}\``,
      details: { expected: fingerprint, found },
    },
  )
}

/** The fingerprint of the key that a server shows; nothing is sent to it. */
export async function seenFingerprint(target: PinnedTarget): Promise<string> {
  const { socket, found } = await connectUnverified(target)
  socket.destroy()
  return found
}

/** Reads `SHA256:<base64>` of a public key; undefined for anything else. Padding may be left out. */
export function readFingerprint(text: string): string | undefined {
  const match = /^SHA256:([A-Za-z0-9+/]{43})=?$/i.exec(text.trim())
  return match === null ? undefined : `SHA256:${match[1] ?? ''}=`
}

/** Opens connections to one pinned server for `http.request`. */
export class PinnedAgent extends HttpAgent {
  readonly #target: PinnedTarget
  readonly #fingerprint: string

  constructor(options: AgentOptions, target: PinnedTarget, fingerprint: string) {
    super(options)
    this.#target = target
    this.#fingerprint = fingerprint
  }

  override createConnection(
    _options: unknown,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | undefined {
    connectPinned(this.#target, this.#fingerprint).then(
      (socket) => callback?.(null, socket),
      (error: unknown) => callback?.(error as Error, undefined as never),
    )
    return undefined
  }
}

async function connectUnverified({
  host,
  port,
  timeoutMs,
}: PinnedTarget): Promise<{ socket: Socket; found: string }> {
  // Here and not above: most servers are on this machine.
  const { connect } = await import('node:tls')
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ...(isIP(host) === 0 ? { servername: host } : {}),
    })
    const timer = setTimeout(() => {
      socket.destroy(Object.assign(new Error('connecting took too long'), { code: 'ETIMEDOUT' }))
    }, timeoutMs)
    socket.once('close', () => clearTimeout(timer))
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      clearTimeout(timer)
      socket.off('error', reject)
      const certificate = socket.getPeerX509Certificate()
      if (certificate !== undefined) return resolve({ socket, found: fingerprintOf(certificate) })
      socket.destroy()
      reject(new WeirError('tls.untrusted', `Cannot trust ${host}:${port}: it shows no certificate`))
    })
  })
}

function fingerprintOf(certificate: X509Certificate): string {
  const key = certificate.publicKey.export({ type: 'spki', format: 'der' })
  return `SHA256:${createHash('sha256').update(key).digest('base64')}`
}

function sameFingerprint(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
