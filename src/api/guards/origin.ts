import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { WeirError } from '../../errors.js'

/** From where requests are taken. */
export interface OriginRules {
  /** True when the server listens on loopback only, or on a Unix socket. */
  loopbackOnly: boolean
  /** More names under which this server may be addressed. Lower case, without port. */
  allowedHosts: readonly string[]
  /** Web origins (`https://ui.example.net`) whose pages may call the API. `*` = every page. */
  allowedOrigins: readonly string[]
}

/**
 * Keeps web pages of strangers away from an API that trusts whoever can reach it.
 *
 * 1. Host: a server that listens on loopback only takes requests for loopback names and addresses and for
 *    `allowedHosts`; anything else is a foreign name that was made to resolve to this machine (DNS rebinding). A
 *    server that listens elsewhere checks the name only when `allowedHosts` is filled.
 * 2. Origin: programs send none. A page is served when its origin is listed, is on loopback, or has the very host of
 *    the request while that host is an address or a known name (a rebound name is neither).
 *
 * Returns the origin to allow in the CORS answer, or undefined when the request has none. Throws `api.refused`.
 */
export function checkOrigin(
  host: string | undefined,
  origin: string | undefined,
  rules: OriginRules,
): string | undefined {
  const name = hostName(host ?? '')
  if (!isHostServed(name, rules)) {
    throw new WeirError('api.refused', `Cannot serve the host name ${JSON.stringify(name.slice(0, 120))}`, {
      hint: 'Address the server as localhost or by its IP address, or list the name in API.AllowedHosts.',
    })
  }
  if (origin === undefined || rules.allowedOrigins.includes('*')) return origin
  if (isOriginServed(origin, name, rules)) return origin
  throw new WeirError('api.refused', `Cannot serve the web page at ${JSON.stringify(origin.slice(0, 120))}`, {
    hint: 'List the origin in API.AllowedOrigins if its pages may control this server.',
  })
}

function isHostServed(name: string, rules: OriginRules): boolean {
  if (isLoopbackName(name) || rules.allowedHosts.includes(name)) return true
  if (rules.loopbackOnly) return false
  return rules.allowedHosts.length === 0 || isIP(name) !== 0
}

function isOriginServed(origin: string, requestName: string, rules: OriginRules): boolean {
  if (rules.allowedOrigins.includes(origin)) return true
  const match = /^https?:\/\/([^/?#@]+)$/.exec(origin)
  if (match === null) return false
  const name = hostName(match[1] ?? '')
  if (isLoopbackName(name)) return true
  return name === requestName && isKnownName(name, rules)
}

function isKnownName(name: string, rules: OriginRules): boolean {
  return isIP(name) !== 0 || rules.allowedHosts.includes(name) || name === hostname().toLowerCase()
}

function isLoopbackName(name: string): boolean {
  if (name === 'localhost' || name.endsWith('.localhost') || name === '::1') return true
  return isIP(name) === 4 && name.startsWith('127.')
}

/** Lower case, without port, brackets and trailing dot. */
function hostName(authority: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(authority)
  const name = bracketed === null ? authority.replace(/:\d*$/, '') : (bracketed[1] ?? '')
  return name.toLowerCase().replace(/\.$/, '')
}
