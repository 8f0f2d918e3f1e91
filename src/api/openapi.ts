import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import { writeJson } from './wire/index.js'

/** Must be called before the routes: it collects them as they are added. Serves `/api/v1/openapi.json`. */
export async function serveOpenApi(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'weir',
        version,
        description:
          'Bacalhau’s API v1, with additions. Object keys of requests match without regard to case; unknown keys are ignored.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: [
        { name: 'jobs', description: 'Jobs, their executions, history, results, output and egress' },
        { name: 'nodes', description: 'Nodes of the network' },
        { name: 'agent', description: 'The node that answers' },
        { name: 'auth', description: 'How to obtain a token' },
      ],
    },
  })
  let document: string | undefined
  app.get('/api/v1/openapi.json', { schema: { hide: true } }, (_request, reply) => {
    document ??= writeJson(app.swagger(), 2)
    return reply.type('application/json; charset=utf-8').send(document)
  })
}
