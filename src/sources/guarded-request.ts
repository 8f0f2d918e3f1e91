import { request, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { isIP } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { isWeirError, WeirError, type ErrorCode } from '../errors.js'
import type { GuardedDialer } from '../ports/egress-gateway.js'
import { describeUrl } from './describe-url.js'

export interface GuardedRequest {
  method: 'GET' | 'HEAD'
  headers: Record<string, string>
}

export interface RequestContext {
  dialer: GuardedDialer
  /** Certificates to trust instead of the built-in ones (PEM). */
  ca?: string[]
  /** Without any byte for so long, the connection is given up. */
  idleTimeoutMs: number
}

/**
 * One HTTP request over a connection of the guarded dialer: no agent, no proxy variables, no lookup of our own. TLS
 * certificates are always verified. Follows no redirect. The response's body fails when the connection breaks, is
 * idle for too long, or when the signal is aborted; the caller reads or destroys it.
 * Rejects with `source.refused` when the guard refuses the address, else `source.unavailable`.
 */
export async function guardedRequest(
  url: URL,
  { method, headers }: GuardedRequest,
  context: RequestContext,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const host = hostOf(url)
  // A signal of this hop's own: listeners do not pile up on the caller's over redirects and retries.
  const hop = AbortSignal.any([signal])
  const socket = await dial(url, host, context, hop)
  try {
    socket.setTimeout(context.idleTimeoutMs, () => socket.destroy(new Error(idleMessage(context))))
    const stream = url.protocol === 'https:' ? await secured(socket, host, context, hop) : socket
    return await exchanged(url, { method, headers }, stream, context, hop)
  } catch (error) {
    socket.destroy()
    if (signal.aborted) throw signal.reason
    throw isWeirError(error) ? error : unavailable(url, error)
  }
}

/** The host to dial: no brackets, no root dot. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
}

async function dial(url: URL, host: string, context: RequestContext, signal: AbortSignal): Promise<Socket> {
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  try {
    return await context.dialer.dial(host, port, signal)
  } catch (error) {
    if (signal.aborted) throw signal.reason
    const failed: ErrorCode[] = ['egress.dns_failed', 'egress.upstream_failed', 'egress.timeout']
    if (!isWeirError(error) || failed.includes(error.code)) throw unavailable(url, error)
    throw new WeirError('source.refused', `Cannot fetch "${describeUrl(url)}": ${error.message}`, {
      hint:
        error.hint ??
        'Inputs are fetched from public addresses only, unless the operator of the node lists others',
      details: { reason: error.code },
      cause: error,
    })
  }
}

function secured(
  socket: Socket,
  host: string,
  { ca }: RequestContext,
  signal: AbortSignal,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      stream.destroy(new Error('stopped'))
    }
    const stream = connectTls({
      socket,
      host,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === undefined ? {} : { ca }),
      ALPNProtocols: ['http/1.1'],
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
    })
    stream.once('secureConnect', () => {
      signal.removeEventListener('abort', stop)
      resolve(stream)
    })
    stream.once('error', reject)
    stream.once('close', () => reject(new Error('the connection was closed during the TLS handshake')))
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
  })
}

function exchanged(
  url: URL,
  { method, headers }: GuardedRequest,
  stream: Socket,
  context: RequestContext,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const outgoing = request({
      method,
      path: url.pathname + url.search,
      headers: {
        Host: url.host,
        'User-Agent': 'weir',
        Accept: '*/*',
        'Accept-Encoding': 'identity',
        Connection: 'close',
        ...headers,
      },
      createConnection: () => stream,
      signal,
    })
    outgoing.once('error', reject)
    outgoing.once('close', () => reject(new Error('the connection was closed before an answer came')))
    outgoing.once('response', (response) => {
      stream.setTimeout(context.idleTimeoutMs, () => response.destroy(new Error(idleMessage(context))))
      outgoing.on('error', () => undefined) // the response reports what breaks from now on
      resolve(response)
    })
    outgoing.end()
  })
}

function idleMessage({ idleTimeoutMs }: RequestContext): string {
  return `nothing arrived for ${idleTimeoutMs / 1000} s`
}

function unavailable(url: URL, error: unknown): WeirError {
  const { message, code = '' } = error as NodeJS.ErrnoException
  const certificate = /CERT|SELF_SIGNED|ALTNAME|SIGNATURE/.test(code)
  return new WeirError('source.unavailable', `Cannot fetch "${describeUrl(url)}": ${message}`, {
    hint: certificate
      ? 'The certificate of the server must be valid for its name; use another server, or http with SHA256'
      : 'Check the URL and that the server answers',
    retryable: !certificate && !hopeless(error) && !/^ERR_(INVALID|HTTP)|^HPE_/.test(code),
    cause: error,
  })
}

/** A name that does not exist will not exist in a second either. */
function hopeless(error: unknown): boolean {
  return isWeirError(error, 'egress.dns_failed') && error.details.reason === 'nxdomain'
}
