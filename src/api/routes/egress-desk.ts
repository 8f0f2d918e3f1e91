import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { WeirError } from '../../errors.js'
import {
  expandPresets,
  type ListChange,
  parseHostPatterns,
  PATTERNS_MAX,
  type Principal,
} from '../../model/index.js'
import { ACCESS_REQUEST_STATES, type AccessRequest, type JobService } from '../../ports/index.js'
import type { ApiContext, EgressDesk } from '../context.js'
import {
  AccessRequestAnswer,
  AccessRequestBody,
  AccessRequestPath,
  AccessRequestsAnswer,
  AccessRequestsQuery,
  ApproveAccessBody,
  DecidedAccessAnswer,
  DenyAccessBody,
  EditNetworkListAnswer,
  EditNetworkListBody,
  NetworkListAnswer,
} from '../egress-desk-schemas.js'
import { bodyField, bodyFlag, bodyText } from '../guards/json-body.js'
import { recorded } from '../recorded.js'
import { rfc3339, type WireObject } from '../wire/index.js'
import { answers } from './answers.js'

const LIST = '/api/v1/orchestrator/egress/allow'
const REQUESTS = '/api/v1/orchestrator/egress/requests'
/** What is longer than allowed is complained about where the rule is. */
const REASON_READ_MAX = 16_384

/** What operators do with the list of the network, and what users ask them to. */
export function egressDeskRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  const tags = ['nodes']

  app.get(LIST, { schema: { tags, ...answers(NetworkListAnswer) } }, async () => {
    const { version, limited, file, patterns } = await wanted(context).list.read()
    return {
      Version: version,
      Limited: limited,
      File: file,
      Patterns: patterns.map(({ text, where, comment }) => ({
        Pattern: text,
        Where: where,
        Comment: comment,
      })),
    }
  })

  app.post(
    LIST,
    { schema: { tags, body: EditNetworkListBody, ...answers(EditNetworkListAnswer) } },
    async (request) => {
      const { body } = request
      const add = readTexts(body, 'Add')
      const remove = readTexts(body, 'Remove')
      if (add.length + remove.length === 0)
        throw new WeirError('api.bad_request', 'Cannot change nothing: the body has neither Add nor Remove')
      const edit = { add, remove, comment: bodyText(body, 'Comment', 256) }
      const [dryRun, begin] = [bodyFlag(body, 'DryRun'), bodyFlag(body, 'Begin')]
      const { list } = wanted(context)
      // Judged first: what would be refused is no administrative action.
      const planned = await list.edit(edit, { dryRun: true, begin })
      if (dryRun || isNothing(planned)) return changeToWire(planned, dryRun)
      const details = {
        ...(planned.added.length === 0 ? {} : { added: planned.added.join(' ') }),
        ...(planned.removed.length === 0 ? {} : { removed: planned.removed.join(' ') }),
        ...(begin ? { begin: 'true' } : {}),
      }
      const done = await recorded(
        context,
        request,
        { action: 'egress.list.change', object: `version ${planned.version}`, details },
        () => list.edit(edit, { begin }),
      )
      return changeToWire(done, false)
    },
  )

  app.get<{ Querystring: Static<typeof AccessRequestsQuery> }>(
    REQUESTS,
    { schema: { tags, querystring: AccessRequestsQuery, ...answers(AccessRequestsAnswer) } },
    (request) => {
      const who = principalOf(request)
      const { state } = request.query
      if (state !== undefined && !ACCESS_REQUEST_STATES.some((one) => one === state))
        throw new WeirError(
          'api.bad_request',
          `Cannot list requests in state ${JSON.stringify(state.slice(0, 40))}`,
          {
            hint: `Use one of ${ACCESS_REQUEST_STATES.join(', ')}.`,
          },
        )
      const found = wanted(context)
        .requests.list()
        .filter((one) => sees(who, one) && (state === undefined || one.state === state))
      return { Items: found.map((one) => requestToWire(one, who)) }
    },
  )

  app.post(
    REQUESTS,
    { schema: { tags, body: AccessRequestBody, ...answers(AccessRequestAnswer) } },
    async (request) => {
      const who = principalOf(request)
      const { requests } = wanted(context)
      const { domains } = expandPresets(readTexts(request.body, 'Domains'), context.presets)
      const patterns = parseHostPatterns(domains).map(({ text }) => text)
      const reason = bodyText(request.body, 'Reason', REASON_READ_MAX)
      const asker = { principal: who.id, principalName: who.name, reason }
      const what = { action: 'egress.request', object: patterns.join(' '), details: { reason } }
      // What is refused leaves no line: the record is bounded, and nobody may push out what others did.
      const asked = await requests.ask(patterns, asker, (keep) => recorded(context, request, what, keep))
      return { Request: requestToWire(asked.request, who), New: asked.isNew }
    },
  )

  app.get<{ Params: { id: string } }>(
    `${REQUESTS}/:id`,
    { schema: { tags, params: AccessRequestPath, ...answers(AccessRequestAnswer) } },
    (request) => {
      const who = principalOf(request)
      const found = wanted(context).requests.find(request.params.id, (one) => sees(who, one))
      return { Request: requestToWire(found, who), New: false }
    },
  )

  app.post<{ Params: { id: string } }>(
    `${REQUESTS}/:id/approve`,
    {
      schema: { tags, params: AccessRequestPath, body: ApproveAccessBody, ...answers(DecidedAccessAnswer) },
    },
    async (request) => {
      const who = principalOf(request)
      const { list, requests } = wanted(context)
      const found = requests.find(request.params.id, () => true)
      const { patterns } = found
      requireSeen(readTexts(request.body, 'Domains'), found)
      const reason = bodyText(request.body, 'Reason', REASON_READ_MAX)
      const what = {
        action: 'egress.request.approve',
        object: found.id,
        details: { domains: patterns.join(' '), reason },
      }
      const decided = await requests.decide(found.id, { state: 'approved', reason }, () =>
        recorded(context, request, what, async () => {
          const comment = `${found.id} ${found.askers[0]?.principalName ?? ''}`.trim()
          const added = await addTo(list, patterns, comment)
          return { principal: who.id, principalName: who.name, ...added }
        }),
      )
      const check = await jobs.checkEgress({ domains: patterns })
      return {
        Request: requestToWire(decided, who),
        Accepting: check.fitting,
        Refusing: check.nodes
          .filter(({ fits }) => !fits)
          .map(({ nodeId, reasons, missing }) => ({
            NodeID: nodeId,
            Reasons: reasons.map(({ message }) => message),
            Missing: missing.map(({ pattern, owner, code }) => ({
              Pattern: pattern,
              Owner: owner,
              Code: code,
            })),
          })),
      }
    },
  )

  app.post<{ Params: { id: string } }>(
    `${REQUESTS}/:id/deny`,
    { schema: { tags, params: AccessRequestPath, body: DenyAccessBody, ...answers(AccessRequestAnswer) } },
    async (request) => {
      const who = principalOf(request)
      const { requests } = wanted(context)
      const found = requests.find(request.params.id, () => true)
      const reason = bodyText(request.body, 'Reason', REASON_READ_MAX)
      const what = { action: 'egress.request.deny', object: found.id, details: { reason } }
      const decided = await requests.decide(found.id, { state: 'denied', reason }, () =>
        recorded(context, request, what, async () => ({
          principal: who.id,
          principalName: who.name,
          added: [],
        })),
      )
      return { Request: requestToWire(decided, who), New: false }
    },
  )
}

function wanted({ egressDesk }: ApiContext): EgressDesk {
  if (egressDesk !== undefined) return egressDesk
  throw new WeirError(
    'api.not_found',
    'This server keeps neither a list of the network nor requests for access',
  )
}

function principalOf({ caller }: FastifyRequest): Principal {
  if (caller === undefined) throw new WeirError('internal', 'A request was not authorized')
  return caller.principal
}

function decides(who: Principal): boolean {
  return who.permissions.has('write:node')
}

function sees(who: Principal, { askers }: AccessRequest): boolean {
  return decides(who) || askers.some(({ principal }) => principal === who.id)
}

/** What was shown has to be what is approved: a request never changes, and who approves names what he saw. */
function requireSeen(texts: readonly string[], { id, patterns }: AccessRequest): void {
  const seen = new Set(parseHostPatterns(texts).map(({ text }) => text))
  if (seen.size === patterns.length && patterns.every((pattern) => seen.has(pattern))) return
  throw new WeirError(
    'request.invalid',
    `Cannot approve request ${id}: these are not the hosts that it asks for`,
    {
      hint: `It asks for ${patterns.slice(0, 5).join(', ')}${patterns.length > 5 ? ', …' : ''}; name all of them and no others.`,
    },
  )
}

/** A network without a list allows everything: there is nothing to add, and nothing must be closed by an approval. */
async function addTo(
  list: EgressDesk['list'],
  patterns: readonly string[],
  comment: string,
): Promise<{ added: string[]; networkVersion: number }> {
  const { limited, version } = await list.read()
  if (!limited) return { added: [], networkVersion: version }
  const change = await list.edit({ add: patterns, comment })
  return { added: change.added, networkVersion: change.version }
}

function readTexts(body: unknown, key: string): string[] {
  const value = bodyField(body, key) ?? []
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string'))
    throw new WeirError('api.bad_request', `Cannot read "${key}" of the body: it must be a list of strings`)
  if (value.length <= PATTERNS_MAX) return value as string[]
  throw new WeirError('api.bad_request', `Cannot take ${value.length} hosts, at most ${PATTERNS_MAX}`)
}

function isNothing({ added, removed }: ListChange): boolean {
  return added.length === 0 && removed.length === 0
}

function changeToWire(change: ListChange & { version: number }, dryRun: boolean): WireObject {
  const places = (all: readonly { pattern: string; by?: string; where: string }[]): WireObject[] =>
    all.map(({ pattern, by = '', where }) => ({ Pattern: pattern, By: by, Where: where }))
  return {
    Version: change.version,
    DryRun: dryRun,
    Added: change.added,
    Removed: change.removed,
    Present: places(change.present),
    Covered: places(change.covered),
    Redundant: places(change.redundant),
    Absent: change.absent,
    StillAllowed: places(change.stillAllowed),
  }
}

/** Who asked besides, and who decided, is for operators. */
function requestToWire(request: AccessRequest, who: Principal): WireObject {
  const { id, patterns, state, createTimeMs, expireTimeMs, askers, decision } = request
  const shown = decides(who) ? askers : askers.filter(({ principal }) => principal === who.id)
  return {
    ID: id,
    State: state,
    Domains: patterns,
    CreatedAt: rfc3339(createTimeMs),
    ExpiresAt: rfc3339(expireTimeMs),
    Askers: shown.map(({ principal, principalName, reason, timeMs }) => ({
      ID: principal,
      Name: principalName,
      Reason: reason,
      At: rfc3339(timeMs),
    })),
    ...(decision === undefined
      ? {}
      : {
          Decision: {
            By: decides(who) ? decision.principalName : '',
            Reason: decision.reason,
            At: rfc3339(decision.timeMs),
            Added: decision.added,
            NetworkVersion: decision.networkVersion ?? 0,
          },
        }),
  }
}
