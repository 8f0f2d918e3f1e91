import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { namespacesMissing } from '../../../src/conformance/index.js'
import { sandboxProblem, wat } from './harness.js'
import { HttpWorld } from './http-world.js'

const program = wat('component-fetch')
const words = (text: string): string[] => text.trim().split(/\s+/)
const missing = namespacesMissing() || (await sandboxProblem()) || ''

describe.skipIf(missing !== '')(`wasi:http of a component${missing && ` (${missing})`}`, () => {
  let world: HttpWorld

  beforeAll(async () => {
    world = await HttpWorld.create()
  })
  afterAll(() => world?.close())
  beforeEach(() => {
    world.seen.length = 0
  })

  it('reaches listed hosts over http and https; what the gateway refuses is a response, and recorded', async () => {
    const { stdout, executionId, exit } = await world.run(
      program,
      words(`
      GET http://www.example.com/a?b=1 -
      GET https://www.example.com/tls -
      GET https://other.example.net/ -
      GET http://127.0.0.1/ -
    `),
    )
    expect(exit).toMatchObject({ exitCode: 0, message: '' })
    const lines = stdout()
      .split('\n')
      .filter((line) => line !== '')
    expect(lines.slice(0, 6)).toEqual([
      'status 200 ',
      'GET http://www.example.com/a?b=1 0 none',
      'bytes 39',
      'status 200 ',
      'GET https://www.example.com/tls 0 none',
      'bytes 38',
    ])
    expect(stdout()).toContain('status 403 egress.not_in_job_list')
    expect(stdout()).toContain('--domain other.example.net')
    expect(lines.filter((line) => line.startsWith('status 403'))).toHaveLength(2)
    expect(world.seen).toEqual(['GET http://www.example.com/a?b=1', 'GET https://www.example.com/tls'])
    const records = await world.audit.read(executionId, 0, 10)
    expect(records.map(({ kind, host, port, decision, code }) => [kind, host, port, decision, code])).toEqual(
      [
        ['wasm', 'www.example.com', 80, 'allow', ''],
        ['wasm', 'www.example.com', 443, 'allow', ''],
        ['wasm', 'other.example.net', 443, 'deny', 'egress.not_in_job_list'],
        ['wasm', '127.0.0.1', 80, 'deny', expect.stringMatching(/^egress\./)],
      ],
    )
  })

  it('streams bodies in both directions, larger than what is kept on the way', async () => {
    const { stdout, exit } = await world.run(
      program,
      words(`
      POST https://www.example.com/up #3000000
      +content-length=5 PUT http://www.example.com/short seven77
      GET http://www.example.com/big/5000000 -
    `),
    )
    expect(exit).toMatchObject({ exitCode: 0, message: '' })
    expect(stdout()).toContain('POST https://www.example.com/up 3000000 chunked')
    // More than was announced is not sent, and the host is not told that this was all.
    expect(stdout()).toContain('body closed\nbody not finished: 17\nfailed: 25\n')
    expect(stdout()).toContain('bytes 5000000')
  })

  it('never sets what routes a request, ends a wait when its time is over, and tells a response that was cut', async () => {
    const { stdout, exit } = await world.run(
      program,
      words(`
      +host=evil.test +transfer-encoding=chunked +x-own=1
      GET http://www.example.com/a -
      GET http://www.example.com/hang -
      GET http://www.example.com/cut -
    `),
      { engineEnv: { FIRST_BYTE_MS: '1500' } },
    )
    expect(exit).toMatchObject({ exitCode: 0, message: '' })
    expect(stdout().match(/header refused: 1/g)).toHaveLength(2)
    expect(stdout()).toContain('GET http://www.example.com/a 0 none')
    expect(stdout()).toContain('failed: 9')
    expect(stdout()).toMatch(/status 200 \nhalfcut\n/)
    expect(world.seen[0]).toBe('GET http://www.example.com/a')
  })

  it('is denied in a job without network', async () => {
    const { stdout, exit } = await world.bench.run(program, {
      args: ['GET', 'http://www.example.com/', '-'],
    })
    expect(exit.exitCode).toBe(0)
    // The case HTTP-request-denied.
    expect(stdout()).toBe('not sent: 15\n')
    expect(world.seen).toEqual([])
  })
})
