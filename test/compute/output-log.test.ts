import { appendFile, mkdir, mkdtemp, readFile, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutputLog, readOutput, splitOutput } from '../../src/compute/output-log.js'
import { CLOCK } from './node-fixture.js'

let dir: string
let files = 0
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-output-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))
const newLog = (bytesMax = 10_000_000) => new OutputLog(join(dir, `log${++files}`, 'output'), bytesMax, CLOCK)

const writes = fc.array(
  fc.record({
    stream: fc.constantFrom('stdout' as const, 'stderr' as const),
    data: fc.uint8Array({ maxLength: 5_000 }),
  }),
  { maxLength: 30 },
)

describe('OutputLog', () => {
  it('gives readers of any page size every byte once, in order of arrival', async () => {
    await fc.assert(
      fc.asyncProperty(writes, fc.integer({ min: 1, max: 9_000 }), async (all, bytesMax) => {
        const log = newLog()
        const read = (async () => {
          const seen = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
          for (let cursor = 0; ; ) {
            await log.changed(cursor, new AbortController().signal)
            const { ended } = log
            const page = await readOutput(log.file, cursor, bytesMax)
            for (const { stream, data } of page.entries) seen[stream] = Buffer.concat([seen[stream], data])
            cursor = page.cursor
            if (ended && page.entries.length === 0) return seen
          }
        })()
        for (const { stream, data } of all) await log.write(stream, data)
        await log.end()
        const seen = await read
        for (const stream of ['stdout', 'stderr'] as const) {
          const wrote = Buffer.concat(all.filter((one) => one.stream === stream).map(({ data }) => data))
          expect(seen[stream].equals(wrote)).toBe(true)
          expect(log.head(stream).truncated).toBe(wrote.length > 2_048)
        }
      }),
      { numRuns: 40 },
    )
  })

  it('never grows beyond its bound, and says that output was dropped', async () => {
    await fc.assert(
      fc.asyncProperty(writes, fc.integer({ min: 1, max: 20_000 }), async (all, bytesMax) => {
        const log = newLog(bytesMax)
        for (const { stream, data } of all) await log.write(stream, data)
        await log.end()
        const size = await stat(log.file).then(
          (found) => found.size,
          () => 0,
        )
        expect(size).toBeLessThanOrEqual(bytesMax)
        const { entries } = await readOutput(log.file, 0, 10_000_000)
        const kept = entries.reduce((sum, { data }) => sum + data.length, 0)
        const wrote = all.reduce((sum, { data }) => sum + data.length, 0)
        expect(log.truncated).toBe(kept < wrote)
      }),
      { numRuns: 40 },
    )
  })

  it('cuts the short form at the border of a character', async () => {
    const log = newLog()
    await log.write('stdout', Buffer.from(`a${'é'.repeat(2_000)}`))
    await log.end()
    const { text, truncated } = log.head('stdout')
    expect(truncated).toBe(true)
    expect(text).toBe(`a${'é'.repeat(1_023)}`)
  })

  it('splits the streams into two files', async () => {
    const log = newLog()
    for (let n = 0; n < 1_000; n++) await log.write(n % 3 === 0 ? 'stderr' : 'stdout', Buffer.from(`${n}\n`))
    await log.end()
    const into = { stdout: join(dir, 'stdout'), stderr: join(dir, 'stderr') }
    await splitOutput(log.file, into, new AbortController().signal)
    const lines = (keep: (n: number) => boolean) => Array.from({ length: 1_000 }, (_, n) => n).filter(keep)
    expect(await readFile(into.stdout, 'utf8')).toBe(`${lines((n) => n % 3 !== 0).join('\n')}\n`)
    expect(await readFile(into.stderr, 'utf8')).toBe(`${lines((n) => n % 3 === 0).join('\n')}\n`)
  })

  it('does not read an entry that a crash cut, nor at a place where none begins', async () => {
    const log = newLog()
    await log.write('stdout', Buffer.from('whole'))
    await log.end()
    await appendFile(log.file, Buffer.from([1, 0, 1, 0, 0]))
    const page = await readOutput(log.file, 0, 1_000)
    expect(page.entries.map(({ data }) => data.toString())).toEqual(['whole'])
    await expect(readOutput(log.file, 3, 1_000)).rejects.toMatchObject({ code: 'api.bad_request' })
  })
})

describe('the output log of an earlier process', () => {
  it('goes on behind its last whole entry, wherever a crash cut it, and says what it holds', async () => {
    await fc.assert(
      fc.asyncProperty(writes, fc.nat(), writes, async (before, cut, after) => {
        const file = join(dir, `log${++files}`, 'output')
        const first = new OutputLog(file, 10_000_000, CLOCK)
        for (const { stream, data } of before) await first.write(stream, data)
        await first.end()
        if (first.size > 0) await truncate(file, cut % (first.size + 1))
        const second = await OutputLog.reopen(file, 10_000_000, CLOCK)
        const whole = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) }
        for (const { stream, data } of before) whole[stream] = Buffer.concat([whole[stream], data])
        const { stdout = 0, stderr = 0 } = second.held ?? {}
        const expected = {
          stdout: whole.stdout.subarray(0, stdout),
          stderr: whole.stderr.subarray(0, stderr),
        }
        for (const { stream, data } of after) {
          await second.write(stream, data)
          expected[stream] = Buffer.concat([expected[stream], data])
        }
        await second.end()
        const into = { stdout: `${file}.out`, stderr: `${file}.err` }
        await mkdir(join(file, '..'), { recursive: true })
        await splitOutput(file, into, new AbortController().signal)
        expect((await readFile(into.stdout)).equals(expected.stdout)).toBe(true)
        expect((await readFile(into.stderr)).equals(expected.stderr)).toBe(true)
        expect(second.head('stdout').text).toBe(await headOf(expected.stdout))
      }),
      { numRuns: 60 },
    )
  })

  it('cuts off what is no entry, as a power cut can leave it', async () => {
    const first = newLog()
    await first.write('stdout', Buffer.from('kept'))
    await first.end()
    await appendFile(first.file, Buffer.alloc(5000))
    const second = await OutputLog.reopen(first.file, 10_000_000, CLOCK)
    expect(second.held).toMatchObject({ stdout: 4, stderr: 0 })
    await second.write('stderr', Buffer.from('more'))
    await second.end()
    const { entries } = await readOutput(first.file, 0, 10_000)
    expect(entries.map(({ stream, data }) => `${stream} ${data.toString()}`)).toEqual([
      'stdout kept',
      'stderr more',
    ])
    expect(second.hasGap).toBe(false)
  })

  it('that is full stays full, and says that output was dropped', async () => {
    const first = newLog(100)
    await first.write('stdout', Buffer.alloc(500, 'x'))
    await first.end()
    const second = await OutputLog.reopen(first.file, 100, CLOCK)
    expect(second.truncated).toBe(true)
    await second.write('stdout', Buffer.from('more'))
    await second.end()
    expect((await stat(first.file)).size).toBe(100)
  })

  it('that cannot be read gets no more, says that output is missing, and is left as it is', async () => {
    const file = join(dir, `log${++files}`, 'output')
    await mkdir(file, { recursive: true })
    const log = await OutputLog.reopen(file, 1_000, CLOCK)
    await log.write('stdout', Buffer.from('x'))
    await log.end()
    expect(log).toMatchObject({ truncated: true, hasGap: true })
  })
})

async function headOf(bytes: Buffer): Promise<string> {
  const log = newLog()
  await log.write('stdout', bytes)
  await log.end()
  return log.head('stdout').text
}
