import type { Socket } from 'node:net'
import {
  checkServerIdentity,
  connect,
  createSecureContext,
  type DetailedPeerCertificate,
  type PeerCertificate,
  type SecureContext,
} from 'node:tls'
import { WeirError } from '../../errors.js'
import type { Host } from '../../model/index.js'

/** Begins TLS with a host to which a connection was made. Resolves with the connection to speak over. */
export type StartTls = (
  socket: Socket,
  host: Host,
  session: TlsSession,
  signal: AbortSignal,
) => Promise<Socket>

/** What shortens the handshake with a host: the session of an earlier one with the same. */
export interface TlsSession {
  readonly known: Buffer | undefined
  /** The host showed a certificate, which is what resuming a session spares it. */
  certificateShown(validUntilMs: number): void
  /** A new one, of a connection whose certificate is valid. May be called several times, also later. */
  keep(session: Buffer): void
}

/** What programs of sandboxes ask for is HTTP/1.1; nothing else is offered. */
export const ORIGIN_ALPN: readonly string[] = ['http/1.1']

/**
 * TLS of the gateway's own, for programs that bring none: version 1.2 or newer, the server name is the host, and the host's
 * certificate must be valid for it under `authorities` (certificates as PEM; undefined: those that Node.js brings). There is
 * no way to let a certificate pass that is not.
 *
 * Rejects with `egress.upstream_failed`, or with the signal's reason; the connection is destroyed then.
 */
export function createStartTls(authorities: string | undefined): StartTls {
  let context: SecureContext | undefined
  return (socket, host, session, signal) =>
    new Promise((resolve, reject) => {
      // Reading a list of authorities takes time, so it is done once, and only where somebody needs it.
      context ??= createSecureContext({
        minVersion: 'TLSv1.2',
        ...(authorities === undefined ? {} : { ca: authorities }),
      })
      const isName = host.kind === 'name'
      const secure = connect({
        socket,
        secureContext: context,
        host: host.text,
        ...(isName ? { servername: host.text } : {}),
        ...(session.known === undefined ? {} : { session: session.known }),
        ALPNProtocols: [...ORIGIN_ALPN],
        rejectUnauthorized: true,
        // Node.js asks this about every certificate that is valid under an authority; where a session is resumed there is none.
        checkServerIdentity: (name, certificate) => {
          const problem = checkServerIdentity(name, certificate)
          if (problem === undefined) session.certificateShown(validUntilOf(certificate))
          return problem
        },
      })
      // Before the certificate was judged a session is worth nothing.
      let isSecure = false
      let newest: Buffer | undefined
      secure.on('session', (bytes: Buffer) => {
        newest = bytes
        if (isSecure) session.keep(bytes)
      })
      const finish = (settle: () => void) => {
        signal.removeEventListener('abort', onAbort)
        secure.off('error', onError)
        secure.off('secureConnect', onSecure)
        secure.off('close', onClose)
        settle()
      }
      const fail = (reason: Error) => {
        finish(() => reject(reason))
        secure.on('error', () => {})
        secure.destroy()
      }
      const onSecure = () => {
        isSecure = true
        if (newest !== undefined) session.keep(newest)
        finish(() => resolve(secure))
      }
      const onError = (error: NodeJS.ErrnoException) => fail(tlsFailed(error))
      const onClose = () => fail(tlsFailed(undefined))
      const onAbort = () => fail(signal.reason as Error)
      secure.on('error', onError)
      secure.on('secureConnect', onSecure)
      secure.on('close', onClose)
      if (signal.aborted) onAbort()
      else signal.addEventListener('abort', onAbort, { once: true })
    })
}

/** When the first certificate of the chain ceases to be valid, milliseconds since the epoch; at once when that cannot be read. */
function validUntilOf(certificate: PeerCertificate): number {
  let until = Number.POSITIVE_INFINITY
  let one: Partial<DetailedPeerCertificate> | undefined = certificate as DetailedPeerCertificate
  for (let depth = 0; one !== undefined && depth < CHAIN_MAX; depth++) {
    until = Math.min(until, Date.parse(one.valid_to ?? ''))
    one = one.issuerCertificate === one ? undefined : one.issuerCertificate
  }
  return Number.isNaN(until) ? 0 : until
}

/** Longer ones are refused before. */
const CHAIN_MAX = 100

function tlsFailed(error: NodeJS.ErrnoException | undefined): WeirError {
  const code = error?.code ?? ''
  const why = CERTIFICATE_PROBLEMS[code]
  const text =
    why !== undefined
      ? `the host's certificate cannot be trusted: ${why}`
      : 'the host does not complete the TLS handshake'
  return new WeirError('egress.upstream_failed', text, { cause: error })
}

/** What a user can do something about, in words. */
const CERTIFICATE_PROBLEMS: Readonly<Record<string, string>> = {
  ERR_TLS_CERT_ALTNAME_INVALID: 'it is for another host',
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is signed by itself',
  SELF_SIGNED_CERT_IN_CHAIN: 'nobody knows the authority that signed it',
  UNABLE_TO_GET_ISSUER_CERT: 'nobody knows the authority that signed it',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'nobody knows the authority that signed it',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'nobody knows the authority that signed it',
  CERT_UNTRUSTED: 'nobody knows the authority that signed it',
  CERT_REVOKED: 'it was revoked',
}
