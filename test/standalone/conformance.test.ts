import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { namespacesMissing, readCorpus, type RowResult } from '../../src/conformance/index.js'
import { weir } from '../cli/with-cli.js'

const missing = namespacesMissing() ?? ''
const title = 'weir egress conformance'
const WEAK = ['--', process.execPath, join(import.meta.dirname, 'weak-proxy.mjs')]
const PROXY = ['egress', 'conformance', '--proxy', 'http://127.0.0.1:3128']

describe.skipIf(missing !== '')(missing === '' ? title : `${title} (skipped: ${missing})`, () => {
  it('shows where a weak proxy lets something out, and ends with 1', async () => {
    const rows = ['A-01', 'A-10', 'B-02', 'B-05', 'C-20', 'E-01', 'F-01', 'F-02', 'I-03a', 'J-02']
    const { code, stdout } = await weir([
      ...PROXY,
      '--patience',
      '1',
      '--rows',
      rows.join(),
      '--output',
      'json',
      ...WEAK,
    ])
    const results = JSON.parse(stdout) as RowResult[]
    expect(code).toBe(1)
    const verdicts = Object.fromEntries(results.map(({ id, verdict }) => [id, verdict]))
    expect(verdicts).toMatchObject({
      'A-01': 'pass',
      'A-10': 'broken',
      'B-02': 'hole',
      'F-01': 'hole',
      'I-03a': 'hole',
    })
    expect(results.find(({ id }) => id === 'B-02')?.findings[0]).toMatchObject({
      kind: 'hole',
      what: 'contacted',
      seen: '["EVIL"]',
    })
  })

  // All rows of the corpus attack our gateway in `test/egress`, in process and as a process. Here it is this program that is tested:
  // every third row of each category is enough to find out.
  it('finds nothing in our own gateway', { timeout: 150_000 }, async () => {
    const categories = new Map<string, string[]>()
    for (const { id, category } of readCorpus())
      categories.set(category, [...(categories.get(category) ?? []), id])
    const rows = [...categories.values()].flatMap((ids) => ids.filter((_, index) => index % 3 === 0))
    const records = mkdtempSync(join(tmpdir(), 'weir-conformance-test-'))
    try {
      const own = ['--', process.execPath, join(import.meta.dirname, 'own-proxy.mjs'), records]
      const { code, stdout } = await weir([
        ...PROXY,
        '--strict',
        '--rows',
        rows.join(),
        '--output',
        'json',
        ...own,
      ])
      const results = JSON.parse(stdout) as RowResult[]
      const failed = results.filter(({ verdict }) => verdict !== 'pass' && verdict !== 'not applicable')
      expect(failed).toEqual([])
      expect(code).toBe(0)
      expect(results.map(({ id }) => id)).toEqual(expect.arrayContaining(rows))
      const passed = results.filter(({ verdict }) => verdict === 'pass')
      expect(passed.length).toBeGreaterThan(100)
      expect(results.every(({ verdict, reason }) => (verdict === 'not applicable') === (reason !== ''))).toBe(
        true,
      )
    } finally {
      rmSync(records, { recursive: true, force: true })
    }
  })

  it('prints what failed as a table with counts', async () => {
    const { stdout } = await weir([...PROXY, '--patience', '1', '--rows', 'A-01,B-02', ...WEAK])
    expect(stdout).toMatch(/ROW +VERDICT +ATTACK[^]*B-02 +hole/)
    expect(stdout).toMatch(/^A: 1 pass$/m)
    expect(stdout).toMatch(/^all: 1 pass, 1 hole$/m)
  })

  it('attacks nothing that is not on loopback', async () => {
    const { code, stderr } = await weir(['egress', 'conformance', '--proxy', 'http://192.0.2.1:3128'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('it is not on loopback')])
  })

  it('says so when the proxy ends before it listens', async () => {
    const { code, stderr } = await weir([...PROXY, '--', 'false'])
    expect([code, stderr]).toEqual([4, expect.stringContaining('The proxy ended with 1 before it listened')])
  })
})

describe('the corpus', () => {
  it('has more than 300 rows, each with an id of its own', () => {
    const ids = readCorpus().map(({ id }) => id)
    expect(ids.length).toBeGreaterThan(300)
    expect(new Set(ids).size).toBe(ids.length)
  })
})
