import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isWeirError, WeirError } from '../../errors.js'
import { EVERYONE, type Permission, type Principal } from '../../model/access.js'
import type { Access } from '../../ports/index.js'
import type { Caller, CallerScope } from '../caller.js'
import type { Refusal } from '../refusal-record.js'
import { ruleOf, type RouteRule } from '../route-rules.js'
import { readCredential, refuseCredentialInQuery } from './credential.js'
import { PrincipalRate } from './principal-rate.js'

export interface AuthorizeOptions {
  /** Absent: nobody has to authenticate, and everybody may do everything. */
  access: Access | undefined
  scope: CallerScope
  /** Per principal. */
  requestsPerSecond: number
  /** True for addresses from which jobs could call. */
  isJobAddress: (address: string) => boolean
  /** Told about refused credentials, and about administrative actions that were refused. */
  onRefused: (refusal: Refusal) => void
}

/**
 * Decides who is calling and whether it may, before the request is read any further; websocket upgrades included. The
 * rule belongs to the route that was found, so no spelling of a path leads around it:
 *
 * 1. Credentials in the URL are refused.
 * 2. Open routes: everybody, whatever they send with it.
 * 3. Nobody has to authenticate: everything, except changes that come from where jobs run.
 * 4. The credential decides: 401 without a good one, 429 with too many bad ones.
 * 5. Permission of the route: 403. A route without a rule is refused as well.
 */
export function authorizeRequests(app: FastifyInstance, options: AuthorizeOptions): void {
  const { access, scope, isJobAddress } = options
  const rate = new PrincipalRate(options.requestsPerSecond)
  app.decorateRequest('caller', undefined)

  app.addHook('onRequest', async (request) => {
    const address = request.ip ?? ''
    const rule = ruleFor(request)
    if (access === undefined) {
      if (isChange(request, rule)) refuseJobs(request, address, isJobAddress)
      request.caller = { principal: EVERYONE, ended: NEVER, address }
      return
    }
    let principal: Principal | undefined
    try {
      refuseCredentialInQuery(request.query)
      if (rule !== 'open') principal = await recognise(access, request, address)
      if (principal !== undefined) rate.take(principal.id)
      checkPermission(principal ?? NOBODY, rule)
      const ended = principal === undefined ? NEVER : access.endOf(principal)
      request.caller = { principal: principal ?? NOBODY, ended, address }
    } catch (error) {
      if (isNoteworthy(error, request, rule))
        options.onRefused({
          address,
          reason: reasonOf(error),
          ...(principal === undefined
            ? {}
            : { principal, route: `${request.method} ${request.routeOptions.url ?? ''}` }),
        })
      throw error
    }
  })

  // Directly before the handler: what reads the body in between would lose the scope.
  app.addHook('preHandler', (request, _reply, done) => {
    const { caller } = request
    if (caller === undefined) done(new WeirError('internal', 'A request was not authorized'))
    else scope.run(caller, done)
  })
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Set before anything else is done with the request. */
    caller: Caller | undefined
  }
}

const NEVER = new AbortController().signal

/** Who calls an open route: it may see nothing else. */
const NOBODY: Principal = Object.freeze({
  id: '',
  name: '',
  kind: 'user',
  permissions: new Set<Permission>(),
  namespaces: [],
})

/** Paths without a route are for every principal: they find nothing. */
function ruleFor(request: FastifyRequest): RouteRule | undefined {
  const { url } = request.routeOptions
  return request.is404 || url === undefined ? 'known' : ruleOf(request.method, url)
}

async function recognise(access: Access, request: FastifyRequest, address: string): Promise<Principal> {
  const credential = readCredential(request.raw)
  if (credential !== undefined) return access.authenticate(credential, address)
  throw new WeirError('api.unauthorized', 'Request Unauthorized', {
    details: { reason: 'the request carries no credential' },
  })
}

function checkPermission(principal: Principal, rule: RouteRule | undefined): void {
  if (rule === 'open' || rule === 'known') return
  if (rule?.some((permission) => principal.permissions.has(permission)) === true) return
  throw new WeirError('api.forbidden', 'Request Forbidden', {
    details: {
      reason:
        rule === undefined
          ? 'nobody may call this'
          : `"${principal.name}" needs the permission ${rule.join(' or ')}`,
    },
  })
}

function isChange(request: FastifyRequest, rule: RouteRule | undefined): boolean {
  if (rule === undefined) return !['GET', 'HEAD', 'OPTIONS'].includes(request.method)
  return Array.isArray(rule) && rule.some((permission: Permission) => !permission.startsWith('read:'))
}

/**
 * Jobs never start jobs. Where everybody may do everything, a caller at an address of a node could be a job; so could one
 * whose request went through a gateway. A mark only ever adds suspicion: leaving it out gains nothing.
 */
function refuseJobs(
  request: FastifyRequest,
  address: string,
  isJobAddress: (address: string) => boolean,
): void {
  const { via, 'x-bacalhau-job-id': jobId } = request.headers
  const isMarked = jobId !== undefined || /(^|,)\s*\S+\s+weir\s*(,|$)/i.test([via].flat().join(','))
  if (!isMarked && !isJobAddress(address)) return
  throw new WeirError(
    'api.from_job',
    'Cannot take changes from an address where jobs run: jobs never start jobs',
    {
      hint: 'On the machine of the node, talk to 127.0.0.1; from elsewhere, turn authentication on (API.Auth.Mode) and log in.',
    },
  )
}

/** A wrong credential, or somebody who tries what only an admin may; a missing credential is how clients begin. */
function isNoteworthy(
  error: unknown,
  request: FastifyRequest,
  rule: RouteRule | undefined,
): error is WeirError {
  if (isWeirError(error, 'api.unauthorized', 'api.overload'))
    return request.headers.authorization !== undefined
  if (!isWeirError(error, 'api.forbidden') || !Array.isArray(rule)) return false
  return rule.some((permission: Permission) => permission === 'write:node' || permission === 'manage:access')
}

function reasonOf({ message, details: { reason } }: WeirError): string {
  return typeof reason === 'string' ? reason : message
}
