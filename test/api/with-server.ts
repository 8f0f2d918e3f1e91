import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BlobStore } from '../../src/ports/index.js'
import { openBlobStore } from '../../src/stores/index.js'
import { createApiServer, type ApiServerOptions } from '../../src/api/index.js'
import { deviations, type OpenApi } from './openapi-conformance.js'
import { MemoryJobService, nodeInfo } from './memory-job-service.js'

export const NODE_ID = 'n-00000001-0000-4000-8000-000000000000'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  text: string
  /** The text as JSON; a test that reads a field that is not there fails. */
  // eslint-disable-next-line typescript/no-explicit-any
  json: any
}

export interface Server {
  jobs: MemoryJobService
  blobs: BlobStore
  url: string
  port: number
  /** What the server promises; every answer that `call` receives is held against it. */
  document: OpenApi
  /** Over real HTTP. A body that is not a string is sent as JSON. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** Without body, and without holding the answer against the document. */
  callRaw(method: string, path: string, headers: Record<string, string>): Promise<Answer>
  /** `METHOD path` of everything the server has. */
  routes: readonly string[]
  close(): Promise<void>
}

/** A real server on a real port, with jobs in memory. */
export async function startServer(options: Partial<ApiServerOptions> = {}): Promise<Server> {
  const jobs = new MemoryJobService()
  const dir = await mkdtemp(join(tmpdir(), 'weir-api-'))
  const blobs = await openBlobStore({
    dir,
    clock: { now: () => Date.now(), sleep: async () => {} },
    needed: async () => new Set(),
    limits: { blobBytesMax: 1_000_000, totalBytesMax: 10_000_000 },
  })
  const api = await createApiServer({
    jobs,
    blobs,
    identity: { nodeId: NODE_ID },
    nodeInfo: () => nodeInfo(NODE_ID),
    version: { weir: '0.1.0', gitCommit: 'abc', buildDate: '2024-11-29T10:11:12Z' },
    config: () => ({
      API: { Host: '127.0.0.1', Port: 1234 },
      Publishers: { Local: { AccessToken: 'hush' } },
    }),
    ...options,
  })
  const { url, port } = await api.listen({ host: '127.0.0.1', port: 0 })
  const document = (await call(port, 'GET', '/api/v1/openapi.json')).json as OpenApi
  return {
    jobs,
    blobs,
    url,
    port,
    document,
    call: async (method, path, ...rest) => {
      const answer = await call(port, method, path, ...rest)
      const type = answer.headers['content-type'] ?? ''
      const wrong = deviations(document, method, path, { status: answer.status, type, json: answer.json })
      if (wrong.length > 0) throw new Error(`${wrong.join('\n')}\n${answer.text}`)
      return answer
    },
    callRaw: (method, path, headers) => call(port, method, path, undefined, headers),
    routes: api.routes,
    close: async () => {
      await api.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

export const HELLO = {
  Name: 'hello',
  Type: 'batch',
  Count: 1,
  Labels: { team: 'x' },
  Tasks: [
    {
      Name: 'main',
      Engine: {
        Type: 'docker',
        Params: {
          Image: 'alpine',
          Entrypoint: null,
          Parameters: ['echo', 'hi'],
          EnvironmentVariables: ['A=1'],
          WorkingDirectory: '',
        },
      },
      Publisher: { Type: '' },
      Network: { Type: 'HTTP', Domains: ['example.org', '.example.com'] },
    },
  ],
}

/** Submits {@link HELLO} with changes and returns the job's id. */
export async function submit(server: Server, change: object = {}): Promise<string> {
  const answer = await server.call('PUT', '/api/v1/orchestrator/jobs', { Job: { ...HELLO, ...change } })
  if (answer.status !== 200) throw new Error(answer.text)
  return answer.json.JobID as string
}

function call(
  port: number,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
    const type =
      payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(payload)) }
    const request = httpRequest({ host: '127.0.0.1', port, method, path, headers: { ...type, ...headers } })
    request.on('error', reject)
    request.on('response', (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () => {
        const text = Buffer.concat(parts).toString('utf8')
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: parse(text) })
      })
    })
    request.end(payload)
  })
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // Not every answer is JSON; a test that expects JSON fails when it reads a field.
  }
}
