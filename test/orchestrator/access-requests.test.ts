import { describe, expect, it } from 'vitest'
import { createAccessRequests } from '../../src/orchestrator/index.js'
import type { AccessRequest, AccessRequestDesk } from '../../src/ports/index.js'

const DAY_MS = 24 * 3_600_000

/** A desk with a clock that the test moves, and what it keeps. */
function desk(kept?: string) {
  const world = { now: 1_700_000_000_000, kept, ids: 0, isFull: false }
  const requests = createAccessRequests({
    clock: { now: () => world.now, sleep: async () => {} },
    chance: {
      uuid: () => `00000000-0000-4000-8000-${String(world.ids++).padStart(12, '0')}`,
      random: () => 0.5,
    } as never,
    kept,
    save: async (text) => {
      if (world.isFull) throw new Error('no space left')
      world.kept = text
    },
  })
  const ask = (who: string, ...patterns: string[]) =>
    requests.ask(patterns, { principal: who, principalName: who, reason: 'a reason' }, (keep) => keep())
  return { world, requests, ask }
}

const decided = (
  requests: AccessRequestDesk,
  id: string,
  state: 'approved' | 'denied',
  reason = 'so',
): Promise<AccessRequest> =>
  requests.decide(id, { state, reason }, async () => ({ principal: 'o', principalName: 'o', added: [] }))

describe('requests for access', () => {
  it('for the same hosts are one while it is open, however the hosts are spelled', async () => {
    const { requests, ask } = desk()
    const first = await ask('ada', 'B.example.com', 'a.example.com')
    expect([first.isNew, first.request.patterns]).toEqual([true, ['a.example.com', 'b.example.com']])
    expect((await ask('ada', 'a.example.com', 'b.example.com')).isNew).toBe(false)
    const joined = await ask('bob', 'a.example.com', 'b.example.com')
    expect(joined.request.askers.map(({ principal }) => principal)).toEqual(['ada', 'bob'])
    expect(requests.list()).toHaveLength(1)
    await decided(requests, first.request.id, 'denied')
    expect((await ask('ada', 'a.example.com', 'b.example.com')).isNew).toBe(true)
    await expect(decided(requests, first.request.id, 'approved')).rejects.toMatchObject({
      code: 'request.decided',
    })
  })

  it('expire, are forgotten long after their end, and are there again after a restart', async () => {
    const { world, requests, ask } = desk()
    const { request } = await ask('ada', 'example.com')
    world.now += 29 * DAY_MS
    const again = desk(world.kept)
    again.world.now = world.now
    expect(again.requests.list()).toEqual([request])
    world.now += DAY_MS
    expect(requests.find(request.id, () => true).state).toBe('expired')
    await expect(decided(requests, request.id, 'approved')).rejects.toMatchObject({ code: 'request.decided' })
    world.now += 91 * DAY_MS
    expect(requests.list()).toEqual([])
  })

  it('are bounded for each user and in all, and need public hosts and a reason', async () => {
    const { ask, requests } = desk()
    for (let index = 0; index < 20; index++) await ask('ada', `h${index}.example.com`)
    await expect(ask('ada', 'one-more.example.com')).rejects.toMatchObject({ code: 'request.too_many' })
    await ask('bob', 'one-more.example.com')
    for (const [code, ...patterns] of [
      ['request.invalid'],
      ['request.invalid', ...Array.from({ length: 101 }, (_, index) => `h${index}.example.com`)],
      ['pattern.invalid', '192.168.0.1'],
      ['pattern.invalid', '.com'],
    ] as const)
      await expect(ask('eve', ...patterns)).rejects.toMatchObject({ code })
    for (const reason of [' ', 'x'.repeat(1_001)])
      await expect(
        requests.ask(['example.com'], { principal: 'eve', principalName: 'eve', reason }, (keep) => keep()),
      ).rejects.toMatchObject({ code: 'request.invalid' })
    expect(requests.list()).toHaveLength(21)
  })

  it('are decided with a whole reason: one that is too long is refused, and nothing carried out', async () => {
    const { ask, requests } = desk()
    const { id } = (await ask('ada', 'example.com')).request
    for (const [state, reason] of [
      ['approved', 'x'.repeat(1_001)],
      ['denied', 'x'.repeat(1_001)],
      ['denied', ' '],
    ] as const)
      await expect(
        requests.decide(id, { state, reason }, () => Promise.reject(new Error('carried out'))),
      ).rejects.toMatchObject({ code: 'request.invalid' })
    const reason = 'x'.repeat(1_000)
    expect((await decided(requests, id, 'denied', reason)).decision?.reason).toBe(reason)
  })

  it('that cannot be kept have not happened; a damaged file is no empty one', async () => {
    const { world, requests, ask } = desk()
    world.isFull = true
    await expect(ask('ada', 'example.com')).rejects.toMatchObject({ code: 'store.unavailable' })
    expect(requests.list()).toEqual([])
    for (const kept of ['{"requests": [', '{}', '{"requests": [{"id": "r-1"}]}'])
      expect(() => desk(kept)).toThrow('the file is damaged')
  })
})
