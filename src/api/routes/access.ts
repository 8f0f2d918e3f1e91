import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { isWeirError, WeirError } from '../../errors.js'
import { EVERYONE, ROLES, type NamespaceScope } from '../../model/access.js'
import type { Access, AdminAction, NewToken, TokenRecord } from '../../ports/index.js'
import type { Caller } from '../caller.js'
import type { ApiContext } from '../context.js'
import { bodyField, bodyText } from '../guards/json-body.js'
import {
  AdminLogAnswer,
  AdminLogQuery,
  CreateTokenBody,
  CreateTokenAnswer,
  ListTokensAnswer,
  TokenAnswer,
  TokenPath,
  WhoAmIAnswer,
} from '../schemas.js'
import { rfc3339, type WireObject } from '../wire/index.js'
import { answers } from './answers.js'

const RECORDS_DEFAULT = 100
const TEN_YEARS_SECONDS = 10 * 366 * 24 * 60 * 60

/** Who is calling, API tokens, and the record of administrative actions. */
export function accessRoutes(app: FastifyInstance, context: ApiContext): void {
  const { access } = context
  const tags = ['auth']

  app.get('/api/v1/access/whoami', { schema: { tags, ...answers(WhoAmIAnswer) } }, (request) =>
    whoAmI(callerOf(request), access !== undefined),
  )

  app.get('/api/v1/access/tokens', { schema: { tags, ...answers(ListTokensAnswer) } }, () => ({
    NextToken: '',
    Items: wanted(access).tokens().map(tokenToWire),
  }))

  app.post(
    '/api/v1/access/tokens',
    { schema: { tags, body: CreateTokenBody, ...answers(CreateTokenAnswer) } },
    async (request, reply) => {
      const { principal } = callerOf(request)
      const token = readNewToken(request.body, Date.now())
      const details = {
        role: token.role,
        namespaces: token.namespaces === '*' ? '*' : token.namespaces.join(' '),
        ...(token.expiresMs === undefined ? {} : { expires: rfc3339(token.expiresMs) }),
      }
      const made = await recorded(
        context,
        request,
        { action: 'token.create', object: token.name, details },
        () => wanted(access).createToken(token, principal),
      )
      reply.header('cache-control', 'no-store')
      return { Token: made.token, Record: tokenToWire(made.record) }
    },
  )

  app.delete<{ Params: { id: string } }>(
    '/api/v1/access/tokens/:id',
    { schema: { tags, params: TokenPath, ...answers(TokenAnswer) } },
    async (request) => {
      const { id } = request.params
      const record = await recorded(context, request, { action: 'token.revoke', object: id }, () =>
        wanted(access).revokeToken(id),
      )
      return { Record: tokenToWire(record) }
    },
  )

  app.get<{ Querystring: Static<typeof AdminLogQuery> }>(
    '/api/v1/access/audit',
    { schema: { tags, querystring: AdminLogQuery, ...answers(AdminLogAnswer) } },
    (request) => readAdminLog(context, request.query),
  )
}

function callerOf(request: FastifyRequest): Caller {
  if (request.caller === undefined) throw new WeirError('internal', 'A request was not authorized')
  return request.caller
}

function wanted(access: Access | undefined): Access {
  if (access !== undefined) return access
  throw new WeirError('access.off', 'Cannot work with tokens: this server asks nobody who they are', {
    hint: 'Start it with `weir serve --auth` (API.Auth.Mode=on).',
  })
}

/** The record comes first: what cannot be recorded is not done. */
async function recorded<Result>(
  { adminLog, access }: ApiContext,
  request: FastifyRequest,
  what: Pick<AdminAction, 'action' | 'object' | 'details'>,
  work: () => Result,
): Promise<Result> {
  wanted(access)
  const { principal, address } = callerOf(request)
  const line = { principal: principal.id, principalName: principal.name, address, ...what }
  if (adminLog === undefined)
    throw new WeirError(
      'audit.unavailable',
      'Cannot change tokens: administrative actions are not recorded here',
    )
  await adminLog.append({ ...line, outcome: 'allowed' })
  try {
    return work()
  } catch (error) {
    const reason = isWeirError(error) ? error.code : 'internal'
    await adminLog.append({ ...line, outcome: 'failed', details: { ...what.details, reason } })
    throw error
  }
}

function whoAmI({ principal }: Caller, isAuthenticated: boolean): WireObject {
  return {
    Authenticated: isAuthenticated,
    ID: principal.id,
    Name: principal.name,
    Kind: principal.kind,
    Role: principal.role ?? '',
    Permissions: [...principal.permissions],
    Namespaces: principal.namespaces === '*' ? ['*'] : [...principal.namespaces],
    ...(principal.expiresMs === undefined ? {} : { ExpiresAt: rfc3339(principal.expiresMs) }),
    ...(principal.id === EVERYONE.id ? { Hint: 'This server asks nobody who they are' } : {}),
  }
}

function tokenToWire(record: TokenRecord): WireObject {
  const time = (name: string, ms: number | undefined): WireObject =>
    ms === undefined ? {} : { [name]: rfc3339(ms) }
  return {
    ID: record.id,
    Name: record.name,
    Role: record.role,
    Namespaces: record.namespaces === '*' ? ['*'] : [...record.namespaces],
    CreatedAt: rfc3339(record.createdMs),
    CreatedBy: record.createdBy,
    ...time('ExpiresAt', record.expiresMs),
    ...time('LastUsedAt', record.lastUsedMs),
    ...time('RevokedAt', record.revokedMs),
  }
}

function readNewToken(body: unknown, now: number): NewToken {
  const role = ROLES.find((one) => one === bodyText(body, 'Role', 64).toLowerCase())
  if (role === undefined)
    throw new WeirError('access.invalid', `Cannot make the token: the role is none of ${ROLES.join(', ')}`, {
      hint: 'Send {"Name": …, "Role": "submitter", "Namespaces": ["default"]}.',
    })
  const seconds = bodyField(body, 'ExpiresInSeconds')
  if (seconds !== undefined && seconds !== null && !isLifetime(seconds))
    throw new WeirError(
      'access.invalid',
      `Cannot make the token: ExpiresInSeconds must be a whole number from 1 to ${TEN_YEARS_SECONDS}`,
      { hint: 'Leave it out for a token that does not expire.' },
    )
  return {
    name: bodyText(body, 'Name', 200).trim(),
    role,
    namespaces: readScope(bodyField(body, 'Namespaces'), role),
    ...(isLifetime(seconds) ? { expiresMs: now + seconds * 1_000 } : {}),
  }
}

function isLifetime(seconds: unknown): seconds is number {
  return Number.isInteger(seconds) && Number(seconds) >= 1 && Number(seconds) <= TEN_YEARS_SECONDS
}

/** Absent: nothing, except for an admin, who is bound to no namespaces anyway. */
function readScope(value: unknown, role: string): NamespaceScope {
  if (value === undefined || value === null) return role === 'admin' ? '*' : []
  if (!Array.isArray(value) || value.some((one) => typeof one !== 'string'))
    throw new WeirError('access.invalid', 'Cannot make the token: Namespaces must be a list of texts')
  return value.includes('*') ? '*' : (value as string[])
}

async function readAdminLog(
  { adminLog }: ApiContext,
  query: Static<typeof AdminLogQuery>,
): Promise<WireObject> {
  if (adminLog === undefined)
    throw new WeirError('audit.unavailable', 'Cannot read it: administrative actions are not recorded here', {
      hint: 'A node that keeps its jobs on disk records them.',
    })
  const limit = query.limit || RECORDS_DEFAULT
  const before = query.next_token === undefined ? undefined : readBefore(query.next_token)
  const items = await adminLog.read({ before, limit })
  const first = items[0]?.sequence ?? 0
  return {
    NextToken: items.length === limit && first > 1 ? String(first) : '',
    Items: items,
    ...(query.verify === true ? { Verdict: await adminLog.verify() } : {}),
  }
}

function readBefore(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new WeirError('api.bad_request', `Cannot read the page token ${JSON.stringify(text.slice(0, 80))}`, {
    hint: 'Pass the NextToken of the page before, unchanged; leave it out for the newest records.',
  })
}
