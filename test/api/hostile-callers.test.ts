import { connect, type Socket } from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createApiServer, type ApiServer } from '../../src/api/index.js'
import { scopedJobs } from '../../src/api/scoped-jobs.js'
import { CallerScope } from '../../src/api/caller.js'
import { permissionsOf, type Principal } from '../../src/model/index.js'
import type { JobService } from '../../src/ports/index.js'
import { selfSignedCertificate } from '../../src/node/door/self-signed.js'
import { MemoryJobService, nodeInfo } from './memory-job-service.js'
import { startGuardedServer, type GuardedServer } from './with-access.js'

const JOB = {
  Type: 'batch',
  Namespace: 'shared',
  Tasks: [{ Name: 'main', Engine: { Type: 'docker', Params: { Image: 'busybox' } } }],
}

describe('a caller who means harm', () => {
  let server: GuardedServer
  beforeAll(async () => {
    server = await startGuardedServer()
  })
  afterAll(() => server.close())

  async function put(token: string, job: object, version = 'v1.9.0') {
    const answer = await server.call(
      'PUT',
      '/api/v1/orchestrator/jobs',
      { Job: job },
      { authorization: `Bearer ${token}`, 'x-bacalhau-git-version': version },
    )
    expect(answer.status, answer.text).toBe(200)
    return answer.json.JobID as string
  }

  it('cannot push what others did out of the record by touching one job again and again', async () => {
    const owner = server.token('submitter', ['shared']).text
    const noisy = server.token('submitter', ['shared'])
    const id = await put(owner, JOB)
    const before = (await server.adminLog.read({ limit: 1 }))[0]?.sequence ?? 0
    for (let count = 0; count < 50; count++) {
      await server.as(noisy.text, 'DELETE', `/api/v1/orchestrator/jobs/${id}`, {})
    }
    const written = (await server.adminLog.read({ limit: 1_000 })).filter(
      ({ sequence, principal }) => sequence > before && principal === noisy.id,
    )
    expect(written).toHaveLength(1)
  })

  it('cannot push them out by touching many jobs either: who is too fast waits', async () => {
    const owner = server.token('submitter', ['shared']).text
    const noisy = server.token('submitter', ['shared']).text
    const ids: string[] = []
    for (let count = 0; count < 140; count++) ids.push(await put(owner, JOB))
    const statuses: number[] = []
    for (const id of ids)
      statuses.push((await server.as(noisy, 'DELETE', `/api/v1/orchestrator/jobs/${id}`, {})).status)
    expect(new Set(statuses)).toEqual(new Set([200, 429]))
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(120)
    expect(server.jobs.jobsById.get(ids.at(-1) ?? '')?.state).toBe('Pending')
    // Who manages the server is not held up.
    const admin = server.token('admin').text
    for (const id of ids) {
      const { status } = await server.as(admin, 'DELETE', `/api/v1/orchestrator/jobs/${id}`, {})
      expect(status).toBe(200)
    }
  })

  it('is recorded before it replaces the job of somebody else by its name', async () => {
    const owner = server.token('submitter', ['shared'])
    const other = server.token('submitter', ['shared'])
    const recorded = async () =>
      (await server.adminLog.read({ limit: 1_000 })).filter(({ action }) => action === 'job.update')
    await put(owner.text, { ...JOB, Name: 'of one' })
    await put(owner.text, { ...JOB, Name: 'of one', Priority: 3 })
    const id = await put(owner.text, { ...JOB, Name: 'nightly' })
    expect(await recorded()).toEqual([])
    await put(other.text, { ...JOB, Name: 'nightly', Priority: 7 })
    expect(await recorded()).toMatchObject([
      { principal: other.id, object: id, details: { owner: owner.id, namespace: 'shared' } },
    ])
  })
})

describe('idempotency tokens', () => {
  const principal = (id: string, namespaces: Principal['namespaces']): Principal => ({
    id,
    name: id,
    kind: 'token',
    permissions: permissionsOf('submitter'),
    namespaces,
  })

  async function seenBy(
    who: Principal,
    use: (jobs: JobService) => Promise<unknown>,
  ): Promise<string | undefined> {
    const tokens: (string | undefined)[] = []
    const under = new MemoryJobService()
    await under.submit({ spec: { Meta: {} } as never, clientMeta: {} })
    const [id = ''] = under.jobsById.keys()
    const Tasks = [{ Network: { Type: 'None', Domains: [] } }]
    under.change(id, { spec: { Namespace: 'theirs', Meta: {}, Name: '', Tasks } as never })
    const spy: JobService = Object.assign(Object.create(under) as MemoryJobService, {
      submit: async (request: { idempotencyToken?: string }) => {
        tokens.push(request.idempotencyToken)
        return { jobId: id, jobVersion: 1, evaluationId: '', warnings: [] }
      },
      rerun: async (_id: string, request: { idempotencyToken?: string }) => {
        tokens.push(request.idempotencyToken)
        return { jobId: id, jobVersion: 1, evaluationId: '', warnings: [] }
      },
      job: (asked: string) => under.job(asked),
    })
    const scope = new CallerScope()
    const jobs = scopedJobs({ jobs: spy, scope, adminLog: undefined, streamsMax: 1 })
    await new Promise<void>((resolve, reject) => {
      scope.run({ principal: who, ended: new AbortController().signal, address: '' }, () => {
        use(jobs).then(() => resolve(), reject)
      })
    })
    return tokens[0]
  }

  const submit = (Namespace: string, idempotencyToken: string) => (jobs: JobService) =>
    jobs.submit({ spec: { Namespace, Name: '', Meta: {} } as never, clientMeta: {}, idempotencyToken })

  it('of one way to start a job never answer with what another way has started', async () => {
    const id = 'j-00000001-0000-4000-8000-000000000000'
    const rerun = await seenBy(principal('t-1', '*'), (jobs) =>
      jobs.rerun(id, { reason: '', idempotencyToken: 'x' }),
    )
    const posed = await seenBy(principal('t-2', ['rerun']), submit('rerun', `${id} x`))
    expect(posed).not.toBe(rerun)
  })

  it('of two namespaces differ wherever their names end', async () => {
    const one = await seenBy(principal('t-1', '*'), submit('a b', 'c'))
    const other = await seenBy(principal('t-2', ['a']), submit('a', 'b c'))
    expect(other).not.toBe(one)
    // And the same is the same.
    expect(await seenBy(principal('t-2', ['a']), submit('a', 'b c'))).toBe(other)
  })
})

describe('a connection that says nothing', () => {
  let api: ApiServer
  let port: number
  let dir: string

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'weir-hostile-'))
    const tls = await selfSignedCertificate(dir, ['localhost'], Date.now())
    api = await createApiServer({
      jobs: new MemoryJobService(),
      identity: { nodeId: 'n-1' },
      nodeInfo: () => nodeInfo('n-1'),
      version: { weir: '0.1.0' },
      tls,
      limits: { headTimeoutMs: 500, readTimeoutMs: 1_000 },
    })
    port = Number(new URL((await api.listen({ host: '127.0.0.1', port: 0 })).url).port)
  })
  afterAll(async () => {
    await api.close()
    rmSync(dir, { recursive: true })
  })

  it.each([
    ['never begins its TLS handshake', (): void => {}],
    // The first bytes of a hello that never goes on.
    ['stops in the middle of it', (socket: Socket) => void socket.write(Buffer.from('160301020001', 'hex'))],
  ])('and %s is cut off with the time for a head, not minutes later', async (_what, say) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    say(socket)
    // A test that waits too long fails by its own time limit.
    await once(socket.resume(), 'close')
  })
})
