import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { entryPoint } from '../../src/package-root.js'
import { PROGRAMS, missingSandbox, startServer, weir } from './with-cli.js'
import type { TestServer } from './with-cli.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-complete-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))
mkdirSync(join(dir, 'bin'))
writeFileSync(
  join(dir, 'bin/weir'),
  `#!/bin/sh\nexec '${process.execPath}' '${entryPoint('cli/main.js')}' "$@"\n`,
)
chmodSync(join(dir, 'bin/weir'), 0o755)

const has = (program: string): boolean => spawnSync('which', [program], { stdio: 'ignore' }).status === 0
const env = {
  PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
  HOME: dir,
  TERM: 'xterm',
  WEIR_DIR: join(dir, 'data'),
  // Nobody answers there.
  WEIR_API_PORT: '1',
}

/** What is offered: candidates and orders, one per line. */
async function offered(words: readonly string[], port = '1', shell = 'zsh'): Promise<string[]> {
  const { code, stdout, stderr } = await weir(['__complete', shell, '--', ...words], {
    env: { WEIR_DIR: join(dir, 'data'), WEIR_API_PORT: port },
  })
  expect([code, stderr]).toEqual([0, ''])
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t')[0] ?? '')
}

describe('what is offered', () => {
  it.each<[what: string, words: string[], answer: string[]]>([
    ['commands', ['conf'], ['config']],
    ['commands of a group', ['config', 'un'], ['unset']],
    ['flags', ['docker', 'run', '--netw'], ['--network']],
    ['words of a flag', ['docker', 'run', '--network', 'h'], ['http']],
    ['words of a flag behind =', ['docker', 'run', '--network=h'], ['--network=http']],
    ['formats of lists', ['job', 'list', '--output', ''], ['table', 'csv', 'json', 'yaml']],
    ['formats of objects', ['job', 'describe', '--output', ''], ['json', 'yaml']],
    ['keys in any case', ['config', 'get', 'api.po'], ['API.Port']],
    ['keys to set', ['config', 'set', 'API.Po'], ['API.Port=', ':nospace']],
    ['shells', ['completion', 'z'], ['zsh']],
    ['files for a job', ['job', 'run', ''], [':files']],
    ['directories', ['job', 'get', '--output-dir', ''], [':dirs']],
    ['files behind an image', ['docker', 'run', '--cpu', '1', 'busybox', '--netw'], [':files']],
    ['files behind --', ['docker', 'run', '--', ''], [':files']],
    ['nothing behind the last operand', ['job', 'describe', 'j-1', ''], []],
    ['nothing for ids when no server answers', ['job', 'describe', 'j-'], []],
    ['nothing of old names', ['descr'], []],
  ])('%s', async (_what, words, answer) => {
    expect(await offered(words)).toEqual(answer)
  })

  it('is what fits behind = alone for bash, which takes the word apart', async () => {
    expect(await offered(['docker', 'run', '--network', '=', 'h'], '1', 'bash')).toEqual(['http'])
  })

  it('is nothing, without a word, when the configuration is broken or the question is nonsense', async () => {
    for (const args of [
      ['__complete'],
      ['__complete', 'tcsh', '--', ''],
      ['__complete', 'bash', '--', 'job', 'describe', '-c', 'No.Such=1', ''],
    ]) {
      expect(await weir(args, { env })).toEqual({ code: 0, stdout: '', stderr: '' })
    }
  })
})

const missing = missingSandbox()
describe.skipIf(missing !== undefined)(
  `with a server${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    let server: TestServer
    let [jobId, nodeId, executionId] = ['', '', '']
    beforeAll(async () => {
      server = await startServer()
      writeFileSync(join(server.dir, 'hello.wasm'), PROGRAMS.hello)
      jobId = (
        await server.weir(['wasm', 'run', '--id-only', '--name', '$(x) ;`y`', 'hello.wasm'])
      ).stdout.trim()
      const nodes = await server.weir(['node', 'list', '--output', 'json'])
      nodeId = (JSON.parse(nodes.stdout) as [{ Info: { NodeID: string } }])[0].Info.NodeID
      const executions = await server.weir(['job', 'executions', jobId, '--output', 'json'])
      executionId = (JSON.parse(executions.stdout) as [{ ID: string }])[0].ID
    })
    afterAll(() => server?.stop())

    it('offers jobs, nodes and executions', async () => {
      expect(await offered(['job', 'describe', 'j-'], server.port)).toEqual([jobId.slice(0, 10)])
      expect(await offered(['job', 'describe', jobId.slice(0, 15)], server.port)).toEqual([jobId])
      expect(await offered(['node', 'describe', ''], server.port)).toEqual([
        nodeId.startsWith('n-') ? nodeId.slice(0, 10) : nodeId,
      ])
      expect(await offered(['job', 'logs', jobId, '-e', ''], server.port)).toEqual([executionId.slice(0, 10)])
    })

    it('offers to stop only what has not ended', async () => {
      expect(await offered(['job', 'stop', ''], server.port)).toEqual([])
    })

    it('asks the server that the line names', async () => {
      expect(await offered(['job', 'describe', '--api-port', server.port, 'j-'])).toEqual([
        jobId.slice(0, 10),
      ])
    })

    it('shows the name of a job beside its id, never as a word of the line', async () => {
      const { stdout } = await server.weir(['__complete', 'fish', '--', 'job', 'describe', 'j-'])
      expect(stdout).toBe(`${jobId.slice(0, 10)}\tCompleted $(x) ;\`y\`\n`)
    })
  },
)

/** Types lines into an interactive shell on a terminal of its own, one after the other; resolves when it has ended. */
function type(shell: string, lines: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('script', ['-qec', shell, '/dev/null'], {
      cwd: dir,
      env,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    const rest = [...lines, 'exit\n']
    let seen = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      seen += text
      // The next line is typed when the prompt is there again.
      if (!seen.includes('READY>')) return
      seen = ''
      const next = rest.shift()
      if (next !== undefined) child.stdin.write(next)
    })
    child.on('error', reject)
    child.on('close', () => resolve())
    child.stdin.write(`PS1='READY''> '\n`)
  })
}

/** A line completed by the tab key says what it became: its own output, in a file. */
const CASES: readonly (readonly [typed: string, file: string, beginning: string])[] = [
  ['weir completion po\t > one\n', 'one', '# Completion of weir for PowerShell'],
  ['weir conf\tget API.Po\t > two\n', 'two', '1\n'],
  ['weir config get --output y\tLabels > three\n', 'three', '{}\n'],
  ['weir config get --output=js\tLabels > four\n', 'four', '{}\n'],
  ['weir config get -c d\tAPI.Host > five\n', 'five', 'from-file\n'],
]

function expectCompleted(shell: string): void {
  for (const [typed, file, beginning] of CASES) {
    const path = join(dir, file)
    const text = existsSync(path) ? readFileSync(path, 'utf8') : 'nothing was written'
    rmSync(path, { force: true })
    expect(text.slice(0, beginning.length), `${shell}: ${JSON.stringify(typed)}`).toBe(beginning)
  }
}

describe('in real shells', () => {
  beforeAll(() => writeFileSync(join(dir, 'deep.yaml'), 'API: {Host: from-file}\n'))
  const noScript = has('script') ? '' : ' (skipped: needs script)'

  it.skipIf(noScript !== '')(`bash completes what is typed${noScript}`, async () => {
    await type('bash --norc --noprofile -i', [
      'source <(weir completion bash)\n',
      ...CASES.map(([typed]) => typed),
    ])
    expectCompleted('bash')
  })

  const noZsh = has('zsh') ? noScript : ' (skipped: needs zsh)'
  it.skipIf(noZsh !== '')(`zsh completes what is typed${noZsh}`, async () => {
    await type('zsh -f -i', [
      'autoload -U compinit; compinit -u -D; source <(weir completion zsh)\n',
      ...CASES.map(([typed]) => typed),
    ])
    expectCompleted('zsh')
  })

  const noFish = has('fish') ? '' : ' (skipped: needs fish)'
  it.skipIf(noFish !== '')(`fish offers words with their meaning${noFish}`, () => {
    const offers = (line: string): string[] => {
      const script = `weir completion fish | source; complete -C '${line}'`
      const { stdout, stderr } = spawnSync('fish', ['--no-config', '-c', script], {
        cwd: dir,
        env,
        encoding: 'utf8',
      })
      expect(stderr).toBe('')
      return stdout.trimEnd().split('\n')
    }
    expect(offers('weir config get API.Po')).toEqual(['API.Port\tPort of the API'])
    expect(offers('weir config get --output y')).toEqual(['yaml'])
    expect(offers('weir config get --output=y')).toEqual(['--output=yaml'])
    expect(offers('weir job run dee')).toEqual(['deep.yaml'])
    expect(offers('weir job describe j-')).toEqual([''])
  })
})
