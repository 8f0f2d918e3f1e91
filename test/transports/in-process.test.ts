import { describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import { createInProcessTransport, type Faults } from '../../src/transports/index.js'
import { VirtualClock, seededChance } from '../orchestrator/virtual-time.js'

describe('the in-process transport', () => {
  const clock = new VirtualClock()

  it('carries requests and answers as copies', async () => {
    const transport = createInProcessTransport({ clock })
    const received: unknown[] = []
    const answer = { list: [1] }
    await transport.serve('a', async (body) => {
      received.push(body)
      return answer
    })
    const sent = { deep: { value: 1, gone: undefined } }
    const got = await transport.request('a', sent, 1_000)
    expect(received).toEqual([{ deep: { value: 1 } }])
    expect(received[0]).not.toBe(sent)
    expect(got).toEqual(answer)
    expect(got).not.toBe(answer)
  })

  it('carries errors with code, message, hint and details, and nothing else', async () => {
    const transport = createInProcessTransport({ clock })
    await transport.serve('a', async () => {
      throw new WeirError('job.not_found', 'no such job', {
        hint: 'look',
        retryable: true,
        details: { id: 'x' },
      })
    })
    await transport.serve('b', async () => {
      throw new TypeError('a defect')
    })
    await expect(transport.request('a', {}, 1_000)).rejects.toMatchObject({
      code: 'job.not_found',
      message: 'no such job',
      hint: 'look',
      retryable: true,
      details: { id: 'x' },
    })
    await expect(transport.request('b', {}, 1_000)).rejects.toMatchObject({
      code: 'internal',
      message: 'a defect',
    })
  })

  it('says when nobody serves a subject, also after the server closed', async () => {
    const transport = createInProcessTransport({ clock })
    await expect(transport.request('a', {}, 1_000)).rejects.toMatchObject({ code: 'transport.no_responder' })
    const serving = await transport.serve('a', async () => 'yes')
    await expect(transport.serve('a', async () => 'no')).rejects.toMatchObject({ code: 'internal' })
    await serving.close()
    await expect(transport.request('a', {}, 1_000)).rejects.toMatchObject({ code: 'transport.no_responder' })
  })

  it('gives up after the time limit', async () => {
    const transport = createInProcessTransport({ clock })
    await transport.serve('a', () => new Promise(() => undefined))
    const waiting = transport.request('a', {}, 1_000)
    const verdict = expect(waiting).rejects.toMatchObject({ code: 'transport.timeout', retryable: true })
    await clock.pass(1_000)
    await verdict
  })

  it('refuses messages above 1 MiB in both directions', async () => {
    const transport = createInProcessTransport({ clock })
    await transport.serve('a', async (body) => (body === 'large' ? 'x'.repeat(1_100_000) : 'small'))
    await expect(transport.request('a', 'x'.repeat(1_100_000), 1_000)).rejects.toMatchObject({
      code: 'spec.too_large',
    })
    await expect(transport.request('a', 'large', 1_000)).rejects.toMatchObject({ code: 'spec.too_large' })
    expect(await transport.request('a', 'x'.repeat(1_000_000), 1_000)).toBe('small')
  })

  it('ends everything that waits when it is closed', async () => {
    const transport = createInProcessTransport({ clock })
    await transport.serve('a', () => new Promise(() => undefined))
    const verdict = expect(transport.request('a', {}, 1_000)).rejects.toMatchObject({
      code: 'transport.no_responder',
    })
    await transport.close()
    await verdict
    await expect(transport.request('a', {}, 1_000)).rejects.toMatchObject({ code: 'transport.no_responder' })
  })

  async function exchange(
    faults: Partial<Faults>,
    messages: number,
  ): Promise<{ handled: number[]; answered: number[] }> {
    const time = new VirtualClock()
    const transport = createInProcessTransport({ clock: time, chance: seededChance(7), faults: () => faults })
    const handled: number[] = []
    const answered: number[] = []
    await transport.serve('a', async (body) => {
      handled.push(body as number)
      return body
    })
    const all = Array.from({ length: messages }, async (_, index) => {
      const answer = await transport.request('a', index, 5_000).catch(() => undefined)
      if (answer !== undefined) answered.push(answer as number)
    })
    await time.pass(10_000)
    await Promise.all(all)
    return { handled, answered }
  }

  it('loses requests and answers when told to', async () => {
    const { handled, answered } = await exchange({ loss: 0.3 }, 200)
    expect(handled.length).toBeGreaterThan(100)
    expect(handled.length).toBeLessThan(180)
    expect(answered.length).toBeLessThan(handled.length)
  })

  it('repeats requests when told to, and answers once', async () => {
    const { handled, answered } = await exchange({ repeat: 0.5 }, 100)
    expect(handled.length).toBeGreaterThan(120)
    expect(answered.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index))
  })

  it('delays messages so that they overtake each other, the same way for the same seed', async () => {
    const faults = { delayMsMin: 1, delayMsMax: 100 }
    const { handled } = await exchange(faults, 50)
    expect(handled).not.toEqual(handled.toSorted((a, b) => a - b))
    expect((await exchange(faults, 50)).handled).toEqual(handled)
  })

  it('can lose only the answers: the request is served all the same', async () => {
    let served = 0
    const transport = createInProcessTransport({
      clock,
      chance: seededChance(1),
      faults: (_subject, { direction, body }) => ({
        loss: direction === 'answer' && (body as { from?: string }).from === 'n-1' ? 1 : 0,
      }),
    })
    await transport.serve('a', async () => ({ served: ++served }))
    const lost = transport.request('a', { from: 'n-1' }, 1_000).catch((error: unknown) => error)
    await clock.pass(2_000)
    expect(await lost).toMatchObject({ code: 'transport.timeout' })
    expect(served).toBe(1)
    expect(await transport.request('a', { from: 'n-2' }, 1_000)).toEqual({ served: 2 })
  })
})
