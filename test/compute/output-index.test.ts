import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutputIndex, type OutputWish } from '../../src/compute/output-index.js'
import { OutputLog, readOutput } from '../../src/compute/output-log.js'

let dir: string
let files = 0
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-index-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

interface Write {
  text: string
  timeMs: number
}

/** A log whose clock says what the writes say. */
async function write(log: OutputLog, clock: { ms: number }, writes: readonly Write[]): Promise<void> {
  for (const { text, timeMs } of writes) {
    clock.ms = timeMs
    await log.write('stdout', Buffer.from(text))
  }
}

function newLog(): { log: OutputLog; clock: { ms: number } } {
  const clock = { ms: 0 }
  const parts = { now: () => clock.ms, sleep: () => Promise.resolve() }
  return { log: new OutputLog(join(dir, `log${++files}`, 'output'), 50_000_000, parts), clock }
}

async function textFrom(index: OutputIndex, log: OutputLog, wish: OutputWish): Promise<string> {
  const { cursor, skip } = await index.find(log.file, log.size, wish)
  let text = ''
  for (let at = cursor; ; ) {
    const page = await readOutput(log.file, at, 100_000)
    if (page.entries.length === 0) return text.slice(skip)
    text += page.entries.map(({ data }) => data.toString('latin1')).join('')
    at = page.cursor
  }
}

/** What `tail -n` prints. */
function tailOf(text: string, lines: number): string {
  const all = text.match(/[^\n]*\n|[^\n]+$/g) ?? []
  return lines === 0 ? '' : all.slice(-lines).join('')
}

describe('OutputIndex', () => {
  it('begins where tail would, and at the first output since a time, also while the log grows', async () => {
    const piece = fc.record({
      text: fc.oneof(
        fc.constantFrom('\n', 'a\n', 'no end', 'a\nb\nc', '\n\n'),
        fc.integer({ min: 1, max: 200_000 }).map((length) => `${'x'.repeat(length)}\n`),
      ),
      timeMs: fc.integer({ min: 0, max: 50 }),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 12 }),
        fc.array(piece, { maxLength: 12 }),
        fc.integer({ min: 0, max: 15 }),
        fc.integer({ min: 0, max: 55 }),
        async (first, second, tailLines, sinceMs) => {
          const { log, clock } = newLog()
          const index = new OutputIndex()
          const written: Write[] = []
          for (const writes of [first, second]) {
            await write(log, clock, writes)
            // Only what is on the disk counts.
            while (log.size < sizeOf([...written, ...writes])) await new Promise(setImmediate)
            written.push(...writes)
            const whole = written.map(({ text }) => text).join('')
            const at = written.findIndex(({ timeMs }) => timeMs >= sinceMs)
            const since =
              at < 0
                ? ''
                : written
                    .slice(at)
                    .map(({ text }) => text)
                    .join('')
            const tail = tailOf(whole, tailLines)
            expect(await textFrom(index, log, { tailLines })).toBe(tail)
            expect(await textFrom(index, log, { sinceMs })).toBe(since)
            expect(await textFrom(index, log, {})).toBe(whole)
            const shorter = tail.length < since.length ? tail : since
            expect(await textFrom(index, log, { tailLines, sinceMs })).toBe(shorter)
          }
          await log.end()
        },
      ),
      { numRuns: 30 },
    )
  })

  it('reads a log of many megabytes once, and then only what was added', async () => {
    const { log, clock } = newLog()
    const line = `${'y'.repeat(999)}\n`
    await write(
      log,
      clock,
      Array.from({ length: 200 }, (_, index) => ({ text: line.repeat(100), timeMs: index })),
    )
    await write(log, clock, [{ text: 'the end\n', timeMs: 1_000 }])
    await log.end()
    const index = new OutputIndex()
    expect(await textFrom(index, log, { tailLines: 1 })).toBe('the end\n')
    expect(await textFrom(index, log, { tailLines: 3 })).toBe(`${line}${line}the end\n`)
    const { cursor } = await index.find(log.file, log.size, { sinceMs: 190 })
    expect(log.size - cursor).toBeLessThan(1_100_000)
    expect(await index.find(log.file, log.size, { tailLines: 1_000_000 })).toEqual({ cursor: 0, skip: 0 })
    expect(await index.find(log.file, log.size, { sinceMs: 5_000 })).toEqual({ cursor: log.size, skip: 0 })
  })

  it('finds nothing to skip in a log that does not exist yet', async () => {
    const { log } = newLog()
    expect(await new OutputIndex().find(log.file, 0, { tailLines: 5, sinceMs: 9 })).toEqual({
      cursor: 0,
      skip: 0,
    })
  })
})

/** Entries hold at most 64 KiB and have a head of 12 bytes. */
function sizeOf(writes: readonly Write[]): number {
  return writes.reduce((sum, { text }) => sum + text.length + 12 * Math.ceil(text.length / 65_536), 0)
}
