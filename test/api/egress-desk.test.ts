import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EXAMPLES } from '../../src/api/examples.js'
import { loadConfig } from '../../src/config/index.js'
import { openNetworkList } from '../../src/node/network-list.js'
import { createAccessRequests } from '../../src/orchestrator/index.js'
import { REAL_CHANCE, REAL_CLOCK } from '../../src/node/real-time.js'
import { startGuardedServer, type GuardedServer } from './with-access.js'
import { startServer } from './with-server.js'

const LIST = '/api/v1/orchestrator/egress/allow'
const REQUESTS = '/api/v1/orchestrator/egress/requests'

let dir: string
let server: GuardedServer
let [admin, ada, bob, reader] = ['', '', '', '']
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-desk-'))
  server = await startGuardedServer({ server: { egressDesk: await desk() } })
  admin = server.token('admin').text
  ada = server.token('submitter', ['lab']).text
  bob = server.token('submitter', ['lab']).text
  reader = server.token('reader').text
})
afterAll(async () => {
  await server?.close()
  await rm(dir, { recursive: true, force: true })
})

async function desk() {
  const config = loadConfig({ dataDir: dir, settings: ['Orchestrator.Egress.Allow=files.example.net'] })
  const list = await openNetworkList({
    config,
    file: join(dir, 'network-egress.json'),
    standardFile: join(dir, 'allowed-hosts'),
  })
  const save = async (): Promise<void> => {}
  return { list, requests: createAccessRequests({ clock: REAL_CLOCK, chance: REAL_CHANCE, save }) }
}

const actions = async (): Promise<string[]> =>
  (await server.adminLog.read({ limit: 100 })).map(({ action, outcome }) => `${action} ${outcome}`)

describe('requests for access over the API', () => {
  it('are asked by who may submit, seen by who asked and by operators, and decided by operators alone', async () => {
    const body = { Domains: ['data.example.com', '.example.org'], Reason: 'data sets' }
    const { json, status } = await server.as(ada, 'POST', REQUESTS, body)
    expect([status, json.New, json.Request.State]).toEqual([200, true, 'open'])
    const one = `${REQUESTS}/${json.Request.ID}`
    expect((await server.as(reader, 'POST', REQUESTS, body)).status).toBe(403)
    expect((await server.as(bob, 'GET', one)).json.Details.WeirCode).toBe('request.not_found')
    expect((await server.as(bob, 'GET', REQUESTS)).json.Items).toEqual([])
    expect((await server.as(ada, 'GET', `${REQUESTS}?state=open`)).json.Items).toHaveLength(1)
    expect((await server.as(admin, 'GET', REQUESTS)).json.Items).toHaveLength(1)
    for (const act of ['approve', 'deny'])
      expect((await server.as(ada, 'POST', `${one}/${act}`, { ...body, Reason: 'me' })).status).toBe(403)

    // Not what was asked for, more than that, and less.
    for (const Domains of [
      ['.com'],
      [...body.Domains, 'more.example.net'],
      ['data.example.com'],
      undefined,
    ]) {
      const { status: refused } = await server.as(admin, 'POST', `${one}/approve`, { Domains })
      expect(refused).toBe(400)
    }
    const { json: approved } = await server.as(admin, 'POST', `${one}/approve`, { Domains: body.Domains })
    expect(approved.Request).toMatchObject({
      State: 'approved',
      Decision: { Added: ['.example.org', 'data.example.com'], NetworkVersion: 2 },
    })
    expect(await readFile(join(dir, 'allowed-hosts'), 'utf8')).toMatch(
      /^\.example\.org {2}# r-.* a submitter\ndata\.example\.com {2}#/,
    )
    const again = await server.as(admin, 'POST', `${one}/deny`, { Reason: 'too late' })
    expect([again.status, again.json.Details.WeirCode]).toEqual([409, 'request.decided'])
    // The user is told what became of it, and not by whom.
    expect((await server.as(ada, 'GET', one)).json.Request.Decision).toMatchObject({
      By: '',
      NetworkVersion: 2,
    })
    expect(await actions()).toEqual(
      expect.arrayContaining(['egress.request allowed', 'egress.request.approve allowed']),
    )
  })

  it('are denied with a reason; what is refused or asked twice leaves no line in the record', async () => {
    const ask = () => server.as(bob, 'POST', REQUESTS, { Domains: ['paste.example.com'], Reason: 'notes' })
    const { ID } = (await ask()).json.Request
    const before = await actions()
    expect((await ask()).json.New).toBe(false)
    expect((await server.as(bob, 'POST', REQUESTS, { Domains: ['10.0.0.1'], Reason: 'x' })).status).toBe(400)
    expect((await server.as(bob, 'POST', REQUESTS, { Domains: ['example.com'] })).status).toBe(400)
    expect((await server.as(admin, 'POST', `${REQUESTS}/${ID}/deny`, { Reason: ' ' })).status).toBe(400)
    expect(await actions()).toEqual(before)
    await server.as(admin, 'POST', `${REQUESTS}/${ID}/deny`, { Reason: 'anybody can write there' })
    expect((await server.as(bob, 'GET', `${REQUESTS}/${ID}`)).json.Request).toMatchObject({
      State: 'denied',
      Decision: { Reason: 'anybody can write there', Added: [] },
    })
    expect(await actions()).toContain('egress.request.deny allowed')
  })
})

describe('the list of the network over the API', () => {
  it('is edited by operators, with a line in the record for each change and none for a look', async () => {
    expect((await server.as(ada, 'GET', LIST)).status).toBe(403)
    expect((await server.as(ada, 'POST', LIST, { Add: ['example.com'] })).status).toBe(403)
    const version = (await server.as(admin, 'GET', LIST)).json.Version as number
    const count = (await actions()).length
    await server.as(admin, 'POST', LIST, { Add: ['new.example.net'], DryRun: true })
    await server.as(admin, 'POST', LIST, { Add: ['files.example.net'] })
    expect((await actions()).length).toBe(count)
    const { json } = await server.as(admin, 'POST', LIST, { Add: ['new.example.net', 'files.example.net'] })
    expect(json).toMatchObject({
      Version: version + 1,
      Added: ['new.example.net'],
      Present: [{ Pattern: 'files.example.net', Where: 'Orchestrator.Egress.Allow[0]' }],
    })
    expect((await actions()).slice(count)).toEqual(['egress.list.change allowed'])
    for (const bad of [{ Add: ['*com'] }, {}, { Add: 'example.com' }, { Remove: ['files.example.net'] }])
      expect((await server.as(admin, 'POST', LIST, bad)).status).toBe(400)
    expect((await server.as(admin, 'GET', LIST)).json.Version).toBe(version + 1)
  })
})

describe('the examples of the API document', () => {
  it('are bodies that the server accepts', async () => {
    const bodyOf = (path: string): unknown => EXAMPLES[`POST ${path}`]?.body
    expect((await server.as(admin, 'POST', LIST, bodyOf(LIST))).status).toBe(200)
    for (const act of ['approve', 'deny']) {
      const { json, status } = await server.as(ada, 'POST', REQUESTS, bodyOf(REQUESTS))
      const path = `${REQUESTS}/${json.Request.ID}/${act}`
      const decided = await server.as(admin, 'POST', path, bodyOf(`${REQUESTS}/{id}/${act}`))
      expect([status, decided.status]).toEqual([200, 200])
    }
  })
})

describe('a job', () => {
  it('can neither ask for hosts nor decide, also where nobody has to authenticate', async () => {
    const open = await startServer({ egressDesk: await desk(), isJobAddress: () => true })
    try {
      for (const [method, path] of [
        ['GET', LIST],
        ['POST', LIST],
        ['GET', REQUESTS],
        ['POST', REQUESTS],
        ['POST', `${REQUESTS}/r-1/approve`],
        ['POST', `${REQUESTS}/r-1/deny`],
      ] as const) {
        const { status, json } = await open.call(method, path, method === 'GET' ? undefined : {})
        expect([path, status, json.Details.WeirCode]).toEqual([path, 403, 'api.from_job'])
      }
    } finally {
      await open.close()
    }
  })
})
