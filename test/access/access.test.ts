import { describe, expect, it } from 'vitest'
import fc from 'fast-check'
import {
  FailedAttempts,
  hashPassword,
  newTokenText,
  readConfiguredUsers,
  sourceOf,
  tokenIdIn,
  TokenAccess,
} from '../../src/access/index.js'
import { EVERYONE } from '../../src/model/index.js'
import type { TokenRecord, TokenStore } from '../../src/ports/index.js'
import { HandClock } from '../api/with-access.js'

class MemoryTokenStore implements TokenStore {
  readonly records = new Map<string, TokenRecord>()
  touches = 0
  isBroken = false

  all(): TokenRecord[] {
    return [...this.records.values()]
  }

  add(record: TokenRecord): void {
    if (this.isBroken) throw new Error('the disk is full')
    this.records.set(record.id, record)
  }

  revoke(id: string, revokedMs: number): void {
    if (this.isBroken) throw new Error('the disk is full')
    const record = this.records.get(id)
    if (record !== undefined) this.records.set(id, { ...record, revokedMs })
  }

  touch(uses: ReadonlyMap<string, number>): void {
    this.touches += 1
    if (this.isBroken) throw new Error('the disk is full')
    for (const [id, lastUsedMs] of uses) {
      const record = this.records.get(id)
      if (record !== undefined) this.records.set(id, { ...record, lastUsedMs })
    }
  }

  close(): void {}
}

function openAccess(users: unknown[] = []) {
  const clock = new HandClock()
  const store = new MemoryTokenStore()
  const troubles: unknown[] = []
  const access = new TokenAccess({
    store,
    clock,
    users: readConfiguredUsers(users),
    onTrouble: (error) => troubles.push(error),
  })
  const bearer = (token: string, address = '198.51.100.1') =>
    access.authenticate({ kind: 'bearer', token }, address)
  const basic = (username: string, password: string, address = '198.51.100.1') =>
    access.authenticate({ kind: 'basic', username, password }, address)
  return { access, clock, store, troubles, bearer, basic }
}

describe('tokens', () => {
  it('are recognisable, hold 256 random bits and never repeat', () => {
    const made = Array.from({ length: 500 }, () => newTokenText())
    for (const { id, text } of made) {
      expect(text).toMatch(/^weir_[a-km-np-z2-9]{12}_[\w-]{43}$/)
      expect(tokenIdIn(text)).toBe(id)
    }
    expect(new Set(made.map(({ text }) => text.slice(18))).size).toBe(500)
  })

  it('are read by one spelling only', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 80 }), (text) => {
        expect(tokenIdIn(text)).toBeUndefined()
      }),
    )
    const { text } = newTokenText()
    for (const other of [
      ` ${text}`,
      `${text}\n`,
      text.toUpperCase(),
      `${text}A`,
      text.slice(0, -1),
      `${text}=`,
    ])
      expect(tokenIdIn(other)).toBeUndefined()
  })

  it('are kept as a hash only, in whatever the store holds', () => {
    const { access, store } = openAccess()
    const { token, record } = access.createToken({ name: 'a', role: 'reader', namespaces: '*' }, EVERYONE)
    expect(JSON.stringify([...store.records])).not.toContain(token.slice(18))
    expect(record.hash).toMatch(/^[0-9a-f]{64}$/)
  })

  it('of one id do not open the door of another', async () => {
    const { access, bearer } = openAccess()
    const [one, two] = ['one', 'two'].map((name) =>
      access.createToken({ name, role: 'reader', namespaces: '*' }, EVERYONE),
    )
    const mixed = `${one?.token.slice(0, 18) ?? ''}${two?.token.slice(18) ?? ''}`
    await expect(bearer(mixed)).rejects.toMatchObject({ code: 'api.unauthorized' })
    await expect(bearer(one?.token ?? '')).resolves.toMatchObject({ name: 'one' })
  })

  it('are not made, and not revoked, when the store cannot keep it', async () => {
    const { access, store, bearer } = openAccess()
    const { token, record } = access.createToken({ name: 'a', role: 'reader', namespaces: '*' }, EVERYONE)
    store.isBroken = true
    expect(() => access.createToken({ name: 'b', role: 'reader', namespaces: '*' }, EVERYONE)).toThrow('full')
    expect(() => access.revokeToken(record.id)).toThrow('full')
    expect(access.tokens()).toHaveLength(1)
    await expect(bearer(token)).resolves.toMatchObject({ id: record.id })
  })

  it('have a time of last use that is written once a minute at most, and at the end', async () => {
    const { access, store, clock, bearer, troubles } = openAccess()
    const { token, record } = access.createToken({ name: 'a', role: 'reader', namespaces: '*' }, EVERYONE)
    for (let count = 0; count < 100; count++) await bearer(token)
    expect(store.touches).toBe(0)
    clock.pass(60_000)
    for (let count = 0; count < 100; count++) await bearer(token)
    expect(store.touches).toBe(1)
    expect(access.tokens()[0]?.lastUsedMs).toBe(clock.now())
    store.isBroken = true
    clock.pass(60_000)
    await expect(bearer(token), 'nobody is refused for that').resolves.toBeDefined()
    expect(troubles).toHaveLength(1)
    store.isBroken = false
    access.close()
    expect(store.records.get(record.id)?.lastUsedMs).toBe(clock.now())
  })

  it('end for those who use them, once, however long they were to live', async () => {
    const { access, clock } = openAccess()
    const expiresMs = clock.now() + 90 * 24 * 3_600_000
    const { record } = access.createToken({ name: 'a', role: 'reader', namespaces: '*', expiresMs }, EVERYONE)
    const principal = { ...EVERYONE, id: record.id, kind: 'token' as const }
    const end = access.endOf(principal)
    expect(access.endOf(principal)).toBe(end)
    for (let day = 0; day < 89; day++) {
      clock.pass(24 * 3_600_000)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(end.aborted).toBe(false)
    clock.pass(24 * 3_600_000)
    await expect.poll(() => end.aborted).toBe(true)
    expect(access.endOf(principal).aborted).toBe(true)
  })
})

describe('failed attempts', () => {
  it('of one source are bounded, are forgiven with time, and hold up nobody else', () => {
    const clock = new HandClock()
    const failures = new FailedAttempts(clock)
    let allowed = 0
    // One attempt each second, for an hour.
    for (let second = 0; second < 3_600; second++) {
      if (failures.waitSeconds('a') === 0) {
        allowed += 1
        failures.add('a')
      }
      clock.pass(1_000)
    }
    expect(allowed).toBeLessThanOrEqual(10 + 3_600 / 6 + 1)
    expect(allowed).toBeGreaterThan(500)
    expect(failures.waitSeconds('b')).toBe(0)
    clock.pass(60_000)
    expect(failures.waitSeconds('a')).toBe(0)
  })

  it('that go on while they are refused do not lock a source out for longer', () => {
    const clock = new HandClock()
    const failures = new FailedAttempts(clock)
    for (let count = 0; count < 10_000; count++) failures.add('a')
    expect(failures.waitSeconds('a')).toBeLessThanOrEqual(6)
  })

  it('are remembered for a bounded number of sources', () => {
    const clock = new HandClock()
    const failures = new FailedAttempts(clock, { sourcesMax: 3, perSource: 1 })
    for (const source of ['a', 'b', 'c', 'd']) failures.add(source)
    expect(['a', 'b', 'c', 'd'].map((source) => failures.waitSeconds(source) > 0)).toEqual([
      false,
      true,
      true,
      true,
    ])
  })

  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:0DB8:0001:0002::9', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ])('of %s count for %s', (address, source) => {
    expect(sourceOf(address)).toBe(source)
  })
})

describe('users of the configuration', () => {
  const PASSWORD = 'correct horse battery'

  it('with a hashed password are let in, and their password is hashed once', async () => {
    const hash = await hashPassword(PASSWORD)
    expect(hash).toMatch(/^scrypt\$32768\$8\$1\$/)
    expect(await hashPassword(PASSWORD)).not.toBe(hash)
    const { basic } = openAccess([
      { Username: 'alice', Password: hash, Capabilities: [{ Actions: ['read:*'] }] },
    ])
    const principal = await basic('alice', PASSWORD)
    expect(principal.name).toBe('alice')
    expect([...principal.permissions]).toEqual(['read:job', 'read:node', 'read:agent'])
    await expect(basic('alice', 'correct horse batterz')).rejects.toMatchObject({ code: 'api.unauthorized' })
  })

  it('cannot be guessed quickly from one address, nor locked out there when they are known already', async () => {
    const { basic } = openAccess([{ Username: 'alice', Password: PASSWORD }])
    await basic('alice', PASSWORD)
    const codes: string[] = []
    for (let count = 0; count < 12; count++)
      codes.push(await basic('alice', `wrong ${count}`).then(String, (error: { code: string }) => error.code))
    expect(codes.slice(0, 10)).toEqual(Array.from({ length: 10 }, () => 'api.unauthorized'))
    expect(codes.slice(10)).toEqual(['api.overload', 'api.overload'])
    await expect(basic('alice', PASSWORD)).resolves.toMatchObject({ name: 'alice' })
  })

  it('cannot be guessed quickly from many addresses together', async () => {
    const { basic } = openAccess([{ Username: 'alice', Password: PASSWORD }])
    let tried = 0
    for (let count = 0; count < 300; count++)
      await basic('alice', `wrong ${count}`, `198.51.100.${count % 250}`).catch((error: { code: string }) => {
        if (error.code === 'api.unauthorized') tried += 1
      })
    expect(tried).toBeLessThanOrEqual(101)
  })

  it('hold the rights that were written, and no others', () => {
    const [none, some, all] = readConfiguredUsers([
      { APIKey: 'k'.repeat(20) },
      { APIKey: 'l'.repeat(20), Capabilities: [{ Actions: ['read:job', 'write:node'] }], Namespaces: ['a'] },
      { APIKey: 'm'.repeat(20), Capabilities: [{ Actions: ['*'] }] },
    ])
    expect(none?.principal).toMatchObject({ permissions: new Set(), namespaces: '*' })
    expect(some?.principal).toMatchObject({
      permissions: new Set(['read:job', 'write:node']),
      namespaces: ['a'],
    })
    expect(all?.principal.permissions.has('manage:access')).toBe(true)
  })

  it('with mistakes are refused, all mistakes at once, without a secret in the message', () => {
    const bad = [
      { APIKey: 'too-short' },
      { Username: 'not a name', Password: 'secret-password' },
      { Username: 'bob' },
      { Username: 'carol', Password: '$2b$12$abcdefghijklmnopqrstuv' },
      { Username: 'dave', Password: 'scrypt$2$8$1$x$y' },
      { APIKey: 'k'.repeat(20), Capabilities: [{ Actions: ['manage:access', 'fly'] }] },
      { APIKey: 'k'.repeat(20), Colour: 'red' },
      {},
      'text',
    ]
    let message = ''
    try {
      readConfiguredUsers(bad)
    } catch (error) {
      message = (error as Error).message
    }
    for (const words of [
      'Users[0]: APIKey',
      'Users[1]: Username',
      'Users[2]: Username and Password',
      'Users[3]: Password: bcrypt hashes are not read; write the output of `weir auth hash-password`',
      'Users[4]: Password: the scrypt hash',
      'Users[5]: Capabilities: "manage:access"',
      'Users[5]: Capabilities: "fly"',
      'Users[6]: unknown field "colour"',
      'Users[7]: give an APIKey',
      'Users[8]: expected a map',
      'two users have the same APIKey',
    ])
      expect(message).toContain(words)
    for (const secret of ['too-short', 'secret-password', 'k'.repeat(20), '$2b$12$'])
      expect(message).not.toContain(secret)
  })
})
