import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AdminAction, TokenRecord } from '../../src/ports/index.js'
import { openAdminLog, openTokenStore, verifyAdminLog } from '../../src/stores/index.js'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'weir-access-store-'))
})
afterEach(() => rmSync(dir, { recursive: true }))

describe('the tokens on disk', () => {
  const record = (id: string, more: Partial<TokenRecord> = {}): TokenRecord => ({
    id,
    name: `name of ${id}`,
    hash: 'a'.repeat(64),
    role: 'submitter',
    namespaces: ['a', 'b'],
    createdMs: 1_000,
    createdBy: 'server',
    ...more,
  })

  it('survive a restart with everything that is known about them, readable by their owner only', async () => {
    const path = join(dir, 'access.db')
    const first = await openTokenStore(path)
    first.add(record('t-1'))
    first.add(record('t-2', { namespaces: '*', role: 'admin', expiresMs: 9e12 }))
    first.revoke('t-1', 2_000)
    first.touch(new Map([['t-2', 3_000]]))
    first.touch(new Map([['t-2', 2_500]]))
    for (const name of readdirSync(dir)) expect(statSync(join(dir, name)).mode & 0o077, name).toBe(0)
    first.close()
    const second = await openTokenStore(path)
    expect(second.all()).toEqual([
      record('t-1', { revokedMs: 2_000 }),
      record('t-2', { namespaces: '*', role: 'admin', expiresMs: 9e12, lastUsedMs: 3_000 }),
    ])
    second.close()
  })

  it('are bounded in number: those that can be used are refused, the oldest ended ones are forgotten', async () => {
    const store = await openTokenStore(join(dir, 'access.db'), {
      usableMax: 2,
      endedKept: 1,
      now: () => 5_000,
    })
    store.add(record('t-1'))
    store.add(record('t-2'))
    expect(() => store.add(record('t-3'))).toThrow(expect.objectContaining({ code: 'access.too_many' }))
    store.revoke('t-1', 1_000)
    store.add(record('t-3'))
    store.revoke('t-2', 2_000)
    store.add(record('t-4'))
    expect(store.all().map(({ id }) => id)).toEqual(['t-2', 't-3', 't-4'])
    store.close()
  })

  it('let nobody in when their file is damaged', async () => {
    const path = join(dir, 'access.db')
    writeFileSync(path, 'not a database, but long enough to be one'.repeat(100))
    await expect(openTokenStore(path)).rejects.toMatchObject({ code: 'store.unavailable' })
    await expect(openTokenStore(join(dir, 'absent', 'access.db'))).rejects.toMatchObject({
      code: 'store.unavailable',
    })
  })
})

describe('the record of administrative actions', () => {
  const action = (object: string): AdminAction => ({
    principal: 't-1',
    principalName: 'alice',
    address: '192.0.2.1',
    action: 'node.approve',
    object,
    outcome: 'allowed',
  })

  it('is one chain, over restarts and full files, and the oldest files go', async () => {
    const options = { dir, fileBytesMax: 2_000, filesKept: 2 }
    for (let start = 0; start < 3; start++) {
      const log = await openAdminLog(options)
      for (let count = 0; count < 10; count++) await log.append(action(`n-${start}-${count}`))
      expect(await log.verify()).toMatchObject({ intact: true })
      await log.close()
    }
    expect(readdirSync(dir).length).toBe(3)
    const verdict = await verifyAdminLog(dir)
    expect(verdict).toMatchObject({ intact: true })
    expect(verdict.intact && verdict.firstSequence > 1 && verdict.firstSequence + verdict.records - 1).toBe(
      30,
    )
    const log = await openAdminLog(options)
    const [first, second] = await log.read({ before: 30, limit: 2 })
    expect([first?.sequence, second?.sequence, second?.object]).toEqual([28, 29, 'n-2-8'])
    expect(await log.read({ limit: 5 })).toHaveLength(5)
    for (const name of readdirSync(dir)) expect(statSync(join(dir, name)).mode & 0o077).toBe(0)
    await log.close()
  })

  it('keeps the order of those who write at once', async () => {
    const log = await openAdminLog({ dir })
    const records = await Promise.all(
      Array.from({ length: 50 }, (_, index) => log.append(action(`${index}`))),
    )
    expect(records.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 50 }, (_, index) => index + 1),
    )
    expect(await log.verify()).toMatchObject({ intact: true, records: 50 })
    await log.close()
  })

  it.each([
    ['a changed word', (text: string) => text.replace('n-1', 'n-9'), 'content'],
    ['a removed line', (text: string) => text.split('\n').toSpliced(1, 1).join('\n'), 'gap'],
    ['a removed beginning', (text: string) => text.split('\n').slice(1).join('\n'), undefined],
    [
      'swapped lines',
      (text: string) =>
        text
          .split('\n')
          .toSpliced(0, 2, ...text.split('\n').slice(0, 2).reverse())
          .join('\n'),
      'gap',
    ],
    ['nonsense', (text: string) => `${text}nonsense\n`, 'not a record'],
  ])('shows %s', async (_title, change, reason) => {
    const log = await openAdminLog({ dir })
    for (let count = 0; count < 4; count++) await log.append(action(`n-${count}`))
    await log.close()
    const path = join(dir, 'admin.jsonl')
    writeFileSync(path, change(readFileSync(path, 'utf8')))
    const verdict = await verifyAdminLog(dir)
    // What is missing at the beginning may have been forgotten by rotation: the verdict says from where it is whole.
    if (reason === undefined) expect(verdict).toMatchObject({ intact: true, firstSequence: 2, records: 3 })
    else expect(verdict).toMatchObject({ intact: false, reason: expect.stringContaining(reason) as string })
  })

  it.each([
    ['its last record', (text: string) => `${text.split('\n').slice(0, -2).join('\n')}\n`],
    ['all of them', () => ''],
  ])('shows whoever still writes it that somebody removed %s', async (_what, change) => {
    const log = await openAdminLog({ dir })
    expect(await log.verify()).toMatchObject({ intact: true, records: 0 })
    for (let count = 0; count < 3; count++) await log.append(action(`n-${count}`))
    expect(await log.verify()).toMatchObject({ intact: true, records: 3 })
    const path = join(dir, 'admin.jsonl')
    writeFileSync(path, change(readFileSync(path, 'utf8')))
    expect(await log.verify()).toMatchObject({
      intact: false,
      reason: expect.stringContaining('newest') as string,
    })
    await log.close()
  })

  it('goes on after a crash in the middle of a line', async () => {
    const log = await openAdminLog({ dir })
    await log.append(action('n-1'))
    await log.close()
    appendFileSync(join(dir, 'admin.jsonl'), '{"timeMs":1,"seq')
    const again = await openAdminLog({ dir })
    expect((await again.append(action('n-2'))).sequence).toBe(2)
    expect(await again.verify()).toMatchObject({ intact: true, records: 2 })
    await again.close()
  })

  it('does not open with a damaged end, nor write when it is closed', async () => {
    const log = await openAdminLog({ dir })
    await log.append(action('n-1'))
    await log.close()
    await expect(log.append(action('n-2'))).rejects.toMatchObject({ code: 'audit.unavailable' })
    appendFileSync(join(dir, 'admin.jsonl'), 'nonsense\n')
    await expect(openAdminLog({ dir })).rejects.toMatchObject({ code: 'audit.unavailable' })
  })

  it('bounds what callers put into it', async () => {
    const log = await openAdminLog({ dir })
    const details = Object.fromEntries(
      Array.from({ length: 100 }, (_, index) => [`key${index}`, 'x'.repeat(5_000)]),
    )
    await log.append({ ...action('y'.repeat(100_000)), details })
    await log.close()
    expect(statSync(join(dir, 'admin.jsonl')).size).toBeLessThan(30_000)
  })
})
