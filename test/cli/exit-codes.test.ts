import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EXIT, exitCodeOf } from '../../src/cli/exit-codes.js'
import { ERROR_CODES, WeirError } from '../../src/errors.js'
import { PROGRAMS, missingSandbox, startServer } from './with-cli.js'
import type { ErrorCode } from '../../src/errors.js'
import type { CliResult, TestServer } from './with-cli.js'

const missing = missingSandbox()
const skipped = missing === undefined ? '' : ` (skipped: ${missing})`

/** Never ends, and leaves room for others. */
const LOOP = ['--cpu', '50m', 'loop.wasm']

describe('the exit code of an error', () => {
  const codes = Object.keys(ERROR_CODES) as ErrorCode[]

  it('is one of the documented codes for every error there is', () => {
    const documented = new Set<number>(Object.values(EXIT))
    for (const code of codes) {
      for (const runsProgram of [true, false]) {
        const exit = exitCodeOf(new WeirError(code, 'x'), runsProgram)
        expect(documented, code).toContain(exit)
        expect(exit).not.toBe(0)
      }
    }
  })

  it('is never a small number where a program runs: those are the program’s', () => {
    for (const code of codes)
      expect(exitCodeOf(new WeirError(code, 'x'), true), code).toBeGreaterThanOrEqual(EXIT.timeout)
  })

  it('is that of a defect for anything unexpected', () => {
    expect(exitCodeOf(new TypeError('x'), false)).toBe(EXIT.weir)
  })
})

describe.skipIf(missing !== undefined)(`exit codes of the real program${skipped}`, () => {
  let server: TestServer
  let [ended, running, nodeId] = ['', '', '']
  beforeAll(async () => {
    server = await startServer()
    for (const [name, bytes] of Object.entries(PROGRAMS))
      writeFileSync(join(server.dir, `${name}.wasm`), bytes)
    ended = (await server.weir(['wasm', 'run', '--id-only', 'hello.wasm'])).stdout.trim()
    running = (await server.weir(['wasm', 'run', '--detach', ...LOOP])).stdout.trim()
    const nodes = await server.weir(['node', 'list', '--output', 'csv', '--hide-header'])
    nodeId = nodes.stdout.split(',')[0] ?? ''
  })
  afterAll(() => server?.stop())

  it.each<[code: number, what: string, args: () => string[]]>([
    [0, 'success', () => ['job', 'list']],
    [0, 'help', () => ['job', 'stop', '--help']],
    [0, 'the version of a server that does not answer', () => ['version', '--api-port', '1']],
    [0, 'a program that ended with 0', () => ['wasm', 'run', 'hello.wasm']],
    [7, 'a program that ended with 7', () => ['wasm', 'run', 'seven.wasm']],
    [1, 'a module that is not valid', () => ['wasm', 'validate', '--entry-point', 'x', 'hello.wasm']],
    [2, 'no command', () => []],
    [2, 'a command without its sub-command', () => ['job']],
    [2, 'an unknown flag', () => ['job', 'list', '--nope']],
    [2, 'a missing operand', () => ['job', 'describe']],
    [2, 'a bad value of a flag', () => ['job', 'list', '--limit', 'x']],
    [2, 'a command of older tools', () => ['list']],
    [2, 'an invalid job file', () => ['job', 'validate', 'hello.wasm']],
    [2, 'an unknown configuration key', () => ['job', 'list', '-c', 'No.Such=1']],
    [2, 'a selector that the server cannot read', () => ['job', 'list', '--labels', '!!']],
    [3, 'an unknown job', () => ['job', 'describe', 'j-00000000']],
    [3, 'an id that is not unique', () => ['job', 'describe', 'j-']],
    [3, 'an unknown node', () => ['node', 'describe', 'n-zzz']],
    [3, 'a job without results', () => ['job', 'get', ended]],
    [4, 'stopping a job that has ended', () => ['job', 'stop', ended]],
    [3, 'approving a node that is not known', () => ['node', 'approve', 'n-nobody']],
    [4, 'approving a node that is approved', () => ['node', 'approve', nodeId]],
    [4, 'a second server on one data directory', () => ['serve', '-c', 'API.Port=0']],
    [5, 'nobody at the address', () => ['job', 'list', '--api-port', '1']],
    [124, 'a job out of time', () => ['wasm', 'run', '--timeout', '1', ...LOOP]],
    [124, 'waiting out of time', () => ['wasm', 'run', '--wait-timeout-secs', '1', ...LOOP]],
    [125, 'wrong usage of a run', () => ['wasm', 'run', '--nope', 'hello.wasm']],
    [125, 'an invalid job', () => ['wasm', 'run', '--cpu', 'x', 'hello.wasm']],
    [125, 'nobody to give a job to', () => ['wasm', 'run', '--api-port', '1', 'hello.wasm']],
    [126, 'a job that no node can run', () => ['wasm', 'run', '--memory', '900tb', 'hello.wasm']],
  ])('%i for %s', async (code, _what, args) => {
    const result = await server.weir(args())
    expect(result.code, result.stderr).toBe(code)
    if (code >= 2 && code !== 7) expect(result.stderr).not.toBe('')
  })

  it('126 for a job that somebody else stops', async () => {
    let isSent = false
    const { code } = await server.weir(['wasm', 'run', ...LOOP], {
      onOutput: ({ stderr }) => {
        const id = /Job (j-\S+) submitted/.exec(stderr)?.[1]
        if (isSent || id === undefined || !/Execution +Running/.test(stderr)) return
        isSent = true
        void server.weir(['job', 'stop', '--quiet', id])
      },
    })
    expect(code).toBe(126)
  })

  it.each([
    [129, 'SIGHUP'],
    [130, 'SIGINT'],
    [143, 'SIGTERM'],
  ] as const)('%i after %s, whether a job is run or only looked at', async (code, signal) => {
    const ran = await signalled(['wasm', 'run', ...LOOP], signal, /Execution +Running/)
    expect(ran.code, ran.stderr).toBe(code)
    expect(ran.stderr).toContain('The job was stopped')
    const watched = await signalled(['job', 'describe', '--watch', running], signal, /Running/)
    expect([watched.code, watched.stderr]).toEqual([code, ''])
  })

  it('5 for something at the address that does not speak HTTP', async () => {
    const nonsense = createServer((socket) => socket.end('SSH-2.0-nothing\r\n'))
    const port = await new Promise<string>((resolve) => {
      nonsense.listen(0, '127.0.0.1', () => resolve(String((nonsense.address() as { port: number }).port)))
    })
    const { code, stderr } = await server.weir(['job', 'list', '--api-port', port])
    nonsense.close()
    expect(code, stderr).toBe(5)
  })

  it('6 for a server that wants a credential, 125 where a program would run', async () => {
    const guarded = await startServer(['API.Auth.Mode=on'])
    try {
      const bare = { WEIR_DIR: join(guarded.dir, 'nobody') }
      const listed = await guarded.weir(['job', 'list'], { env: bare })
      expect(listed.code, listed.stderr).toBe(6)
      const ran = await guarded.weir(['wasm', 'run', join(server.dir, 'hello.wasm')], { env: bare })
      expect(ran.code, ran.stderr).toBe(125)
    } finally {
      await guarded.stop()
    }
  })

  /** Sends a signal once the output says that it is time. */
  function signalled(args: readonly string[], signal: NodeJS.Signals, when: RegExp): Promise<CliResult> {
    let isSent = false
    return server.weir(args, {
      onOutput: ({ stdout, stderr }, child) => {
        if (isSent || !when.test(stdout + stderr)) return
        isSent = true
        child.kill(signal)
      },
    })
  }
})
