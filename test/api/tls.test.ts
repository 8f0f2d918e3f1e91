import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createApiServer, type ApiServer } from '../../src/api/index.js'
import { WeirClient } from '../../src/client/index.js'
import { MemoryJobService, nodeInfo } from './memory-job-service.js'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0

describe.skipIf(!hasOpenssl)('the API over TLS (skipped without openssl)', () => {
  const jobs = new MemoryJobService()
  let api: ApiServer
  let url: string
  let cert: string

  beforeAll(async () => {
    const directory = mkdtempSync(join(tmpdir(), 'weir-tls-'))
    const paths = { key: join(directory, 'key.pem'), cert: join(directory, 'cert.pem') }
    const made = spawnSync('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=localhost',
      '-addext',
      'subjectAltName=DNS:localhost,IP:127.0.0.1',
      '-keyout',
      paths.key,
      '-out',
      paths.cert,
    ])
    expect(made.status, made.stderr.toString()).toBe(0)
    cert = readFileSync(paths.cert, 'utf8')
    const key = readFileSync(paths.key, 'utf8')
    rmSync(directory, { recursive: true })
    api = await createApiServer({
      jobs,
      identity: { nodeId: 'n-tls' },
      nodeInfo: () => nodeInfo('n-tls'),
      version: { weir: '0.1.0' },
      tls: { cert, key },
    })
    url = (await api.listen({ host: '127.0.0.1', port: 0 })).url
  })
  afterAll(() => api.close())

  it('answers calls and streams of a client that trusts its certificate', async () => {
    expect(url).toMatch(/^https:/)
    const client = new WeirClient({ baseUrl: url, tls: { ca: cert } })
    expect(await client.alive()).toEqual({ Status: 'OK' })
    const { JobID: id } = await client.submit({
      Type: 'batch',
      Tasks: [{ Name: 'main', Engine: { Type: 'docker', Params: { Image: 'alpine' } } }],
    })
    jobs.logsByJob.set(id, [{ executionId: 'e-1', stream: 'stdout', data: Buffer.from('hi'), timeMs: 1 }])
    for await (const chunk of client.logs(id)) expect(Buffer.from(chunk.data).toString()).toBe('hi')
    client.close()
  })

  it('is refused by a client that does not, unless it was told not to look', async () => {
    const strict = new WeirClient({ baseUrl: url })
    await expect(strict.alive()).rejects.toMatchObject({
      code: 'api.unreachable',
      hint: expect.stringContaining('certificate'),
    })
    const careless = new WeirClient({ baseUrl: url, tls: { insecure: true } })
    expect(await careless.alive()).toEqual({ Status: 'OK' })
    strict.close()
    careless.close()
  })
})
