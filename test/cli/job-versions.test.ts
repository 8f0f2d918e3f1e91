import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LogPrinter, type LogLayout } from '../../src/cli/log-printer.js'
import { readSince } from '../../src/cli/read-since.js'
import { PROGRAMS, missingSandbox, startServer, type TestServer } from './with-cli.js'

describe('--since', () => {
  const now = Date.parse('2024-11-29T12:00:00Z')
  it.each([
    ['90s', now - 90_000],
    ['10m', now - 600_000],
    ['1h30m', now - 5_400_000],
    ['2d', now - 172_800_000],
    ['99999d', 0],
    ['2024-11-29T08:46:40Z', Date.parse('2024-11-29T08:46:40Z')],
    ['2024-11-29 08:46:40.5+01:00', Date.parse('2024-11-29T07:46:40.5Z')],
    ['1732870000', 1_732_870_000_000],
    ['2024-11-29', new Date(2024, 10, 29).getTime()],
  ])('reads %s', (text, expected) => {
    expect(readSince(text, now)).toBe(expected)
  })

  it.each(['', '10', 'yesterday', '10m5', '-5m', '2024-13-01T00:00:00Z', '5 m'])('refuses %j', (text) => {
    expect(() => readSince(text, now)).toThrow(
      expect.objectContaining({ code: 'cli.usage', hint: expect.stringContaining('10m') as string }) as Error,
    )
  })

  it('stays absent', () => {
    expect(readSince(undefined, now)).toBeUndefined()
  })
})

describe('printed logs', () => {
  const A = 'e-aaaaaaaa-0000-4000-8000-000000000000'
  const B = 'e-bbbbbbbb-0000-4000-8000-000000000000'
  const print = async (
    layout: Partial<LogLayout>,
    pieces: readonly (readonly [id: string, text: string, stream?: 'stderr'])[],
    notice?: string,
  ): Promise<{ out: string; err: string; said: string[] }> => {
    const seen = { out: '', err: '', said: [] as string[] }
    const same = (text: string | number | null | undefined): string => String(text)
    const style = { bold: same, dim: same, red: same, green: same, yellow: same, cyan: same }
    const terminal = {
      data: async (chunk: string | Uint8Array) => void (seen.out += Buffer.from(chunk as Buffer).toString()),
      programError: async (chunk: string | Uint8Array) =>
        void (seen.err += Buffer.from(chunk as Buffer).toString()),
      talk: (line: string) => void seen.said.push(line),
      dataStyle: style,
      talkStyle: style,
    }
    const printer = new LogPrinter(terminal, { timestamps: false, prefix: 'several', ...layout })
    for (const [index, [executionId, text, stream = 'stdout']] of pieces.entries()) {
      const time = `2024-11-29T08:46:4${index}.000Z`
      await printer.print({ executionId, stream, data: Buffer.from(text), time })
    }
    if (notice !== undefined) {
      await printer.print({ executionId: A, stream: 'stderr', data: Buffer.alloc(0), time: '', notice })
    }
    await printer.finish()
    return seen
  }

  it('are the bytes of the program while there is one execution', async () => {
    expect(
      (
        await print({}, [
          [A, 'no end'],
          [A, ' yet\nand'],
          [A, ' more'],
        ])
      ).out,
    ).toBe('no end yet\nand more')
  })

  it('name the execution as soon as there are two, in whole lines', async () => {
    const { out, err } = await print({}, [
      [A, 'first\n'],
      [B, 'sec'],
      [A, 'again\n'],
      [B, 'ond\nlast'],
      [B, 'oops\n', 'stderr'],
    ])
    expect(out).toBe('first\ne-aaaaaaaa | again\ne-bbbbbbbb | second\ne-bbbbbbbb | last\n')
    expect(err).toBe('e-bbbbbbbb | oops\n')
  })

  it('have the time at which each line began', async () => {
    const { out } = await print({ timestamps: true, prefix: 'never' }, [
      [A, 'a'],
      [A, 'b\n\nc\n'],
      [B, 'd\n'],
    ])
    expect(out).toBe(
      '2024-11-29T08:46:40.000Z ab\n2024-11-29T08:46:41.000Z \n2024-11-29T08:46:41.000Z c\n2024-11-29T08:46:42.000Z d\n',
    )
  })

  it('give a line that never ends in pieces instead of keeping it', async () => {
    const { out } = await print({ prefix: 'always' }, [
      [A, 'x'.repeat(70_000)],
      [A, 'y'.repeat(70_000)],
    ])
    expect(out.split('\n').filter((line) => line !== '').length).toBe(2)
    expect(out.replaceAll('e-aaaaaaaa | ', '').replaceAll('\n', '')).toHaveLength(140_000)
  })

  it('say what cannot be had beside the output, escaped', async () => {
    expect(await print({}, [[A, 'x\n']], 'n-1 is away\u001b[31m')).toEqual({
      out: 'x\n',
      err: '',
      said: ['── e-aaaaaaaa: n-1 is away\\u001b[31m'],
    })
  })
})

const missing = missingSandbox()
const skipped = missing === undefined ? '' : ` (skipped: ${missing})`

describe.skipIf(missing !== undefined)(`job versions on the command line${skipped}`, () => {
  let server: TestServer
  let file: string
  beforeAll(async () => {
    server = await startServer()
    file = join(server.dir, 'job.json')
  })
  afterAll(() => server.stop())

  const write = (changes: object): void => {
    const URL = `data:application/wasm;base64,${Buffer.from(PROGRAMS.hello).toString('base64')}`
    const EntryModule = { Source: { Type: 'inline', Params: { URL } }, Alias: '', Target: '/main.wasm' }
    const Engine = { Type: 'wasm', Params: { EntryModule } }
    const job = { Name: 'versioned', Type: 'batch', Tasks: [{ Name: 'main', Engine }], ...changes }
    writeFileSync(file, JSON.stringify(job))
  }

  it('runs a changed file as the next version, refuses an unchanged one, and runs old ones again', async () => {
    write({})
    const first = await server.weir(['job', 'run', file])
    expect(first, first.stderr).toMatchObject({ code: 0, stdout: 'hello\n' })
    const same = await server.weir(['job', 'run', file])
    expect(same).toMatchObject({ code: 125, stdout: '' })
    expect(same.stderr).toContain('it is the same already')
    expect(same.stderr).toContain('--force')
    write({ Priority: 3 })
    expect(await server.weir(['job', 'diff', file])).toEqual({
      code: 0,
      stdout: '- Priority: 0\n+ Priority: 3\n',
      stderr: '',
    })
    const second = await server.weir(['job', 'run', file])
    expect(second).toMatchObject({ code: 0, stdout: 'hello\n' })
    expect(second.stderr).toContain('version 2 replaces version 1')
    const third = await server.weir(['job', 'rerun', 'versioned', '--version', '1', '--reason', 'once more'])
    expect(third).toMatchObject({ code: 0, stdout: 'hello\n' })
    expect(third.stderr).toContain('version 3 replaces version 2')
    expect((await server.weir(['job', 'run', '--force', '--detach', file])).stderr).toContain(
      'version 4 replaces version 3',
    )
    const versions = await server.weir(['job', 'versions', 'versioned', '--output', 'json'])
    expect((JSON.parse(versions.stdout) as { Version: number }[]).map(({ Version }) => Version)).toEqual([
      1, 2, 3, 4,
    ])
    const old = await server.weir(['job', 'describe', 'versioned', '--version', '2', '--output', 'json'])
    expect(JSON.parse(old.stdout)).toMatchObject({ Job: { Version: 2, Priority: 3 } })
    const wrong = await server.weir(['job', 'rerun', 'versioned', '--version', '9'])
    expect(wrong.code).toBe(125)
    expect(wrong.stderr).toContain('Cannot find version 9')
  }, 120_000)

  it('shows logs by name, of all versions, and only the last lines', async () => {
    await server.weir(['job', 'logs', '--follow', 'versioned'])
    const plain = await server.weir(['job', 'logs', 'versioned'])
    expect(plain).toEqual({ code: 0, stdout: 'hello\n', stderr: '' })
    const followed = await server.weir(['job', 'logs', '-f', 'versioned'])
    expect(followed).toEqual({ code: 0, stdout: 'hello\n', stderr: '── The job completed\n' })
    const all = await server.weir(['job', 'logs', '--all-versions', 'versioned'])
    expect(all.stdout).toMatch(/^(?:e-[0-9a-f]{8} \| hello\n){4}$/)
    const bare = await server.weir(['job', 'logs', '--all-versions', '--no-prefix', 'versioned'])
    expect(bare.stdout).toBe('hello\n'.repeat(4))
    expect((await server.weir(['job', 'logs', '--tail', '1', 'versioned'])).stdout).toBe('hello\n')
    expect((await server.weir(['job', 'logs', '-t', '0', 'versioned'])).stdout).toBe('')
    // Alone it skips what is there, also before the job.
    for (const words of [
      ['--tail', 'versioned'],
      ['versioned', '--tail'],
      ['-t', 'versioned'],
    ]) {
      expect(await server.weir(['job', 'logs', ...words])).toEqual({ code: 0, stdout: '', stderr: '' })
    }
    expect((await server.weir(['job', 'logs', '--since', '1d', '--timestamps', 'versioned'])).stdout).toMatch(
      /^\d{4}-\d{2}-\d{2}T[\d:.]+Z hello\n$/,
    )
    expect(await server.weir(['job', 'logs', '--since', 'x', 'versioned'])).toMatchObject({ code: 2 })
    expect(await server.weir(['job', 'logs', '--tail=x', 'versioned'])).toMatchObject({ code: 2 })
  }, 120_000)

  it('lists jobs by state and namespace', async () => {
    const list = async (...words: string[]): Promise<string> =>
      (await server.weir(['job', 'list', '--output', 'csv', '--hide-header', ...words])).stdout
    expect(await list('--state', 'completed')).toContain('versioned')
    expect(await list('--state', 'failed,queued')).toBe('')
    expect(await list('--namespace', 'other')).toBe('')
    expect(await server.weir(['job', 'list', '--state', 'done'])).toMatchObject({ code: 2 })
  }, 60_000)
})
