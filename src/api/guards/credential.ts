import type { IncomingMessage } from 'node:http'
import { WeirError } from '../../errors.js'
import type { Credential } from '../../ports/index.js'

const LENGTH_MAX = 4_096

/**
 * Reads `Authorization: Bearer …` or `Basic …`; undefined when there is none. Throws `api.unauthorized` for anything else
 * in it, and `api.bad_request` when the header is there twice: two servers could read two different callers.
 */
export function readCredential(request: IncomingMessage): Credential | undefined {
  const { rawHeaders } = request
  const values = rawHeaders.filter(
    (_value, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === 'authorization',
  )
  if (values.length > 1)
    throw new WeirError(
      'api.bad_request',
      'Cannot tell who is calling: there are several Authorization headers',
    )
  const value = values[0]?.trim() ?? ''
  if (value === '') return undefined
  const [, scheme = '', rest = ''] = /^(\S+)\s+(\S+)$/.exec(value) ?? []
  if (value.length > LENGTH_MAX || rest === '') throw unreadable()
  if (scheme.toLowerCase() === 'bearer') return { kind: 'bearer', token: rest }
  if (scheme.toLowerCase() === 'basic') return readBasic(rest)
  throw unreadable()
}

function readBasic(text: string): Credential {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) throw unreadable()
  const pair = Buffer.from(text, 'base64').toString('utf8')
  const colon = pair.indexOf(':')
  if (colon <= 0) throw unreadable()
  return { kind: 'basic', username: pair.slice(0, colon), password: pair.slice(colon + 1) }
}

function unreadable(): WeirError {
  return new WeirError('api.unauthorized', 'Request Unauthorized', {
    details: { reason: 'the Authorization header cannot be read' },
  })
}

/** Credentials in a URL end up in logs, histories and referrers: they are refused, not used. Throws `api.bad_request`. */
export function refuseCredentialInQuery(query: unknown): void {
  const names = typeof query === 'object' && query !== null ? Object.keys(query) : []
  const found = names.find((name) =>
    /^(access_?token|token|api_?key|authorization|bearer|password)$/i.test(name),
  )
  if (found === undefined) return
  throw new WeirError(
    'api.bad_request',
    `Cannot take a credential from the URL: remove the parameter "${found}"`,
    {
      hint: 'Send it in the header Authorization: Bearer <token>, and replace a token that was in a URL.',
    },
  )
}
