import type { FastifyReply, FastifyRequest } from 'fastify'
import { isWeirError, WeirError } from '../errors.js'
import { checkClientVersion, isOlderThan } from './guards/client-version.js'

/**
 * A refusal in the words that the client looks for, and with what to do now; every other error as it is. Clients before
 * 1.7 look for the words of the older server.
 */
export function refusalForClient(error: unknown, request: FastifyRequest, reply: FastifyReply): unknown {
  if (!isWeirError(error, 'api.unauthorized', 'api.forbidden')) return error
  // Never Basic: a browser would then send the password by itself, also for pages of strangers.
  if (error.code === 'api.unauthorized') reply.header('www-authenticate', 'Bearer realm="weir"')
  const { old, hint } = REFUSALS[error.code as keyof typeof REFUSALS]
  const header = request.headers['x-bacalhau-git-version']
  const check = checkClientVersion(Array.isArray(header) ? header[0] : header)
  const isOld = check.answer === 'serve' && check.version !== undefined && isOlderThan(check.version, 1, 7)
  const { reason } = error.details
  const message = isOld ? `${old} ${typeof reason === 'string' ? reason : ''}`.trim() : error.message
  return new WeirError(error.code, message, { hint: error.hint ?? hint, details: error.details })
}

const REFUSALS = {
  'api.unauthorized': {
    old: 'Invalid token.',
    hint: 'Log in with `weir auth login`, or send the header Authorization: Bearer <token>.',
  },
  'api.forbidden': {
    old: 'Access denied.',
    hint: 'Ask an admin for a token whose role and namespaces allow it; `weir auth whoami` shows what yours allows.',
  },
} as const
