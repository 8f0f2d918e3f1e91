import Schema from 'typebox/schema'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { COMMON_NODE } from '../../src/api/example-records.js'
import { EXAMPLES } from '../../src/api/examples.js'
import { OPERATIONS } from '../../src/api/operations.js'
import { createApiServer } from '../../src/api/index.js'
import type { OpenApi } from './openapi-conformance.js'
import { MemoryJobService, nodeInfo, nodeRecord } from './memory-job-service.js'
import { NODE_ID, startServer, submit, type Server } from './with-server.js'

let server: Server
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server.close())

const EMPTY_CID = 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku'

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
      blobs: server.blobs,
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
    for (const [name, operation] of operations()) {
      const statuses = Object.keys(operation.responses)
      expect(statuses, name).toEqual(expect.arrayContaining(['200', '401', '403', '429', '500', 'default']))
      for (const response of Object.values(operation.responses)) {
        expect(Object.values(response.content ?? {})[0]?.schema, name).toBeTypeOf('object')
        expect((response as { description?: string }).description, name).toBeTypeOf('string')
      }
    }
  })

  it('has a summary, a unique id and an example for every operation, and no text about operations that are gone', () => {
    const names = operations().map(([name]) => name)
    expect(names.toSorted()).toEqual(Object.keys(OPERATIONS).toSorted())
    expect(names.toSorted()).toEqual(Object.keys(EXAMPLES).toSorted())
    const ids = operations().map(([, operation]) => operation.operationId)
    expect(new Set(ids).size).toBe(names.length)
    for (const [name, operation] of operations()) {
      expect(operation.summary, name).toBe(OPERATIONS[name]?.summary)
    }
  })

  it('shows examples that fit their schemas, errors included', () => {
    for (const [name, operation] of operations()) {
      for (const [status, response] of Object.entries(operation.responses)) {
        for (const content of Object.values(response.content ?? {})) {
          const examples = Object.values((content as Content).examples ?? {})
          if (status !== 'default') expect(examples.length, `${name} ${status}`).toBeGreaterThan(0)
          for (const { value } of examples) {
            const [fits, errors] = Schema.Errors(content.schema ?? {}, value)
            expect(fits, `${name} ${status} ${JSON.stringify(errors)}`).toBe(true)
          }
        }
      }
    }
  })

  it('shows bodies that the server accepts', async () => {
    const id = await submit(server)
    for (const [name, { body }] of Object.entries(EXAMPLES)) {
      const [method = '', path = ''] = name.split(' ')
      // Those of the network's list and of requests need a desk: test/api/egress-desk.test.ts.
      const isApart = /\/(access|node_tokens|auth|egress\/(allow|requests))\b/.test(path)
      if (body === undefined || isApart) continue
      server.jobs.nodesById.set(COMMON_NODE, nodeRecord(COMMON_NODE, { membership: 'PENDING' }))
      const target = path.replace('{id}', path.includes('/nodes/') ? COMMON_NODE : id)
      const isBlob = path.includes('/blobs/')
      const answer = isBlob
        ? await server.call(method, path.replace('{cid}', EMPTY_CID), body, {
            'content-type': 'application/octet-stream',
          })
        : await server.call(method, target, body)
      expect(answer.status, `${name} ${answer.text}`).toBe(200)
    }
  })

  it('declares every parameter of its paths, and every parameter with a schema', () => {
    for (const [name, operation] of operations()) {
      const declared = (operation.parameters ?? []).filter(({ in: place }) => place === 'path')
      const named = [...name.matchAll(/\{(\w+)\}/g)].map((match) => match[1])
      expect(
        declared.map((parameter) => parameter.name),
        name,
      ).toEqual(named)
      for (const parameter of operation.parameters ?? []) {
        expect(['path', 'query'], name).toContain(parameter.in)
        expect(parameter.schema, `${name} ${parameter.name}`).toBeTypeOf('object')
        if (parameter.in === 'path') expect(parameter.required, name).toBe(true)
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
        'execution_id',
        'follow',
        'tail',
        'encoding',
        'namespace',
        'job_version',
        'all_job_versions',
      ]),
    )
  })
})

interface Content {
  schema?: object
  examples?: Record<string, { value: unknown }>
}

type Described = OpenApi['paths'][string][string] & {
  operationId?: string
  summary?: string
  parameters?: { name: string; in: string; required?: boolean; schema?: object }[]
}

function operations(): [name: string, operation: Described][] {
  return Object.entries(server.document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Described] => [
      `${method.toUpperCase()} ${path}`,
      operation,
    ]),
  )
}

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
