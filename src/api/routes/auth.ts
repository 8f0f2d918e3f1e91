import type { FastifyInstance } from 'fastify'
import { WeirError } from '../../errors.js'
import type { AuthMethod } from '../authentication.js'
import type { ApiContext } from '../context.js'
import { bodyText } from '../guards/json-body.js'
import { AuthAnswer, AuthBody, AuthMethodsAnswer, AuthPath, AuthRequirementAnswer } from '../schemas.js'
import { answers } from './answers.js'

/** Anybody may send one, so it must be cheap to read. */
const BODY_BYTES_MAX = 128 * 1024

/** How clients obtain a token. The stock CLI cannot work with a server that has no method. */
export function authRoutes(app: FastifyInstance, context: ApiContext): void {
  const methods = new Map(context.authMethods.map((method) => [method.name, method]))
  const tags = ['auth']

  app.get('/api/v1/auth', { schema: { tags, ...answers(AuthMethodsAnswer) } }, () => ({
    NextToken: '',
    Methods: Object.fromEntries([...methods].map(([name, method]) => [name, method.requirement])),
  }))

  app.get<{ Params: { name: string } }>(
    '/api/v1/auth/:name',
    { schema: { tags, params: AuthPath, ...answers(AuthRequirementAnswer) } },
    (request) => findMethod(methods, request.params.name).requirement,
  )

  app.post<{ Params: { name: string } }>(
    '/api/v1/auth/:name',
    { bodyLimit: BODY_BYTES_MAX, schema: { tags, params: AuthPath, body: AuthBody, ...answers(AuthAnswer) } },
    async (request, reply) => {
      const method = findMethod(methods, request.params.name)
      const data = Buffer.from(bodyText(request.body, 'MethodData', 65_536), 'base64')
      const outcome = await method.authenticate(data, request.ip ?? '')
      return reply.code(outcome.success ? 200 : 401).send({ Authentication: outcome })
    },
  )
}

function findMethod(methods: ReadonlyMap<string, AuthMethod>, name: string): AuthMethod {
  const method = methods.get(name.toLowerCase())
  if (method !== undefined) return method
  throw new WeirError('api.not_found', `Cannot find the authentication method ${JSON.stringify(name)}`, {
    hint: `Methods of this server: ${[...methods.keys()].join(', ')}.`,
  })
}
