import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PROGRAMS, missingSandbox, startServer } from './with-cli.js'
import { noTerminal, onTerminal, plain, screenOf } from './with-terminal.js'
import type { TestServer } from './with-cli.js'
import type { OnTerminal, TerminalOptions } from './with-terminal.js'

const missing = noTerminal === '' ? (missingSandbox() ?? '') : noTerminal
const skipped = missing === '' ? '' : ` (skipped: ${missing})`

describe.skipIf(missing !== '')(`on a real terminal${skipped}`, () => {
  let server: TestServer
  let jobId = ''
  beforeAll(async () => {
    server = await startServer()
    for (const [name, bytes] of Object.entries(PROGRAMS))
      writeFileSync(join(server.dir, `${name}.wasm`), bytes)
    for (const name of ['日本語の長い名前のジョブ'.repeat(4), '🚀🚀 launch', 'e\u0301a\u0308 plain']) {
      const ran = await server.weir(['wasm', 'run', '--id-only', '--name', name, 'hello.wasm'])
      jobId = ran.stdout.trim()
    }
  })
  afterAll(() => server?.stop())

  const run = (line: string, options: TerminalOptions = {}): Promise<OnTerminal> =>
    onTerminal(line, {
      cwd: server.dir,
      ...options,
      env: { WEIR_DIR: join(server.dir, 'client'), WEIR_API_PORT: server.port, ...options.env },
    })

  it.each<[what: string, isColoured: boolean, line: string, env: Record<string, string>]>([
    ['by default', true, 'weir job list', {}],
    ['with NO_COLOR', false, 'weir job list', { NO_COLOR: '1' }],
    ['with NO_COLOR and FORCE_COLOR', false, 'weir job list', { NO_COLOR: '1', FORCE_COLOR: '1' }],
    ['with --no-color', false, 'weir job list --no-color', {}],
    ['with --no-color before the command', false, 'weir --no-color job list', {}],
    ['with --no-color and a mistake', false, 'weir job list --no-color --outptu json', {}],
    ['with TERM=dumb', false, 'weir job list', { TERM: 'dumb' }],
    ['with CLICOLOR=0', false, 'weir job list', { CLICOLOR: '0' }],
    ['with CLICOLOR=0 and CLICOLOR_FORCE', true, 'weir job list', { CLICOLOR: '0', CLICOLOR_FORCE: '1' }],
    ['into a pipe', false, 'weir job list 2>&1 | cat', {}],
    ['into a pipe in CI', false, 'weir job list 2>&1 | cat', { CI: 'true' }],
    ['into a pipe with FORCE_COLOR', true, 'weir job list 2>&1 | cat', { FORCE_COLOR: '1' }],
    ['with FORCE_COLOR=0', false, 'weir job list', { FORCE_COLOR: '0' }],
  ])('colours %s: %s', async (_what, isColoured, line, env) => {
    const { seen } = await run(line, { env })
    expect(/\u001b\[[0-9;]*m/.test(seen), JSON.stringify(seen)).toBe(isColoured)
  })

  it.each([[20], [40], [60], [80], [120]])('fits tables to %s columns', async (columns) => {
    for (const line of [
      'weir job list',
      'weir node list --show labels,version,features,capacity,network',
      `weir job executions ${jobId}`,
      `weir job history ${jobId}`,
      'weir config list',
    ]) {
      const { seen } = await run(`${line} 2>/dev/null`, { columns, env: { NO_COLOR: '1' } })
      const tooLong = seen.split('\n').filter((text) => cells(text) > columns)
      expect(tooLong, line).toEqual([])
    }
  })

  it('keeps columns straight behind wide characters, emoji and combining marks', async () => {
    const { seen } = await run('weir job list 2>/dev/null', { columns: 100, env: { NO_COLOR: '1' } })
    const places = seen
      .split('\n')
      .filter((line) => / wasm /.test(line))
      .map((line) => cells(line.slice(0, line.indexOf(' wasm '))))
    expect(places).toHaveLength(3)
    expect(new Set(places).size).toBe(1)
  })

  it('takes the width from COLUMNS when it is set', async () => {
    const { seen } = await run('COLUMNS=60 weir job list 2>/dev/null', {
      columns: 200,
      env: { NO_COLOR: '1' },
    })
    expect(Math.max(...seen.split('\n').map(cells))).toBeLessThanOrEqual(60)
  })

  it('cuts nothing and says how with --wide', async () => {
    const { seen } = await run('weir job list --wide 2>/dev/null', { columns: 40, env: { NO_COLOR: '1' } })
    expect(seen).toContain(jobId)
    expect(seen).toContain('日本語の長い名前のジョブ'.repeat(4))
  })

  it('indents JSON for people, and writes it on one line for programs', async () => {
    expect((await run('weir agent alive --output json')).seen).toBe('{\n  "Status": "OK"\n}\n')
    expect((await run('weir agent alive --output json | cat')).seen).toBe('{"Status":"OK"}\n')
    expect((await run('weir agent alive --output json --pretty | cat')).seen).toContain('\n  "Status"')
  })

  it('passes the output of a program through untouched, and escapes it everywhere else', async () => {
    const ran = await run('weir wasm run escape.wasm 2>/dev/null')
    expect(ran.seen).toBe('\u001b[31mred\n')
    const described = await run(
      'weir job describe $(weir job list --limit 1 --output json | grep -o "j-[0-9a-f-]*" | head -1)',
      {
        env: { NO_COLOR: '1' },
      },
    )
    expect(described.seen).toContain('\\u001b[31mred')
    expect(described.seen).not.toContain('\u001b[31m')
  })

  it('watches a job in place and ends by itself when the job has ended', async () => {
    const started = await server.weir(['wasm', 'run', '--detach', '--timeout', '2', 'loop.wasm'])
    const { seen, code } = await run(`weir job describe --watch ${started.stdout.trim()}`)
    expect(code).toBe(0)
    const screen = screenOf(seen)
    expect(screen.filter((line) => /^ID +=/.test(line))).toHaveLength(1)
    expect(screen).toContain('State         = Failed')
    expect(seen).toContain('State         = Running')
    expectClean(seen)
  })

  it('watches a list in place until Ctrl-C, and leaves a clean terminal', async () => {
    let typed = false
    const { seen } = await run('weir job list --watch --limit 2; echo "code $?"', {
      rows: 10,
      type: (text) => {
        // At least two drawings.
        if (typed || text.split('CREATED').length < 3) return undefined
        typed = true
        return '\u0003'
      },
    })
    expect(seen.split('\n').at(-2)?.slice(-8)).toBe('code 130')
    const header = screenOf(seen).filter((line) => line.startsWith('CREATED'))
    expect(header).toHaveLength(1)
    expectClean(seen)
  })

  it('shows on a small screen what has room, and how much more there is', async () => {
    let typed = false
    const { seen } = await run('weir job list --watch', {
      rows: 5,
      type: (text) => {
        if (typed || !text.includes('more lines')) return undefined
        typed = true
        return '\u0003'
      },
    })
    expect(plain(seen)).toMatch(/… \d more lines/)
  })

  it('stops the job at the first Ctrl-C', async () => {
    let typed = false
    const { seen } = await run('weir wasm run loop.wasm; echo "code $?"', {
      type: (text) => {
        if (typed || !/Execution +Running|Execution\S* +Running/.test(plain(text))) return undefined
        typed = true
        return '\u0003'
      },
    })
    expect(plain(seen)).toContain('The job was stopped')
    expect(seen).toContain('code 130')
  })

  /** The cursor is shown and lines wrap again: the last word about both is "on". */
  function expectClean(seen: string): void {
    expect(seen.lastIndexOf('\u001b[?25h')).toBeGreaterThan(seen.lastIndexOf('\u001b[?25l'))
    expect(seen.lastIndexOf('\u001b[?7h')).toBeGreaterThan(seen.lastIndexOf('\u001b[?7l'))
  }
})

/** How many columns of a terminal a text takes, by another way than the program's. */
function cells(text: string): number {
  return [...new Intl.Segmenter().segment(text)].reduce(
    (sum, { segment }) =>
      sum +
      (/\p{Emoji_Presentation}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|ー/u.test(segment)
        ? 2
        : 1),
    0,
  )
}
