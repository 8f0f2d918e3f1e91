import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { createApiServer, RULED_ROUTES, ruleOf } from '../../src/api/index.js'
import { nodeInfo } from './memory-job-service.js'
import { permissionsOf, ROLES, type Role } from '../../src/model/index.js'
import { HELLO } from './with-server.js'
import { HandClock, startGuardedServer, type GuardedServer } from './with-access.js'

const ID = 'j-00000001-0000-4000-8000-000000000000'

describe('a server that asks who is calling', () => {
  let server: GuardedServer
  const tokens = {} as Record<Role, string>

  beforeAll(async () => {
    server = await startGuardedServer()
    for (const role of ROLES) tokens[role] = server.token(role).text
  })
  afterAll(() => server.close())

  describe('for every route and role', () => {
    it('has a rule for each route, and a route for each rule', () => {
      const routes = server.routes.map((route) => route.replace(/^HEAD /, 'GET '))
      const unruled = routes.filter((route) => {
        const [method = '', path = ''] = route.split(' ')
        return ruleOf(method, path) === undefined
      })
      expect([...new Set(unruled)]).toEqual([])
      const missing = RULED_ROUTES.filter(
        (rule) => !routes.some((route) => route === rule || rule === `* ${route.split(' ')[1] ?? ''}`),
      )
      expect(missing).toEqual([])
    })

    it('answers nobody 401 but on open routes, and each role as its permissions say', async () => {
      const wrong: string[] = []
      for (const route of new Set(server.routes)) {
        const [method = '', pattern = ''] = route.split(' ')
        if (pattern.endsWith('*') || route === 'POST /api/v1/auth/:name') continue
        const path = pattern.replace(':id', 'absent').replace(':name', 'token')
        const rule = ruleOf(method, pattern)
        const call = async (headers: Record<string, string>): Promise<number> =>
          (await server.callRaw(method, path, headers)).status
        const anonymous = await call({})
        if ((anonymous === 401) !== (rule !== 'open')) wrong.push(`${route} answers nobody ${anonymous}`)
        for (const role of ROLES) {
          const may =
            rule === 'open' || rule === 'known' || rule?.some((one) => permissionsOf(role).has(one)) === true
          const status = await call({ authorization: `Bearer ${tokens[role]}` })
          if ((status === 403) === may || status === 401) wrong.push(`${route} answers ${role} ${status}`)
        }
      }
      expect(wrong).toEqual([])
    })

    it('refuses a route without a rule to everybody, and finds no others', async () => {
      const admin = server.token('admin').text
      expect((await server.as(admin, 'GET', '/api/v1/absent')).status).toBe(404)
      expect((await server.call('GET', '/api/v1/absent')).status).toBe(401)
      const api = await createApiServer({
        access: server.access,
        identity: { nodeId: 'n-1' },
        nodeInfo: () => nodeInfo('n-1'),
        version: { weir: '0' },
      })
      api.fastify.get('/api/v1/new', () => ({ secret: true }))
      try {
        const headers = { authorization: `Bearer ${admin}` }
        const answer = await api.fastify.inject({
          url: '/api/v1/new',
          headers: { ...headers, host: 'localhost' },
        })
        expect([answer.statusCode, answer.body.includes('secret')]).toEqual([403, false])
      } finally {
        await api.close()
      }
    })

    it('takes little from those who have not said who they are', async () => {
      const body = { MethodData: 'A'.repeat(200_000) }
      expect((await server.call('POST', '/api/v1/auth/token', body)).status).toBe(413)
    })

    it('records who tried what only an admin may, once a minute', async () => {
      const { text, id } = server.token('submitter')
      for (let count = 0; count < 3; count++)
        await server.as(text, 'POST', '/api/v1/access/tokens', { Name: 'x', Role: 'admin' })
      await server.as(text, 'GET', '/api/v1/agent/config')
      const lines = (await server.adminLog.read({ limit: 100 })).filter(({ principal }) => principal === id)
      expect(lines.map(({ action, object, outcome }) => [action, object, outcome])).toEqual([
        ['access', 'POST /api/v1/access/tokens', 'denied'],
      ])
    })
  })

  describe('says no in the shape that the client knows', () => {
    it('401 for clients since 1.7, and for those that do not say', async () => {
      const answer = await server.call('GET', '/api/v1/orchestrator/jobs')
      expect(answer.status).toBe(401)
      expect(answer.json).toMatchObject({
        Status: 401,
        Message: 'Request Unauthorized',
        Code: 'Unauthorized',
        Component: 'Authorizer',
        Hint: expect.stringContaining('weir auth login') as string,
        Details: { reason: 'the request carries no credential', WeirCode: 'api.unauthorized' },
      })
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="weir"')
    })

    it('401 and 403 for clients of version 1.5', async () => {
      const old = { 'x-bacalhau-git-version': 'v1.5.2' }
      const none = await server.call('GET', '/api/v1/orchestrator/jobs', undefined, old)
      expect(none.json.Message).toMatch(/^Invalid token\./)
      const reader = { ...old, authorization: `Bearer ${tokens.reader}` }
      const denied = await server.call('PUT', '/api/v1/orchestrator/jobs', { Job: HELLO }, reader)
      expect([denied.status, denied.json.Code]).toEqual([403, 'Forbidden'])
      expect(denied.json.Message).toMatch(/^Access denied\./)
    })

    it('403 names the permission that is missing', async () => {
      const answer = await server.as(tokens.submitter, 'PUT', '/api/v1/orchestrator/nodes/n-1', {
        Action: 'reject',
      })
      expect(answer.json).toMatchObject({
        Message: 'Request Forbidden',
        Details: { reason: expect.stringContaining('write:node') as string },
      })
    })
  })

  describe('reads credentials strictly', () => {
    it.each([
      ['an unknown token', 'Bearer weir_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'],
      ['no token', 'Bearer '],
      ['another scheme', 'Digest abc'],
      ['the empty word', 'Bearer  '],
      ['two words', 'Bearer a b'],
      ['Basic without a colon', `Basic ${Buffer.from('alice').toString('base64')}`],
      ['a very long token', `Bearer ${'x'.repeat(5_000)}`],
    ])('refuses %s', async (_title, authorization) => {
      const other = await startGuardedServer()
      try {
        expect((await other.call('GET', '/api/v1/access/whoami', undefined, { authorization })).status).toBe(
          401,
        )
      } finally {
        await other.close()
      }
    })

    it('refuses a token with one other character', async () => {
      const other = await startGuardedServer()
      try {
        const { text } = other.token('admin')
        expect((await other.as(text, 'GET', '/api/v1/access/whoami')).status).toBe(200)
        const last = text.at(-5) === 'A' ? 'B' : 'A'
        const wrong = `${text.slice(0, -5)}${last}${text.slice(-4)}`
        expect((await other.as(wrong, 'GET', '/api/v1/access/whoami')).status).toBe(401)
      } finally {
        await other.close()
      }
    })

    it('refuses two Authorization headers, and a token in the URL', async () => {
      const raw = await rawRequest(
        server.port,
        `GET /api/v1/access/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${tokens.admin}\r\nAuthorization: Bearer ${tokens.reader}\r\nConnection: close\r\n\r\n`,
      )
      expect(raw).toMatch(/^HTTP\/1\.1 400 /)
      for (const name of ['access_token', 'token', 'api_key', 'apikey', 'Token']) {
        const answer = await server.call('GET', `/api/v1/access/whoami?${name}=${tokens.admin}`)
        expect(answer.status).toBe(400)
        expect(answer.text).not.toContain(tokens.admin)
      }
    })

    it.each([
      '//api/v1/orchestrator/jobs',
      '/api/v1//orchestrator/jobs',
      '/api/v1/orchestrator/jobs/',
      '/api/v1/agent/alive/../../orchestrator/jobs',
      '/api/v1/agent/alive/%2e%2e/%2e%2e/orchestrator/jobs',
      '/api/v1/orchestrator/%6aobs',
      '/API/V1/ORCHESTRATOR/JOBS',
      '/api/v1/orchestrator/jobs;a=b',
      '/api/v1/orchestrator/jobs%3f',
      '/api/v1/orchestrator/jobs?x=/api/v1/agent/alive',
      '/api/v1/orchestrator/jobs#/api/v1/agent/alive',
      '/requester/../api/v1/orchestrator/jobs',
      'http://localhost/api/v1/orchestrator/jobs',
    ])('lets nobody in by the spelling %s', async (path) => {
      for (const method of ['GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'OPTIONS', 'PATCH']) {
        const raw = await rawRequest(
          server.port,
          `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
        )
        const status = Number(/^HTTP\/1\.1 (\d+)/.exec(raw)?.[1])
        // 410: the path says that it is gone, and nothing else.
        expect([400, 401, 404, 410], `${method} ${path}`).toContain(status)
        expect(raw).not.toContain('"Items"')
      }
    })

    it('refuses an upgrade without a credential before there is a websocket', async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${server.port}/api/v1/orchestrator/jobs/${ID}/logs`)
      const [, response] = (await once(socket, 'unexpected-response')) as [unknown, { statusCode: number }]
      expect(response.statusCode).toBe(401)
    })
  })

  describe('keeps namespaces apart', () => {
    let spaces: GuardedServer
    let mine: string
    let theirs: string
    let token: string

    beforeAll(async () => {
      spaces = await startGuardedServer()
      const admin = spaces.token('admin').text
      token = spaces.token('submitter', ['mine']).text
      const put = async (Namespace: string): Promise<string> => {
        const answer = await spaces.as(admin, 'PUT', '/api/v1/orchestrator/jobs', {
          Job: { ...HELLO, Namespace },
        })
        expect(answer.status, answer.text).toBe(200)
        return answer.json.JobID as string
      }
      mine = await put('mine')
      theirs = await put('theirs')
      for (let count = 0; count < 5; count++) await put(count % 2 === 0 ? 'theirs' : 'mine')
      for (const id of [mine, theirs]) spaces.jobs.addEvent(id, 'Running', 'it runs')
    })
    afterAll(() => spaces.close())

    it.each(['', '/history', '/executions', '/results', '/egress', '/egress?follow=true', '/versions'])(
      'answers a foreign job like one that does not exist: GET …%s',
      async (suffix) => {
        const absent = 'j-ffffffff-0000-4000-8000-000000000000'
        const path = (id: string): string => `/api/v1/orchestrator/jobs/${id}${suffix}`
        // A stream of a job that runs would not end.
        if (!suffix.includes('follow')) expect((await spaces.as(token, 'GET', path(mine))).status).toBe(200)
        const foreign = await spaces.as(token, 'GET', path(theirs))
        const none = await spaces.as(token, 'GET', path(absent))
        expect([foreign.status, none.status]).toEqual([404, 404])
        expect(Object.keys(foreign.json as object)).toEqual(Object.keys(none.json as object))
        expect(foreign.json.Message.replace(theirs, '')).toBe(none.json.Message.replace(absent, ''))
      },
    )

    it('runs the learning job of somebody else for nobody, whoever sees it', async () => {
      const Tasks = [
        {
          ...HELLO.Tasks[0],
          Network: { Type: 'HTTP', Learn: true },
          Timeouts: { ExecutionTimeout: 60 },
        },
      ]
      const [owner, other] = [spaces.token('submitter', ['learning']), spaces.token('admin')]
      const Job = { ...HELLO, Namespace: 'learning', Meta: { 'bacalhau.org/client.id': other.id }, Tasks }
      const { json } = await spaces.as(owner.text, 'PUT', '/api/v1/orchestrator/jobs', { Job })
      const path = `/api/v1/orchestrator/jobs/${json.JobID}/rerun`
      const foreign = await spaces.as(other.text, 'PUT', path, {})
      expect([foreign.status, foreign.text]).toEqual([403, expect.stringContaining('whoever submitted it')])
      expect((await spaces.as(owner.text, 'PUT', path, {})).status).toBe(200)
      // Not "the latest", which another one may be by then.
      expect(spaces.jobs.rerunVersions).toEqual([1])
    })

    it('changes no foreign job', async () => {
      for (const [method, suffix] of [
        ['DELETE', ''],
        ['PUT', '/rerun'],
      ] as const) {
        const answer = await spaces.as(token, method, `/api/v1/orchestrator/jobs/${theirs}${suffix}`, {})
        expect(answer.status, answer.text).toBe(404)
      }
      expect(spaces.jobs.jobsById.get(theirs)?.state).toBe('Pending')
    })

    it('counts only visible jobs for a prefix, also when several foreign ones share it', async () => {
      // Every id begins with j-0000000; of those, three are mine.
      const several = await spaces.as(token, 'GET', '/api/v1/orchestrator/jobs/j-0000000')
      expect(several.status).toBe(409)
      const only = spaces.token('reader', ['nobody-is-here']).text
      expect((await spaces.as(only, 'GET', '/api/v1/orchestrator/jobs/j-0000000')).status).toBe(404)
      expect((await spaces.as(token, 'GET', `/api/v1/orchestrator/jobs/${mine.slice(0, 10)}`)).status).toBe(
        200,
      )
      expect((await spaces.as(token, 'GET', `/api/v1/orchestrator/jobs/${theirs.slice(0, 10)}`)).status).toBe(
        404,
      )
    })

    it('lists what may be seen, page by page, whatever namespace is asked for', async () => {
      const seen: string[] = []
      let next = ''
      do {
        const page = await spaces.as(
          token,
          'GET',
          `/api/v1/orchestrator/jobs?limit=2&namespace=*${next === '' ? '' : `&next_token=${next}`}`,
        )
        seen.push(...page.json.Items.map((job: { Namespace: string }) => job.Namespace))
        next = page.json.NextToken as string
      } while (next !== '')
      expect(seen).toEqual(['mine', 'mine', 'mine'])
      const foreign = await spaces.as(token, 'GET', '/api/v1/orchestrator/jobs?namespace=theirs')
      expect(foreign.json.Items).toEqual([])
    })

    it('submits into its own namespaces only', async () => {
      const put = (Namespace: string) =>
        spaces.as(token, 'PUT', '/api/v1/orchestrator/jobs', { Job: { ...HELLO, Namespace } })
      expect((await put('mine')).status).toBe(200)
      const refused = await put('theirs')
      expect(refused.status).toBe(403)
      expect(refused.json.Details.reason).toContain('theirs')
      expect((await put('')).status, 'the default namespace is one like others').toBe(403)
    })

    it('gives nobody the job of another namespace for its idempotency token', async () => {
      const admin = spaces.token('admin').text
      const put = (who: string, Namespace: string) =>
        spaces.as(who, 'PUT', '/api/v1/orchestrator/jobs', {
          Job: { ...HELLO, Namespace },
          IdempotencyToken: 'once',
        })
      const first = await put(admin, 'theirs')
      const second = await put(token, 'mine')
      expect(second.json.JobID).not.toBe(first.json.JobID)
      expect((await put(token, 'mine')).json.JobID).toBe(second.json.JobID)
    })

    it("sends a foreign job's output to nobody, in the words for a job that does not exist", async () => {
      const frames = async (id: string): Promise<string> => {
        const socket = new WebSocket(`ws://127.0.0.1:${spaces.port}/api/v1/orchestrator/jobs/${id}/logs`, {
          headers: { authorization: `Bearer ${token}` },
        })
        const [data] = (await once(socket, 'message')) as [Buffer]
        socket.terminate()
        return data.toString('utf8')
      }
      expect(await frames(theirs)).toContain('Cannot find job')
    })
  })

  describe('when a token is revoked', () => {
    it('refuses it with the next request, and ends its open streams', async () => {
      const admin = server.token('admin').text
      const { id, text } = server.token('submitter', ['default'])
      const submitted = await server.as(text, 'PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })
      const jobId = submitted.json.JobID as string
      const socket = new WebSocket(
        `ws://127.0.0.1:${server.port}/api/v1/orchestrator/jobs/${jobId}/logs?follow=true`,
        { headers: { authorization: `Bearer ${text}` } },
      )
      const frames: string[] = []
      socket.on('message', (data: Buffer) => frames.push(data.toString('utf8')))
      await once(socket, 'open')
      const followed = server.as(text, 'GET', `/api/v1/orchestrator/jobs/${jobId}/egress?follow=true`)
      const waiting = server.as(
        text,
        'GET',
        `/api/v1/orchestrator/jobs/${jobId}/history?wait_ms=20000&since=9999999999`,
      )
      const revoked = await server.as(admin, 'DELETE', `/api/v1/access/tokens/${id}`)
      expect(revoked.json.Record.RevokedAt).toMatch(/^20/)
      if (socket.readyState !== WebSocket.CLOSED) await once(socket, 'close')
      expect(frames.join('')).toContain('api.unauthorized')
      expect((await followed).text).toContain('Unauthorized')
      expect((await waiting).status).toBe(401)
      const after = await server.as(text, 'GET', '/api/v1/access/whoami')
      expect([after.status, after.json.Details.reason]).toEqual([401, 'the token was revoked'])
    })

    it('refuses it when its time is over, streams included', async () => {
      const clock = new HandClock()
      const timed = await startGuardedServer({ clock })
      try {
        const { text } = timed.token('submitter', '*', clock.now() + 60_000)
        const jobId = (await timed.as(text, 'PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })).json
          .JobID as string
        const followed = timed.as(text, 'GET', `/api/v1/orchestrator/jobs/${jobId}/egress?follow=true`)
        await expect.poll(() => timed.jobs.openStreams).toBe(1)
        clock.pass(60_000)
        expect((await followed).text).toContain('Unauthorized')
        expect((await timed.as(text, 'GET', '/api/v1/access/whoami')).json.Details.reason).toBe(
          'the token has expired',
        )
      } finally {
        await timed.close()
      }
    })
  })

  it('says who one is', async () => {
    const { text, id } = server.token('reader', ['a', 'b'])
    expect((await server.as(text, 'GET', '/api/v1/access/whoami')).json).toEqual({
      Authenticated: true,
      ID: id,
      Name: 'a reader',
      Kind: 'token',
      Role: 'reader',
      Permissions: ['read:job', 'read:node'],
      Namespaces: ['a', 'b'],
    })
  })

  it('makes, lists and revokes tokens, shows a token once and keeps no more than its hash', async () => {
    const made = await server.as(tokens.admin, 'POST', '/api/v1/access/tokens', {
      Name: 'ci',
      Role: 'submitter',
      Namespaces: ['ci'],
      ExpiresInSeconds: 3600,
    })
    expect(made.status, made.text).toBe(200)
    expect(made.json.Token).toMatch(/^weir_[a-z2-9]{12}_[\w-]{43}$/)
    const list = await server.as(tokens.admin, 'GET', '/api/v1/access/tokens')
    expect(list.text).not.toContain(made.json.Token)
    expect(list.json.Items.at(-1)).toMatchObject({ Name: 'ci', Role: 'submitter', Namespaces: ['ci'] })
    expect((await server.as(made.json.Token as string, 'GET', '/api/v1/access/whoami')).json.Name).toBe('ci')
    const id = made.json.Record.ID as string
    expect((await server.as(tokens.admin, 'DELETE', `/api/v1/access/tokens/${id}`)).status).toBe(200)
    expect((await server.as(tokens.admin, 'DELETE', '/api/v1/access/tokens/t-absent')).status).toBe(404)
  })

  it.each([
    [{ Name: 'x', Role: 'king' }, 'role'],
    [{ Name: '', Role: 'reader', Namespaces: ['a'] }, 'name'],
    [{ Name: 'x\nY', Role: 'reader', Namespaces: ['a'] }, 'name'],
    [{ Name: 'x', Role: 'reader' }, 'namespaces'],
    [{ Name: 'x', Role: 'reader', Namespaces: [] }, 'namespaces'],
    [{ Name: 'x', Role: 'reader', Namespaces: 'a' }, 'Namespaces'],
    [{ Name: 'x', Role: 'admin', Namespaces: ['a'] }, 'admin'],
    [{ Name: 'x', Role: 'reader', Namespaces: ['a b'] }, 'namespace'],
    [{ Name: 'x', Role: 'reader', Namespaces: ['a'], ExpiresInSeconds: 0 }, 'ExpiresInSeconds'],
    [{ Name: 'x', Role: 'reader', Namespaces: ['a'], ExpiresInSeconds: '5' }, 'ExpiresInSeconds'],
  ])('makes no token of %j', async (body, word) => {
    const answer = await server.as(tokens.admin, 'POST', '/api/v1/access/tokens', body)
    expect([answer.status, answer.json.Details.WeirCode]).toEqual([400, 'access.invalid'])
    expect(answer.json.Message).toContain(word)
  })

  it('records who did what, and that it failed', async () => {
    const before = (await server.adminLog.read({ limit: 1 }))[0]?.sequence ?? 0
    const mine = server.token('submitter').text
    const jobId = (await server.as(mine, 'PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })).json
      .JobID as string
    await server.as(mine, 'DELETE', `/api/v1/orchestrator/jobs/${jobId}`, {})
    const other = (await server.as(mine, 'PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })).json
      .JobID as string
    await server.as(tokens.admin, 'DELETE', `/api/v1/orchestrator/jobs/${other}`, {})
    await server.as(tokens.admin, 'PUT', '/api/v1/orchestrator/nodes/n-absent', {
      Action: 'reject',
      Message: 'why',
    })
    const records = (await server.adminLog.read({ limit: 100 })).filter(({ sequence }) => sequence > before)
    expect(records.map(({ action, object, outcome }) => [action, object, outcome])).toEqual([
      ['job.stop', other, 'allowed'],
      ['node.reject', 'n-absent', 'allowed'],
      ['node.reject', 'n-absent', 'failed'],
    ])
    expect(records[0]).toMatchObject({ principalName: 'a admin', address: '127.0.0.1' })
    const page = await server.as(tokens.admin, 'GET', '/api/v1/access/audit?limit=2&verify=true')
    expect(page.json.Items).toHaveLength(2)
    expect(page.json.Verdict).toMatchObject({ intact: true })
    expect(page.json.NextToken).not.toBe('')
  })

  it('changes nothing that it cannot record', async () => {
    const broken = await startGuardedServer()
    try {
      const admin = broken.token('admin').text
      const victim = broken.token('reader')
      await broken.adminLog.close()
      const made = await broken.as(admin, 'POST', '/api/v1/access/tokens', { Name: 'x', Role: 'admin' })
      expect([made.status, made.json.Details.WeirCode]).toEqual([503, 'audit.unavailable'])
      expect((await broken.as(admin, 'DELETE', `/api/v1/access/tokens/${victim.id}`)).status).toBe(503)
      expect(broken.access.tokens()).toHaveLength(2)
      expect((await broken.as(victim.text, 'GET', '/api/v1/access/whoami')).status).toBe(200)
    } finally {
      await broken.close()
    }
  })

  it('slows down guessing with 429 and Retry-After, and lets good credentials of the same address through', async () => {
    const guessed = await startGuardedServer()
    try {
      const good = guessed.token('reader').text
      const statuses: number[] = []
      let last
      for (let count = 0; count < 14; count++) {
        last = await guessed.as(
          `weir_aaaaaaaaaaaa_${'A'.repeat(42)}${count % 10}`,
          'GET',
          '/api/v1/access/whoami',
        )
        statuses.push(last.status)
      }
      expect(statuses.filter((status) => status === 401)).toHaveLength(10)
      expect(last?.status).toBe(429)
      expect(Number(last?.headers['retry-after'])).toBeGreaterThan(0)
      expect((await guessed.as(good, 'GET', '/api/v1/access/whoami')).status).toBe(200)
      const records = await guessed.adminLog.read({ limit: 100 })
      expect(records.filter(({ action }) => action === 'login')).toHaveLength(1)
    } finally {
      await guessed.close()
    }
  })

  it('bounds the requests and the streams of one credential', async () => {
    const small = await startGuardedServer({
      server: { limits: { streamsPerPrincipalMax: 2 } },
    })
    try {
      const [one, two] = [small.token('submitter').text, small.token('submitter').text]
      const jobId = (await small.as(one, 'PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })).json
        .JobID as string
      const path = `/api/v1/orchestrator/jobs/${jobId}/egress?follow=true`
      const open = [small.as(one, 'GET', path), small.as(one, 'GET', path)]
      await expect.poll(() => small.jobs.openStreams).toBe(2)
      expect((await small.as(one, 'GET', path)).text).toContain('this credential has 2 open')
      open.push(small.as(two, 'GET', path))
      await expect.poll(() => small.jobs.openStreams).toBe(3)
      small.jobs.change(jobId, { state: 'Completed' })
      await Promise.all(open)
    } finally {
      await small.close()
    }
  })

  it('offers clients of version 1.5 one method, which takes a token', async () => {
    const { json } = await server.call('GET', '/api/v1/auth')
    expect(Object.keys(json.Methods as object)).toEqual(['token'])
    expect(json.Methods.token).toMatchObject({
      type: 'ask',
      params: { required: ['token'], properties: { token: { type: 'string', writeOnly: true } } },
    })
    const answer = (token: string) =>
      server.call('POST', '/api/v1/auth/token', {
        Namespace: '',
        Credential: null,
        Name: 'token',
        MethodData: Buffer.from(JSON.stringify({ token })).toString('base64'),
      })
    const good = await answer(tokens.reader)
    expect(good.json.Authentication).toEqual({ success: true, token: tokens.reader })
    const bad = await answer('hunter2')
    expect([bad.status, bad.json.Authentication]).toEqual([
      401,
      { success: false, reason: 'credentials rejected' },
    ])
  })

  it('does not take the tokens that a server without users gives to everybody', async () => {
    const open = await (await import('./with-server.js')).startServer()
    await open.close()
    const clientToken = `${'a'.repeat(64)}.${'b'.repeat(64)}`
    expect((await server.as(clientToken, 'GET', '/api/v1/access/whoami')).status).toBe(401)
  })
})

describe('users of the configuration', () => {
  const KEY = 'a-key-of-twenty-characters'
  let server: GuardedServer

  beforeAll(async () => {
    server = await startGuardedServer({
      users: [
        { Alias: 'robot', APIKey: KEY, Capabilities: [{ Actions: ['read:job', 'write:job'] }] },
        { Username: 'Alice', Password: 'correct horse', Capabilities: [{ Actions: ['*'] }] },
        {
          Username: 'bob',
          Password: 'battery staple',
          Capabilities: [{ Actions: ['read:*'] }],
          Namespaces: ['b'],
        },
        { Alias: 'nothing', APIKey: `${KEY}2` },
      ],
    })
  })
  afterAll(() => server.close())
  const basic = (name: string, password: string) => ({
    authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
  })

  it('come in with their key, or with name and password in any case of the name', async () => {
    expect((await server.as(KEY, 'PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })).status).toBe(200)
    expect((await server.as(KEY, 'GET', '/api/v1/orchestrator/nodes')).status).toBe(403)
    for (const name of ['alice', 'ALICE']) {
      const answer = await server.call(
        'GET',
        '/api/v1/access/whoami',
        undefined,
        basic(name, 'correct horse'),
      )
      expect(answer.json).toMatchObject({ ID: 'user:alice', Kind: 'user', Namespaces: ['*'] })
    }
    expect(
      (await server.call('GET', '/api/v1/access/tokens', undefined, basic('alice', 'correct horse'))).status,
    ).toBe(200)
    const bob = await server.call('GET', '/api/v1/agent/config', undefined, basic('bob', 'battery staple'))
    expect(bob.status).toBe(200)
    expect((await server.as(`${KEY}2`, 'GET', '/api/v1/orchestrator/jobs')).status).toBe(403)
  })

  it('are not told apart from users that do not exist', async () => {
    const wrong = await server.call(
      'GET',
      '/api/v1/access/whoami',
      undefined,
      basic('alice', 'wrong password'),
    )
    const absent = await server.call(
      'GET',
      '/api/v1/access/whoami',
      undefined,
      basic('mallory', 'wrong password'),
    )
    expect(wrong.status).toBe(401)
    expect(wrong.json.Details.reason).toBe(absent.json.Details.reason)
  })
})

describe('a server that asks nobody', () => {
  it('has no tokens, and says so', async () => {
    const { startServer } = await import('./with-server.js')
    const open = await startServer()
    try {
      expect((await open.call('GET', '/api/v1/access/whoami')).json).toMatchObject({
        Authenticated: false,
        ID: 'everyone',
        Role: 'admin',
      })
      for (const [method, path, body] of [
        ['GET', '/api/v1/access/tokens', undefined],
        ['POST', '/api/v1/access/tokens', { Name: 'x', Role: 'admin' }],
        ['DELETE', '/api/v1/access/tokens/t-x', undefined],
      ] as const) {
        const answer = await open.call(method, path, body)
        expect([answer.status, answer.json.Details.WeirCode]).toEqual([400, 'access.off'])
      }
    } finally {
      await open.close()
    }
  })

  it('takes no changes from where jobs run, however they come, but answers questions', async () => {
    const { startServer } = await import('./with-server.js')
    const open = await startServer({ isJobAddress: (address) => address === '127.0.0.1' })
    const marked = await startServer()
    try {
      const changes = [
        ['PUT', '/api/v1/orchestrator/jobs', { Job: HELLO }],
        ['POST', '/api/v1/orchestrator/jobs', { Job: HELLO }],
        ['DELETE', `/api/v1/orchestrator/jobs/${ID}`, {}],
        ['PUT', '/api/v1/orchestrator/nodes/n-1', { Action: 'approve' }],
      ] as const
      for (const [method, path, body] of changes) {
        const answer = await open.call(method, path, body)
        expect([answer.status, answer.json.Details.WeirCode]).toEqual([403, 'api.from_job'])
        const marks: Record<string, string>[] = [
          { via: '1.1 weir' },
          { via: '1.0 proxy, 1.1 weir' },
          { 'x-bacalhau-job-id': 'j-1' },
          { 'x-bacalhau-job-id': '', authorization: 'Bearer anything' },
        ]
        for (const headers of marks) expect((await marked.call(method, path, body, headers)).status).toBe(403)
      }
      expect(open.jobs.submissions).toHaveLength(0)
      expect(marked.jobs.submissions).toHaveLength(0)
      expect((await open.call('GET', '/api/v1/orchestrator/jobs')).status).toBe(200)
      expect((await marked.call('PUT', '/api/v1/orchestrator/jobs', { Job: HELLO })).status).toBe(200)
    } finally {
      await open.close()
      await marked.close()
    }
  })
})

/** Sends bytes as they are and reads to the end. */
function rawRequest(port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(text))
    let answer = ''
    socket.setEncoding('latin1').on('data', (part: string) => {
      answer += part
    })
    socket.on('end', () => resolve(answer)).on('error', reject)
  })
}
