import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { namespacesMissing } from '../../../src/conformance/index.js'
import { built, sandboxProblem } from './harness.js'
import { HttpWorld, NODE } from './http-world.js'

const program = built('c-http') ?? ''
const missing = namespacesMissing() || (await sandboxProblem()) || (program === '' ? 'needs clang-14' : '')

describe.skipIf(missing !== '')(`HTTP of a WebAssembly program${missing && ` (${missing})`}`, () => {
  let world: HttpWorld

  beforeAll(async () => {
    world = await HttpWorld.create()
  })
  afterAll(() => world?.close())
  beforeEach(() => {
    world.seen.length = 0
  })

  it('reaches a listed host over http and https, and sees refusals as answers', async () => {
    const { stdout, executionId } = await world.run(program, [
      'get',
      'http://www.example.com/a?b=1',
      'get',
      'https://www.example.com/tls',
      'get',
      'https://other.example.net/',
    ])
    const lines = stdout().split('\n')
    expect(lines.slice(0, 4)).toEqual([
      'status 200 ',
      'GET http://www.example.com/a?b=1 0 none',
      'status 200 ',
      'GET https://www.example.com/tls 0 none',
    ])
    expect(lines[4]).toBe('status 403 egress.not_in_job_list')
    expect(stdout()).toContain('To allow it, run the job or program with: --domain other.example.net')
    const records = await world.audit.read(executionId, 0, 10)
    expect(
      records.map(({ kind, method, host, port, sni, decision, code }) => [
        kind,
        method,
        host,
        port,
        sni,
        decision,
        code,
      ]),
    ).toEqual([
      ['wasm', 'GET', 'www.example.com', 80, '', 'allow', ''],
      ['wasm', 'GET', 'www.example.com', 443, 'www.example.com', 'allow', ''],
      ['wasm', 'GET', 'other.example.net', 443, '', 'deny', 'egress.not_in_job_list'],
    ])
  })
  it('J-13 cannot reach the network itself, also where every list names it', async () => {
    await world.gateway.setNodePolicy({ ...NODE, self: ['api.example.com'] })
    try {
      const { stdout } = await world.run(program, [
        'get',
        'http://api.example.com/api/v1/orchestrator/jobs',
        'get',
        'https://api.example.com/',
      ])
      expect(stdout().match(/^status .*$/gm)).toEqual(['status 403 egress.self', 'status 403 egress.self'])
      expect(world.seen).toEqual([])
    } finally {
      await world.gateway.setNodePolicy(NODE)
    }
  })
})
