import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createApiServer } from '../../src/api/index.js'
import { MemoryJobService, nodeInfo } from './memory-job-service.js'
import { NODE_ID, startServer, type Server } from './with-server.js'

let server: Server
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server.close())

describe('the OpenAPI document', () => {
  it('is version 3.1 with title, version and paths', () => {
    expect(server.document.openapi).toBe('3.1.0')
    expect(server.document.info).toMatchObject({ title: 'weir', version: '0.1.0' })
    expect(Object.keys(server.document.paths).length).toBeGreaterThan(20)
  })

  it('has every route that the server serves, except those that are gone', async () => {
    const served: string[] = []
    const api = await createApiServer({
      jobs: new MemoryJobService(),
      identity: { nodeId: NODE_ID },
      nodeInfo: () => nodeInfo(NODE_ID),
      version: { weir: '0.1.0' },
    })
    await api.fastify.ready()
    const lines = api.fastify.printRoutes({ commonPrefix: false, includeHooks: false })
    for (const { path, methods } of routesOf(lines)) {
      for (const method of methods) served.push(`${method} ${path}`)
    }
    await api.close()
    const documented = Object.entries(server.document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const expected = served.filter(
      (route) => !route.startsWith('HEAD ') && !route.endsWith('/*') && !route.endsWith('/openapi.json'),
    )
    expect(expected.length).toBeGreaterThan(20)
    expect([...documented].sort()).toEqual([...expected].sort())
  })

  it('describes for every operation what success and errors look like', () => {
    for (const [path, operations] of Object.entries(server.document.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        expect(Object.keys(operation.responses).sort(), `${method} ${path}`).toEqual(['200', 'default'])
        for (const response of Object.values(operation.responses)) {
          expect(Object.values(response.content ?? {})[0]?.schema, `${method} ${path}`).toBeTypeOf('object')
        }
      }
    }
  })

  it('shows the job specification with its rules in the body of a submission', () => {
    const put = server.document.paths['/api/v1/orchestrator/jobs']?.put as unknown as {
      requestBody: {
        content: { 'application/json': { schema: { properties: { Job: { properties: object } } } } }
      }
    }
    const { Job: job } = put.requestBody.content['application/json'].schema.properties
    expect(Object.keys(job.properties)).toEqual(expect.arrayContaining(['Name', 'Type', 'Count', 'Tasks']))
  })

  it('declares every query parameter that the routes read', () => {
    const names = (path: string) => {
      const get = server.document.paths[path]?.get as unknown as {
        parameters: { name: string; in: string }[]
      }
      return get.parameters.filter((parameter) => parameter.in === 'query').map((parameter) => parameter.name)
    }
    expect(names('/api/v1/orchestrator/jobs')).toEqual(
      expect.arrayContaining(['namespace', 'labels', 'order_by', 'reverse', 'limit', 'next_token']),
    )
    expect(names('/api/v1/orchestrator/nodes')).toEqual(
      expect.arrayContaining(['filter-approval', 'filter_approval', 'filter-status']),
    )
    expect(names('/api/v1/orchestrator/jobs/{id}/logs')).toEqual(
      expect.arrayContaining([
        ...['execution_id', 'follow', 'tail', 'encoding'],
        ...['namespace', 'job_version', 'all_job_versions'],
      ]),
    )
  })
})

/** Reads fastify's tree of routes: indentation is depth, a line ends with its methods. */
function routesOf(tree: string): { path: string; methods: string[] }[] {
  const parents: string[] = []
  return tree.split('\n').flatMap((line) => {
    const match = /^((?:│ {3}| {4})*)[├└]── (\S+)(?: \(([A-Z, ]+)\))?/.exec(line)
    if (match === null) return []
    const [, indent = '', segment = '', methods] = match
    const depth = indent.length / 4
    parents.length = depth
    parents.push(segment)
    const path = parents.join('').replace(/:(\w+)/g, '{$1}')
    return methods === undefined ? [] : [{ path, methods: methods.split(', ') }]
  })
}
