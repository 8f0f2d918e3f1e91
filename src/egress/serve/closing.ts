import { type ErrorCode, isWeirError } from '../../errors.js'
import type { EgressEnd } from '../../model/index.js'
import { type ClientSocket, SocketGone } from './socket-stream.js'

/** How an attempt that stopped with this reason ended. */
export function endOf(reason: unknown): EgressEnd {
  if (reason instanceof SocketGone) return 'client'
  if (!isWeirError(reason)) return 'error'
  if (reason.code === 'egress.revoked') return 'revoked'
  if (reason.code === 'egress.unavailable') return 'shutdown'
  if (LIMIT_CODES.has(reason.code)) return 'limit'
  if (reason.code === 'egress.timeout' || reason.code === 'request.timeout') return 'timeout'
  return reason.code.startsWith('request.') ? 'refused' : 'error'
}

/** A budget was used up, also halfway. */
export const QUOTA_CODES = ['egress.quota_up', 'egress.quota_down'] as const satisfies readonly ErrorCode[]

/** What a limit refuses; their messages are for the job to read. */
export const LIMIT_CODES: ReadonlySet<ErrorCode> = new Set([
  ...QUOTA_CODES,
  'egress.connections',
  'egress.rate',
  'egress.names',
])

/** Sends the last bytes, swallows what the client still sends for a moment, and closes. */
export function closeAfter(socket: ClientSocket, bytes: Buffer): void {
  if (socket.destroyed) return
  socket.removeAllListeners('data')
  socket.on('error', () => {})
  let swallowed = 0
  socket.on('data', (more: Buffer) => {
    swallowed += more.length
    if (swallowed > 256 * 1024) socket.destroy()
  })
  socket.end(bytes)
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.on('end', () => socket.destroySoon())
  socket.on('close', () => clearTimeout(timer))
}

/** How long a refused client may still send before the connection is cut, so that it can read the answer. */
const LINGER_MS = 1_000
