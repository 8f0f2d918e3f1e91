import { afterEach, expect, describe, it } from 'vitest'
import { createOrchestrator } from '../../src/orchestrator/index.js'
import { egressSubject, outputSubject, type Message } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { decodeError } from '../../src/transports/message.js'
import { WeirError } from '../../src/errors.js'
import { readSyncRequest } from '../../src/orchestrator/sync-request.js'
import { sampleInfo, sampleSpec } from './samples.js'
import { SimulatedNode } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** A job that runs on a node which answers questions with whatever it likes. */
async function jobOn(answer: (body: { after?: number }) => Message) {
  const clock = new VirtualClock()
  const chance = seededChance(5)
  const store = openMemoryStore()
  const inner = createInProcessTransport({ clock, chance })
  let questions = 0
  const orchestrator = createOrchestrator({
    store,
    transport: {
      serve: (subject, handler) => inner.serve(subject, handler),
      close: () => inner.close(),
      async request(subject, body, timeoutMs) {
        if (subject !== outputSubject('n-1') && subject !== egressSubject('n-1'))
          return inner.request(subject, body, timeoutMs)
        questions += 1
        // A reader that is led in circles would never end: this one fails instead.
        if (questions > 50) throw new Error('the node is asked for ever')
        return answer(body as { after?: number })
      },
    },
    clock,
    chance,
    nodeId: 'n-orchestrator',
  })
  await orchestrator.start()
  const node = new SimulatedNode({
    nodeId: 'n-1',
    transport: inner,
    clock,
    behave: () => ({ runMs: Infinity }),
  })
  await node.start()
  closing.push(
    () => store.close(),
    () => inner.close(),
    () => orchestrator.close(),
    () => node.kill(),
  )
  await clock.pass(0)
  const { jobId } = await orchestrator.submit({ spec: sampleSpec(), clientMeta: {} })
  for (let count = 0; count < 20 && node.running.length === 0; count++) await clock.pass(1_000)
  const signal = AbortSignal.timeout(20_000)
  return {
    logs: async () => {
      for await (const item of orchestrator.logs(jobId, { follow: false, fromEnd: false }, signal)) void item
    },
    egress: async () => {
      for await (const item of orchestrator.egress(jobId, { follow: false }, signal)) void item
    },
  }
}

describe('a node that answers what it likes', () => {
  it.each([
    ['nothing', null],
    ['no list', { chunks: 7, cursor: 0, done: true }],
    ['chunks that are none', { chunks: [{ stream: 'stdout', data: 5, timeMs: 1 }], cursor: 0, done: true }],
    [
      'a stream that does not exist',
      { chunks: [{ stream: 'x', data: '', timeMs: 1 }], cursor: 0, done: true },
    ],
    ['no cursor', { chunks: [], done: true }],
  ])('to a question for output, %s: is said to be broken, with its name', async (_what, body) => {
    const { logs } = await jobOn(() => body as Message)
    await expect(logs()).rejects.toMatchObject({
      code: 'transport.unavailable',
      message: expect.stringContaining('n-1') as string,
    })
  })

  it.each([
    ['the same records again and again', () => ({ records: [{ sequence: 1 }], done: false })],
    ['records in circles', () => ({ records: [{ sequence: 2 }, { sequence: 1 }], done: false })],
    ['records without order', () => ({ records: [{}], done: false })],
    ['no records at all', () => ({ records: 'many' })],
  ])('to a question for egress records, %s: nobody is led in circles by it', async (_what, answer) => {
    const { egress } = await jobOn(answer as () => Message)
    await expect(egress()).rejects.toMatchObject({ code: 'transport.unavailable' })
  })

  it.each([
    'api.unauthorized',
    'api.forbidden',
    'credentials.unsafe',
    'tls.untrusted',
    'config.invalid',
  ] as const)('tells no user by "%s" what to do with a credential', async (code) => {
    const { logs } = await jobOn(() => {
      throw new WeirError(code, 'Log in again', { hint: 'Run: weir auth login https://evil.example' })
    })
    const error = await logs().then(
      () => undefined,
      (thrown: unknown) => thrown as WeirError,
    )
    expect(error?.code).toBe('transport.unavailable')
    expect(`${error?.message} ${error?.hint}`).not.toMatch(/evil|auth login/)
  })
})

describe('an error that travelled', () => {
  it.each(['constructor', '__proto__', 'made.up', 7, null])(
    'with the code %j is a defect of the other side',
    (code) => {
      expect(decodeError(JSON.stringify({ code, message: 'x' }))).toMatchObject({ code: 'internal' })
    },
  )

  it('brings only what an error has', () => {
    const error = decodeError(
      JSON.stringify({
        code: 'job.not_found',
        message: 'x'.repeat(100_000),
        hint: { a: 1 },
        retryable: 'yes',
        details: [],
      }),
    )
    expect(error).toMatchObject({ code: 'job.not_found', hint: undefined, retryable: false, details: {} })
    expect(error.message.length).toBeLessThanOrEqual(4_096)
  })
})

describe('where a result is, as its node says it', () => {
  const read = (publishedResult: unknown) => {
    const observed = { state: 'Completed', sequence: 1, publishedResult }
    const request = readSyncRequest({
      nodeId: 'n-1',
      incarnation: 'x',
      knownRevision: 0,
      info: sampleInfo('n-1'),
      observed: [{ executionId: 'e-1', jobId: 'j-1', observed, events: [] }],
    })
    return request.observed[0]?.observed.publishedResult
  }

  it('is taken when it is a few plain values', () => {
    const result = { Type: 'url', Params: { URL: 'http://192.0.2.1/x.tar.gz', Bytes: 7, Partial: false } }
    expect(read(result)).toEqual(result)
    expect(read({ Type: 'url' })).toEqual({ Type: 'url' })
    expect(read({ Params: {} })).toBeUndefined()
  })

  it('is never so deep that writing it down fails, nor large', () => {
    let deep: unknown = {}
    for (let depth = 0; depth < 150_000; depth++) deep = { a: deep }
    const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`k${index}`, 'x']))
    for (const Params of [{ deep }, many, { URL: 'x'.repeat(1_000_000) }, deep, [deep]])
      expect(JSON.stringify(read({ Type: 'url'.repeat(100), Params, deep })).length).toBeLessThan(2_000)
  })
})
