import { afterEach, describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import type { Transport } from '../../src/ports/index.js'

/** Two ends of one network; they may be the same object. */
export interface TransportPair {
  server: Transport
  client: Transport
  cleanUp?: () => Promise<void>
}

/** What every transport promises. Real time: time limits here are short. */
export function describeTransport(name: string, open: () => Promise<TransportPair>): void {
  describe(`the transport ${name}`, () => {
    const closing: (() => Promise<void>)[] = []
    afterEach(async () => {
      for (const close of closing.splice(0).reverse()) await close()
    })

    async function fresh(): Promise<TransportPair> {
      const pair = await open()
      closing.push(async () => {
        await pair.client.close()
        await pair.server.close()
        await pair.cleanUp?.()
      })
      return pair
    }

    it('carries requests and answers as JSON copies', async () => {
      const { server, client } = await fresh()
      const received: unknown[] = []
      await server.serve('a', async (body) => {
        received.push(body)
        return { list: [1, 'ü', null], gone: undefined }
      })
      const sent = { deep: { value: 1, gone: undefined }, text: '\u0000 "quoted" ☃' }
      expect(await client.request('a', sent, 10_000)).toEqual({ list: [1, 'ü', null] })
      expect(received).toEqual([{ deep: { value: 1 }, text: '\u0000 "quoted" ☃' }])
      expect(received[0]).not.toBe(sent)
    })

    it.each([
      ['nothing', undefined],
      ['null', null],
      ['an empty text', ''],
      ['a number', 0],
      ['false', false],
    ])('carries %s', async (_what, body) => {
      const { server, client } = await fresh()
      await server.serve('a', async (got) => got)
      expect(await client.request('a', body, 10_000)).toBe(body ?? null)
    })

    it('carries errors with code, message, hint and details, and neither cause nor stack', async () => {
      const { server, client } = await fresh()
      await server.serve('a', async () => {
        throw new WeirError('job.not_found', 'no such job', {
          hint: 'look',
          retryable: true,
          details: { id: 'x' },
          cause: new Error('private'),
        })
      })
      await server.serve('b', async () => {
        throw new TypeError('a defect')
      })
      const error = await client.request('a', {}, 10_000).catch((reason: unknown) => reason)
      expect(error).toBeInstanceOf(WeirError)
      expect(error).toMatchObject({
        code: 'job.not_found',
        message: 'no such job',
        hint: 'look',
        retryable: true,
        details: { id: 'x' },
      })
      expect((error as Error).cause).toBeUndefined()
      await expect(client.request('b', {}, 10_000)).rejects.toMatchObject({
        code: 'internal',
        message: 'a defect',
      })
    })

    it('says at once when nobody serves a subject, also after its server closed', async () => {
      const { server, client } = await fresh()
      const unserved = { code: 'transport.no_responder', retryable: true }
      await expect(client.request('a', {}, 60_000)).rejects.toMatchObject(unserved)
      const serving = await server.serve('a', async () => 'yes')
      expect(await client.request('a', {}, 10_000)).toBe('yes')
      await serving.close()
      await expect(client.request('a', {}, 60_000)).rejects.toMatchObject(unserved)
    })

    it('lets one handler serve a subject', async () => {
      const { server } = await fresh()
      await server.serve('a', async () => 'yes')
      await expect(server.serve('a', async () => 'no')).rejects.toMatchObject({ code: 'internal' })
    })

    it('gives up after the time limit', async () => {
      const { server, client } = await fresh()
      await server.serve('a', () => new Promise(() => undefined))
      await expect(client.request('a', {}, 50)).rejects.toMatchObject({
        code: 'transport.timeout',
        retryable: true,
      })
    })

    it('carries 1 MiB of JSON in both directions and refuses one byte more', async () => {
      const { server, client } = await fresh()
      const text = (bytes: number): string => 'x'.repeat(bytes - 2)
      const most = 1024 * 1024
      await server.serve('a', async (body) => (body === 'answer' ? text(most) : 'small'))
      await server.serve('b', async () => text(most + 1))
      expect(await client.request('a', text(most), 10_000)).toBe('small')
      expect(await client.request('a', 'answer', 10_000)).toHaveLength(most - 2)
      await expect(client.request('a', text(most + 1), 10_000)).rejects.toMatchObject({
        code: 'spec.too_large',
      })
      await expect(client.request('b', {}, 10_000)).rejects.toMatchObject({ code: 'spec.too_large' })
    })

    it('answers many requests at once, each with its own answer', async () => {
      const { server, client } = await fresh()
      await server.serve('a', async (body) => {
        await new Promise((resolve) => setTimeout(resolve, Number(body) % 7))
        return body
      })
      const numbers = Array.from({ length: 500 }, (_, index) => index)
      expect(await Promise.all(numbers.map((number) => client.request('a', number, 10_000)))).toEqual(numbers)
    })

    it('serves hundreds of subjects', async () => {
      const { server, client } = await fresh()
      const names = Array.from({ length: 500 }, (_, index) => `node.n-${index}.nudge`)
      for (const name of names) await server.serve(name, async () => name)
      expect(await Promise.all(names.map((name) => client.request(name, {}, 10_000)))).toEqual(names)
    })

    it('ends everything that waits when it is closed, on both sides', async () => {
      const { server, client } = await fresh()
      let arrived = (): void => {}
      const hasArrived = new Promise<void>((resolve) => {
        arrived = resolve
      })
      let isAborted = false
      await server.serve('a', (_body, signal) => {
        signal.addEventListener('abort', () => {
          isAborted = true
        })
        arrived()
        return new Promise(() => undefined)
      })
      const waiting = client.request('a', {}, 60_000)
      const verdict = expect(waiting).rejects.toMatchObject({ code: 'transport.no_responder' })
      await hasArrived
      await client.close()
      await verdict
      await expect(client.request('a', {}, 10_000)).rejects.toMatchObject({ code: 'transport.no_responder' })
      await server.close()
      expect(isAborted).toBe(true)
    })

    it('may be closed twice', async () => {
      const { server } = await fresh()
      await server.close()
      await server.close()
    })
  })
}
