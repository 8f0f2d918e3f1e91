import { Buffer } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { WeirError } from '../errors.js'
import { describeUrl } from './describe-url.js'
import { guardedRequest, type GuardedRequest, type RequestContext } from './guarded-request.js'

export interface FollowContext extends RequestContext {
  redirectsMax: number
  /** True when the content is verified by a checksum: only then may a redirect lead from https to http. */
  verified: boolean
}

const REDIRECTS = [301, 302, 303, 307, 308]

/**
 * A request with its redirects. Every hop goes through the guard, so a public server cannot lead the node to a private
 * address. Credentials in the URL are sent as Basic authorization, and only to the URL's own origin.
 * Rejects as {@link guardedRequest} does, with `source.refused` for a redirect to another scheme or from https to http
 * (unless a checksum proves the content), and with `source.unavailable` after too many hops.
 */
export async function requestFollowing(
  start: URL,
  { method, headers }: GuardedRequest,
  context: FollowContext,
  signal: AbortSignal,
): Promise<{ response: IncomingMessage; url: URL }> {
  let url = start
  for (let hop = 0; hop <= context.redirectsMax; hop += 1) {
    const authorization = url.origin === start.origin ? basicAuthorization(start) : {}
    const response = await guardedRequest(
      url,
      { method, headers: { ...headers, ...authorization } },
      context,
      signal,
    )
    const location = response.headers.location
    if (!REDIRECTS.includes(response.statusCode ?? 0) || location === undefined) return { response, url }
    response.destroy()
    url = nextUrl(url, location, context)
  }
  throw new WeirError(
    'source.unavailable',
    `Cannot fetch "${describeUrl(start)}": more than ${context.redirectsMax} redirects`,
    { hint: 'Use the URL at the end of the redirects' },
  )
}

function nextUrl(from: URL, location: string, { verified }: FollowContext): URL {
  const next = URL.canParse(location, from.href) ? new URL(location, from) : undefined
  if (next === undefined)
    throw new WeirError(
      'source.unavailable',
      `Cannot fetch "${describeUrl(from)}": the server redirects to something that is no URL`,
    )
  next.hash = ''
  const problem = redirectProblem(from, next, verified)
  if (problem === undefined) return next
  throw new WeirError(
    'source.refused',
    `Cannot follow the redirect from "${describeUrl(from)}" to "${describeUrl(next)}": ${problem}`,
    { hint: 'Use the URL at the end of the redirects, or give the SHA256 of the file' },
  )
}

function redirectProblem(from: URL, to: URL, verified: boolean): string | undefined {
  if (to.protocol !== 'http:' && to.protocol !== 'https:') return 'only http and https are fetched'
  if (from.protocol === 'https:' && to.protocol === 'http:' && !verified)
    return 'it leads from https to http and no SHA256 proves the content'
  return undefined
}

function basicAuthorization({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {}
  const pair = `${percentDecoded(username)}:${percentDecoded(password)}`
  return { Authorization: `Basic ${Buffer.from(pair).toString('base64')}` }
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // a lone "%" stands for itself
  }
}
