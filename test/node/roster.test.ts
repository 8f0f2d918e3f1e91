import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { autoApproval } from '../../src/node/membership/auto-approval.js'
import { createJoinDesk, joinText } from '../../src/node/membership/join-desk.js'
import { openRoster, type Roster } from '../../src/node/membership/roster.js'
import { keyPairOf, keyPairOfSecret, joinerName, type KeyPair } from '../../src/transports/index.js'
import type { NodeMembership } from '../../src/model/index.js'
import { sampleNode } from '../orchestrator/samples.js'
import { VirtualClock, seededChance } from '../orchestrator/virtual-time.js'
import { SILENT, newKey } from '../transports/message-server.js'
import { withDirectory } from './running-node.js'

const OWN = keyPairOf(new Uint8Array(32).fill(7)).publicKey

async function withRoster(
  use: (made: {
    roster: Roster
    clock: VirtualClock
    file: string
    reopen: () => Promise<Roster>
  }) => Promise<void>,
  sharedSecret = '',
): Promise<void> {
  await withDirectory(async (directory) => {
    const clock = new VirtualClock()
    const file = join(directory, 'members.json')
    const reopen = () => openRoster({ file, clock, chance: seededChance(3), sharedSecret, publicKey: OWN })
    await use({ roster: await reopen(), clock, file, reopen })
  })
}

function keysOf(roster: Roster): string[] {
  return roster.users().map(({ publicKey }) => publicKey)
}

describe('join tokens', () => {
  it('are kept without their secret, in a file of the owner', () =>
    withRoster(async ({ roster, file }) => {
      const { token, secret } = await roster.create({ description: 'rack 7' })
      expect(secret).toMatch(/^weir-join_[\w-]{43}$/)
      expect(readFileSync(file, 'utf8')).not.toContain(secret.slice(10))
      expect(statSync(file).mode & 0o777).toBe(0o600)
      expect(JSON.stringify([token, await roster.list()])).not.toContain(secret.slice(10))
    }))

  it('open the door until they expire', () =>
    withRoster(async ({ roster, clock }) => {
      const { secret, token } = await roster.create({ expiresAfterMs: 60_000 })
      const key = keyPairOfSecret(secret).publicKey
      expect(roster.openToken(key)).toBe(token.id)
      expect(keysOf(roster)).toContain(key)
      await clock.pass(60_000)
      expect(roster.openToken(key)).toBeUndefined()
      expect(keysOf(roster)).not.toContain(key)
      expect(await roster.list()).toEqual([])
    }))

  it('last a day and serve one machine unless somebody says otherwise; 0 means no limit', () =>
    withRoster(async ({ roster, clock }) => {
      const { token } = await roster.create({})
      expect(token).toMatchObject({ usesMax: 1, uses: 0, expireTimeMs: clock.now() + 86_400_000 })
      expect((await roster.create({ usesMax: 0, expiresAfterMs: 0 })).token).toMatchObject({
        usesMax: 0,
        expireTimeMs: 0,
      })
    }))

  it('are used up, and stay so after a restart', () =>
    withRoster(async ({ roster, clock, reopen }) => {
      const { secret, token } = await roster.create({ usesMax: 2 })
      const key = keyPairOfSecret(secret).publicKey
      for (const nodeId of ['a', 'b']) {
        expect(roster.openToken(key)).toBe(token.id)
        await roster.add({ nodeId, publicKey: newKey().publicKey, joinTimeMs: clock.now() }, token.id)
      }
      expect(roster.openToken(key)).toBeUndefined()
      const again = await reopen()
      expect(again.openToken(key)).toBeUndefined()
      // The connection of the last machine stays open for its answer.
      expect(keysOf(again)).toContain(key)
      await clock.pass(10_000)
      expect(keysOf(again)).not.toContain(key)
      expect([again.member('a')?.nodeId, again.member('b')?.nodeId]).toEqual(['a', 'b'])
    }))

  it('are revoked at once; who joined with them stays', () =>
    withRoster(async ({ roster, clock }) => {
      const applied: number[] = []
      roster.onChange(async (users) => {
        applied.push(users.length)
      })
      const { secret, token } = await roster.create({ usesMax: 0 })
      await roster.add({ nodeId: 'a', publicKey: newKey().publicKey, joinTimeMs: clock.now() }, token.id)
      await roster.revoke(token.id)
      expect(roster.openToken(keyPairOfSecret(secret).publicKey)).toBeUndefined()
      expect(applied).toEqual([2, 3, 2])
      expect(roster.member('a')).toBeDefined()
      await expect(roster.revoke(token.id)).rejects.toMatchObject({ code: 'node.token_not_found' })
    }))

  it.each([
    ['a negative number of uses', { usesMax: -1 }],
    ['half a use', { usesMax: 0.5 }],
    ['an endless description', { description: 'x'.repeat(257) }],
    ['a time beyond ten years', { expiresAfterMs: 11 * 365 * 86_400_000 }],
  ])('are not made with %s', (_what, wish) =>
    withRoster(async ({ roster }) => {
      await expect(roster.create(wish)).rejects.toMatchObject({ code: 'api.bad_request' })
      expect(await roster.list()).toEqual([])
    }),
  )
})

describe('the roster', () => {
  it('is not opened when its file is damaged, with advice', () =>
    withRoster(async ({ file, reopen }) => {
      for (const text of [
        '',
        '{',
        '{"version":1,"members":[{"nodeId":"a b","publicKey":"U"}],"tokens":[]}',
        'null',
      ]) {
        writeFileSync(file, text)
        await expect(reopen()).rejects.toMatchObject({
          code: 'store.unavailable',
          hint: expect.any(String) as string,
        })
      }
    }))

  it('changes nothing when it cannot be written', () =>
    withRoster(async ({ roster, file, clock }) => {
      const { token } = await roster.create({ usesMax: 2 })
      const member = { nodeId: 'a', publicKey: newKey().publicKey, joinTimeMs: clock.now() }
      await roster.add(member, token.id)
      rmSync(join(file, '..'), { recursive: true })
      const failure = { code: 'store.unavailable', retryable: true }
      await expect(roster.add({ ...member, nodeId: 'b' }, token.id)).rejects.toMatchObject(failure)
      await expect(roster.forget('a')).rejects.toMatchObject(failure)
      await expect(roster.revoke(token.id)).rejects.toMatchObject(failure)
      await expect(roster.create({})).rejects.toMatchObject(failure)
      expect([roster.member('a'), roster.member('b')]).toEqual([member, undefined])
      expect(await roster.list()).toEqual([{ ...token, uses: 1 }])
    }))

  it('tries again what could not be put in force', () =>
    withRoster(async ({ roster }) => {
      let isBroken = true
      let applied = 0
      roster.onChange(async () => {
        if (isBroken) throw new Error('the server does not answer')
        applied += 1
      })
      await expect(roster.shutOut('a')).rejects.toThrow('does not answer')
      isBroken = false
      await roster.sweep()
      await roster.sweep()
      expect(applied).toBe(1)
    }))
})

describe('the join desk', () => {
  const ROUND = { membership: 'APPROVED' }

  async function withDesk(
    use: (made: {
      roster: Roster
      tokenKey: string
      ask: (
        nodeId: string,
        key: KeyPair,
        changes?: { signed?: string; tokenKey?: string },
      ) => Promise<unknown>
      memberships: Map<string, NodeMembership>
    }) => Promise<void>,
    usesMax = 0,
  ): Promise<void> {
    await withRoster(async ({ roster, clock }) => {
      const { secret } = await roster.create({ usesMax })
      const tokenKey = keyPairOfSecret(secret).publicKey
      const memberships = new Map<string, NodeMembership>()
      const desk = createJoinDesk({
        roster,
        ownId: 'orchestrator-1',
        membershipOf: async (id) => memberships.get(id),
        newcomer: 'APPROVED',
        clock,
        logger: SILENT,
      })
      const ask = (nodeId: string, key: KeyPair, changes: { signed?: string; tokenKey?: string } = {}) => {
        const body = {
          nodeId,
          publicKey: key.publicKey,
          signature: key.sign(changes.signed ?? joinText(nodeId, tokenKey)),
        }
        return desk(body, AbortSignal.timeout(5_000), joinerName(changes.tokenKey ?? tokenKey))
      }
      await use({ roster, tokenKey, ask, memberships })
    })
  }

  it('takes a machine that holds a token and its own key; asking again changes nothing', () =>
    withDesk(async ({ roster, ask }) => {
      const key = newKey()
      expect(await ask('a', key)).toEqual(ROUND)
      expect(await ask('a', key)).toEqual(ROUND)
      expect(roster.member('a')?.publicKey).toBe(key.publicKey)
      expect((await roster.list())[0]?.uses).toBe(1)
    }))

  it('refuses the name of another machine, and says what to do', () =>
    withDesk(async ({ ask, roster }) => {
      const key = newKey()
      await ask('a', key)
      await expect(ask('a', newKey())).rejects.toMatchObject({
        code: 'node.identity',
        hint: expect.stringContaining('weir node delete a') as string,
      })
      await expect(ask('orchestrator-1', newKey())).rejects.toMatchObject({ code: 'node.identity' })
      await expect(ask('b', key)).rejects.toMatchObject({ code: 'node.identity' })
      await roster.forget('a')
      expect(await ask('a', newKey())).toEqual(ROUND)
    }))

  it('gives one name once when two machines ask for it at the same time', () =>
    withDesk(async ({ ask }) => {
      const all = await Promise.allSettled(Array.from({ length: 10 }, () => ask('a', newKey())))
      expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    }))

  it('lets one machine join with a token for one, however many ask at once', () =>
    withDesk(async ({ ask, roster }) => {
      const all = await Promise.allSettled(
        Array.from({ length: 10 }, (_, index) => ask(`n-${index}`, newKey())),
      )
      expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      expect(roster.users().filter(({ kind }) => kind === 'node')).toHaveLength(1)
    }, 1))

  it('refuses what its key did not sign, and a request made for another token', () =>
    withDesk(async ({ ask, tokenKey }) => {
      await expect(ask('a', newKey(), { signed: 'something else' })).rejects.toMatchObject({
        code: 'api.bad_request',
      })
      await expect(ask('a', newKey(), { signed: joinText('b', tokenKey) })).rejects.toMatchObject({
        code: 'api.bad_request',
      })
      await expect(ask('a', newKey(), { tokenKey: newKey().publicKey })).rejects.toMatchObject({
        code: 'node.refused',
      })
    }))

  it('tells a rejected machine so', () =>
    withDesk(async ({ ask, memberships }) => {
      const key = newKey()
      await ask('a', key)
      memberships.set('a', 'REJECTED')
      await expect(ask('a', key)).rejects.toMatchObject({
        code: 'node.refused',
        message: expect.stringContaining('rejected') as string,
      })
    }))

  it.each([
    [undefined],
    [null],
    [7],
    ['text'],
    [[]],
    [{}],
    [{ nodeId: 'a b' }],
    [{ nodeId: 'a', publicKey: 'U', signature: '' }],
  ])('refuses %j', (body) =>
    withRoster(async ({ roster, clock }) => {
      const { secret } = await roster.create({})
      const desk = createJoinDesk({
        roster,
        ownId: 'o',
        membershipOf: async () => undefined,
        newcomer: 'PENDING',
        clock,
        logger: SILENT,
      })
      const from = joinerName(keyPairOfSecret(secret).publicKey)
      await expect(desk(body, AbortSignal.timeout(1_000), from)).rejects.toMatchObject({
        code: 'api.bad_request',
      })
    }),
  )
})

describe('automatic approval', () => {
  const rule = (listed: string[], isManual = true) => autoApproval({ ownId: 'own', isManual, listed })
  const node = (nodeId: string, labels: Record<string, string> = {}) => ({
    ...sampleNode(nodeId).info,
    nodeId,
    labels,
  })

  it('approves everybody unless approval is manual', () => {
    expect(rule([], false)(node('a'))).toBe(true)
    expect(rule([])(node('a'))).toBe(false)
  })

  it('approves the orchestrator’s own node, listed ids and listed labels', () => {
    const approves = rule(['a', ' region = eu ', ''])
    expect(approves(node('own'))).toBe(true)
    expect(approves(node('a'))).toBe(true)
    expect(approves(node('b', { region: 'eu' }))).toBe(true)
    expect(approves(node('b', { region: 'us' }))).toBe(false)
    expect(approves(node(''))).toBe(false)
  })
})
