import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { challengeMethod } from '../../src/api/index.js'
import { NODE_ID, startServer, type Server } from './with-server.js'

let server: Server
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server.close())

describe('agent endpoints', () => {
  it('is alive', async () => {
    const answer = await server.call('GET', '/api/v1/agent/alive')
    expect([answer.status, answer.json]).toEqual([200, { Status: 'OK' }])
    expect(answer.headers['content-type']).toContain('application/json')
  })

  it('names its version in the words of Bacalhau and its own', async () => {
    expect((await server.call('GET', '/api/v1/agent/version')).json).toEqual({
      Major: '1',
      Minor: '5',
      GitVersion: 'v1.5.2',
      GitCommit: 'abc',
      BuildDate: '2024-11-29T10:11:12.000Z',
      GOOS: expect.any(String),
      GOARCH: expect.any(String),
      WeirVersion: '0.1.0',
    })
  })

  it('describes its node in the shape of old and of new clients at once', async () => {
    const { json } = await server.call('GET', '/api/v1/agent/node')
    expect(json.Info.NodeID).toBe(NODE_ID)
    expect(json.NodeID).toBe(NODE_ID)
    expect(json.Membership).toBe('APPROVED')
    expect(json.ComputeNodeInfo).toEqual(json.Info.ComputeNodeInfo)
  })

  it('shows the configuration without secrets', async () => {
    expect((await server.call('GET', '/api/v1/agent/config')).json).toEqual({
      config: {
        API: { Host: '127.0.0.1', Port: 1234 },
        Publishers: { Local: { AccessToken: '<redacted>' } },
      },
    })
  })

  it('answers debug questions with an object', async () => {
    expect((await server.call('GET', '/api/v1/agent/debug')).json.Process.ResidentBytes).toBeGreaterThan(0)
    expect((await server.call('POST', '/api/v1/compute/debug')).status).toBe(200)
    expect((await server.call('GET', '/api/v1/compute/debug')).status).toBe(405)
  })

  it.each([
    ['GET', '/api/v1/livez', 'OK'],
    ['GET', '/livez', 'OK'],
    ['GET', '/healthz', 'OK'],
    ['GET', '/api/v1/id', NODE_ID],
    ['GET', '/id?x=1', NODE_ID],
  ])('%s %s answers %s in plain text', async (method, path, text) => {
    const answer = await server.call(method, path)
    expect([answer.status, answer.text]).toEqual([200, text])
    expect(answer.headers['content-type']).toContain('text/plain')
  })

  it('serves the older forms of version and node info, also without the prefix', async () => {
    for (const path of ['/api/v1/version', '/version']) {
      const answer = await server.call('POST', path, { client_id: 'x' })
      expect(answer.json.build_version_info.GitVersion).toBe('v1.5.2')
    }
    for (const path of ['/api/v1/node_info', '/node_info']) {
      expect((await server.call('GET', path)).json.Info.NodeID).toBe(NODE_ID)
    }
    const home = await server.call('GET', '/')
    expect(home.headers['content-type']).toContain('text/plain')
    expect(home.json.GitVersion).toBe('v1.5.2')
    expect((await server.call('GET', '/peers')).status).toBe(404)
  })

  it.each([
    ['POST', '/api/v1/requester/submit'],
    ['POST', '/requester/list'],
    ['GET', '/api/v1/requester/nodes'],
    ['GET', '/requester/websocket/events'],
  ])('%s %s is gone and says what replaced it', async (method, path) => {
    const answer = await server.call(method, path, method === 'POST' ? {} : undefined)
    expect(answer.status).toBe(410)
    expect(answer.json).toContain('/api/v1/orchestrator')
  })
})

describe('authentication', () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const der = publicKey.export({ type: 'pkcs1', format: 'der' })

  function methodData(phrase: Buffer, key: Buffer = der): string {
    const data = {
      PhraseSignature: sign('sha256', phrase, privateKey).toString('base64'),
      PublicKey: key.toString('base64'),
    }
    return Buffer.from(JSON.stringify(data)).toString('base64')
  }

  const login = (data: unknown, name = 'clientkey') =>
    server.call('POST', `/api/v1/auth/${name}`, {
      Namespace: '',
      Credential: null,
      Name: name,
      MethodData: data,
    })

  it('offers exactly one method, a challenge to sign the node id', async () => {
    const { json } = await server.call('GET', '/api/v1/auth')
    const requirement = {
      type: 'challenge',
      params: { InputPhrase: Buffer.from(NODE_ID).toString('base64') },
    }
    expect(json).toEqual({ NextToken: '', Methods: { clientkey: requirement } })
    expect((await server.call('GET', '/api/v1/auth/ClientKey')).json).toEqual(requirement)
    expect((await server.call('GET', '/api/v1/auth/other')).status).toBe(404)
  })

  it('gives a token for a genuine signature, the same for the same key, naming the key', async () => {
    const first = await login(methodData(Buffer.from(NODE_ID)))
    expect(first.status, first.text).toBe(200)
    const { success, token } = first.json.Authentication as { success: boolean; token: string }
    expect(success).toBe(true)
    const modulus = Buffer.from(publicKey.export({ format: 'jwk' }).n ?? '', 'base64url')
    expect(token.split('.')[0]).toBe(createHash('sha256').update(modulus).digest('hex'))
    expect((await login(methodData(Buffer.from(NODE_ID)))).json.Authentication.token).toBe(token)
    const used = await server.call('GET', '/api/v1/agent/alive', undefined, {
      authorization: `Bearer ${token}`,
    })
    expect(used.status).toBe(200)
  })

  it('answers 401 with success=false for a signature over something else', async () => {
    const answer = await login(methodData(Buffer.from('another phrase')))
    expect(answer.status).toBe(401)
    expect(answer.json.Authentication).toEqual({
      success: false,
      reason: expect.stringContaining('signature'),
    })
  })

  it('answers 401 for keys that are too short or no RSA keys', async () => {
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 })
    const data = {
      PhraseSignature: sign('sha256', Buffer.from(NODE_ID), short.privateKey).toString('base64'),
      PublicKey: short.publicKey.export({ type: 'pkcs1', format: 'der' }).toString('base64'),
    }
    expect(
      (await login(Buffer.from(JSON.stringify(data)).toString('base64'))).json.Authentication.reason,
    ).toContain('1024')
    expect((await login(methodData(Buffer.from(NODE_ID), Buffer.from('nonsense')))).status).toBe(401)
  })

  it.each([
    ['method data that is not JSON', Buffer.from('hello').toString('base64')],
    ['method data without signature', Buffer.from('{}').toString('base64')],
    ['no method data', ''],
    ['method data that is a number', 5],
  ])('answers 400 for %s', async (_title, data) => {
    expect((await login(data)).status).toBe(400)
  })

  it('gives tokens that only the same secret makes', async () => {
    const data = Buffer.from(methodData(Buffer.from('phrase')), 'base64')
    const token = async (secret: string) => {
      const outcome = await challengeMethod({ phrase: 'phrase', secret: Buffer.from(secret) }).authenticate(
        data,
        '',
      )
      return outcome.success ? outcome.token : ''
    }
    expect(await token('a')).toBe(await token('a'))
    expect(await token('a')).not.toBe(await token('b'))
  })
})
