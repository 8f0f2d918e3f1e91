import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/index.js'
import { WeirError } from '../../src/errors.js'
import { PatternMemo } from '../../src/model/index.js'
import { readEgressPolicy, watchEgressLists } from '../../src/node/egress-policy.js'
import { createLogger } from '../../src/node/logger.js'
import { REAL_CLOCK } from '../../src/node/real-time.js'

describe('the log of a node', () => {
  it('tells message, stack and cause of an error under either name, and no secrets', () => {
    const lines: string[] = []
    const logger = createLogger('info', (line) => lines.push(line))
    const error = new WeirError('store.unavailable', 'Cannot write the store', {
      cause: new Error('disk full'),
    })
    logger.error({ error, what: 'store' }, 'first')
    logger.error({ err: error, token: 'hunter2' }, 'second')
    for (const line of lines) {
      expect(line).toContain('Cannot write the store')
      expect(line).toContain('disk full')
      expect(line).toContain('store.unavailable')
      expect(line).toContain('parts.test')
    }
    expect(lines).toHaveLength(2)
    expect(lines.join()).not.toContain('hunter2')
  })
})

describe('the clock of a node', () => {
  it('sleeps longer than a timer can, and wakes when told', async () => {
    const stop = new AbortController()
    const slept = REAL_CLOCK.sleep(40 * 24 * 3_600_000, stop.signal).then(
      () => 'slept',
      () => 'woken',
    )
    await REAL_CLOCK.sleep(30)
    stop.abort()
    expect(await slept).toBe('woken')
  })
})

describe('reading the egress lists again', () => {
  it('judges anew only what changed, and comes to the same as reading them for the first time', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'weir-lists-'))
    const file = join(dir, 'allowed')
    const { values } = loadConfig({ dataDir: dir, settings: [`Egress.AllowFile=${file}`] })
    const memo = new PatternMemo()
    try {
      for (const list of ['.a.example\nB.example\n', '.a.example\nhttps://c.example\n', 'B.example\n']) {
        await writeFile(file, list)
        expect(await readEgressPolicy(values, [], { memo })).toEqual(await readEgressPolicy(values, []))
      }
      await writeFile(file, 'B.example\n.com\n')
      await expect(readEgressPolicy(values, [], { memo })).rejects.toThrow(/allowed:2.*public suffix/s)
    } finally {
      await rm(dir, { recursive: true })
    }
  })
})

describe('the watch of the egress lists', () => {
  it('tries again until a list that was read is in force', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'weir-watch-'))
    const list = join(dir, 'allowed')
    await writeFile(list, 'one.example\ntwo.example\n')
    const { values } = loadConfig({ dataDir: dir, settings: [`Egress.AllowFile=${list}`] })
    const stop = new AbortController()
    const tried: string[][] = []
    const warnings: string[] = []
    const watching = watchEgressLists({
      files: [list],
      read: () => readEgressPolicy(values, []),
      apply: async ({ allow }) => {
        tried.push(allow)
        if (tried.length === 1)
          throw new WeirError('egress.unavailable', 'the gateway is being started again')
      },
      warn: ({ message }) => warnings.push(message),
      signal: stop.signal,
    })
    try {
      await REAL_CLOCK.sleep(120)
      await writeFile(list, 'one.example\n')
      await expect.poll(() => tried).toEqual([['one.example'], ['one.example']])
      expect(warnings).toEqual([expect.stringContaining('being started again')])
      await REAL_CLOCK.sleep(1_200)
      expect(tried).toHaveLength(2)
    } finally {
      stop.abort()
      await watching
      await rm(dir, { recursive: true })
    }
  })
})
