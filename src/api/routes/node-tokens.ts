import type { FastifyInstance } from 'fastify'
import { WeirError } from '../../errors.js'
import type { NodeToken, NodeTokenService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { bodyField, bodyText } from '../guards/json-body.js'
import { recorded } from '../recorded.js'
import {
  CreateNodeTokenAnswer,
  CreateNodeTokenBody,
  ListNodeTokensAnswer,
  TokenPath,
  UpdateNodeAnswer,
} from '../schemas.js'
import { rfc3339 } from '../wire/time.js'
import type { WireObject } from '../wire/index.js'
import { answers } from './answers.js'

const PATH = '/api/v1/orchestrator/node_tokens'

/** Tokens with which machines join the network. The secret is in the answer to its creation and nowhere else. */
export function nodeTokenRoutes(app: FastifyInstance, context: ApiContext): void {
  const tags = ['nodes']

  app.get(PATH, { schema: { tags, ...answers(ListNodeTokensAnswer) } }, async () => ({
    NextToken: '',
    Items: (await wanted(context).list()).map(tokenToWire),
  }))

  app.post(
    PATH,
    { schema: { tags, body: CreateNodeTokenBody, ...answers(CreateNodeTokenAnswer) } },
    async (request, reply) => {
      const { body } = request
      const wish = {
        description: bodyText(body, 'Description', 256),
        ...optionalNumber(body, 'ExpiresAfterSeconds', 1_000, 'expiresAfterMs'),
        ...optionalNumber(body, 'UsesMax', 1, 'usesMax'),
      }
      const { token, secret } = await recorded(
        context,
        request,
        { action: 'node.token.create', object: wish.description },
        () => wanted(context).create(wish),
      )
      reply.header('cache-control', 'no-store')
      return { Secret: secret, JoinURL: context.joinUrl ?? '', Token: tokenToWire(token) }
    },
  )

  app.delete<{ Params: { id: string } }>(
    `${PATH}/:id`,
    { schema: { tags, params: TokenPath, ...answers(UpdateNodeAnswer) } },
    async (request) => {
      const { id } = request.params
      await recorded(context, request, { action: 'node.token.revoke', object: id }, () =>
        wanted(context).revoke(id),
      )
      return { Success: true, success: true }
    },
  )
}

function wanted({ nodeTokens }: ApiContext): NodeTokenService {
  if (nodeTokens !== undefined) return nodeTokens
  throw new WeirError('api.not_found', 'This orchestrator takes no other machines', {
    hint: 'Open it with Orchestrator.Host or Orchestrator.Port, or run `weir serve --orchestrator`',
  })
}

function optionalNumber<Name extends string>(
  body: unknown,
  key: string,
  factor: number,
  name: Name,
): Partial<Record<Name, number>> {
  const value = bodyField(body, key)
  if (value === undefined || value === null) return {}
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new WeirError('api.bad_request', `Cannot read "${key}" of the body: it must be a whole number`)
  return { [name]: value * factor } as Record<Name, number>
}

function tokenToWire(token: NodeToken): WireObject {
  return {
    ID: token.id,
    Description: token.description,
    CreatedAt: rfc3339(token.createTimeMs),
    ...(token.expireTimeMs === 0 ? {} : { ExpiresAt: rfc3339(token.expireTimeMs) }),
    UsesMax: token.usesMax,
    Uses: token.uses,
  }
}
