import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PROGRAMS, isDefaultPortTaken, missingSandbox, startServer, weir } from './with-cli.js'
import type { CliResult, TestServer } from './with-cli.js'

const missing = missingSandbox()
const skipped = missing === undefined ? '' : ` (skipped: ${missing})`
const isTaken = await isDefaultPortTaken()

describe.skipIf(missing !== undefined)(`jobs on a server, from the command line${skipped}`, () => {
  let server: TestServer
  beforeAll(async () => {
    server = await startServer()
    for (const [name, bytes] of Object.entries(PROGRAMS))
      writeFileSync(join(server.dir, `${name}.wasm`), bytes)
  })
  afterAll(async () => {
    const { code, stderr } = await server.stop()
    expect(code, stderr).toBe(0)
  })

  it('prints progress as talk and the output as data', async () => {
    const { code, stdout, stderr } = await server.weir(['wasm', 'run', 'hello.wasm'])
    expect([code, stdout]).toEqual([0, 'hello\n'])
    expect(stderr).toMatch(/Job j-[0-9a-f-]{36} submitted/)
    expect(stderr).toMatch(/Execution +Running/)
    expect(stderr).toMatch(/weir job describe j-[0-9a-f]{8}/)
  })

  it('ends with the program’s own exit code, and with 0 only on success', async () => {
    const { code, stdout, stderr } = await server.weir(['wasm', 'run', 'seven.wasm'])
    expect([code, stdout]).toEqual([7, 'seven\n'])
    expect(stderr).toContain('The program ended with exit code 7')
  })

  it('prints the id and nothing else with --id-only, and still waits', async () => {
    const { code, stdout, stderr } = await server.weir(['wasm', 'run', '--id-only', 'hello.wasm'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^j-[0-9a-f-]{36}\n$/)
    expect(stderr).toBe('')
    const { stdout: described } = await server.weir(['job', 'describe', stdout.trim(), '--output', 'json'])
    expect(JSON.parse(described)).toMatchObject({ Job: { State: { StateType: 'Completed' } } })
  })

  it('streams the output instead of the progress with --follow', async () => {
    const { code, stdout, stderr } = await server.weir(['wasm', 'run', '--follow', 'seven.wasm'])
    expect([code, stdout]).toEqual([7, 'seven\n'])
    expect(stderr).not.toContain('Downloading Inputs')
  })

  it.each([['--wait=false'], ['--detach'], ['--no-wait']])('leaves a job running with %s', async (flag) => {
    const { code, stdout } = await server.weir(['wasm', 'run', flag, 'loop.wasm'])
    expect(code).toBe(0)
    const id = stdout.trim()
    const stopped = await server.weir(['job', 'stop', id])
    expect(stopped.code).toBe(0)
    expect(stopped.stdout).toMatch(/^[0-9a-f-]{36}\n$/)
  })

  it('stops the job on Ctrl-C, says so, and ends with 130', async () => {
    const { code, stderr } = await interruptedRun(server, ['wasm', 'run', 'loop.wasm'])
    expect(stderr).toMatch(/Stopping job j-[0-9a-f]{8}/)
    expect(stderr).toContain('The job was stopped')
    expect(code).toBe(130)
    expect(await stateOf(server, idIn(stderr))).toBe('Stopped')
  })

  it('leaves the job running on Ctrl-C only with --on-interrupt=detach', async () => {
    const { code, stderr } = await interruptedRun(server, [
      'wasm',
      'run',
      '--on-interrupt=detach',
      'loop.wasm',
    ])
    const id = idIn(stderr)
    expect(stderr).toContain('The job goes on')
    expect(code).toBe(130)
    expect(await stateOf(server, id)).toBe('Running')
    await server.weir(['job', 'stop', '--quiet', id])
  })

  it('ends with 124 when the time of the job is over', async () => {
    const { code, stderr } = await server.weir(['wasm', 'run', '--timeout', '1', 'loop.wasm'])
    expect(code).toBe(124)
    expect(stderr).toContain('timed out')
  })

  it('stops waiting, not the job, after --wait-timeout-secs', async () => {
    const { code, stderr } = await server.weir(['wasm', 'run', '--wait-timeout-secs', '1', 'loop.wasm'])
    expect(code).toBe(124)
    expect(stderr).toContain('the job goes on')
    const stopped = await server.weir(['job', 'stop', idIn(stderr)])
    expect(stopped.code).toBe(0)
  })

  it('ends with 126 and the reasons when no node fits', async () => {
    const { code, stderr } = await server.weir(['wasm', 'run', '--memory', '900tb', 'hello.wasm'])
    expect(code).toBe(126)
    expect(stderr).toMatch(/0 of 1 node can run this/)
  })

  it('prints job and executions with --output json', async () => {
    const { stdout } = await server.weir(['wasm', 'run', '--output', 'json', 'hello.wasm'])
    expect(JSON.parse(stdout)).toMatchObject({
      Job: { State: { StateType: 'Completed' } },
      Executions: [{ RunOutput: { Stdout: 'hello\n', ExitCode: 0 } }],
    })
  })

  it('downloads results: at once with --download, later with job get, one file with a path', async () => {
    const ran = await server.weir(['wasm', 'run', '--download', '--output-dir', 'got', 'hello.wasm'])
    expect(ran.code, ran.stderr).toBe(0)
    expect(readFileSync(join(server.dir, 'got', 'stdout'), 'utf8')).toBe('hello\n')
    const id = idIn(ran.stderr)
    const later = await server.weir(['job', 'get', id.slice(0, 10)])
    expect(later.code, later.stderr).toBe(0)
    expect(readdirSync(join(server.dir, `job-${id.slice(0, 10)}`)).toSorted()).toContain('exitCode')
    const one = await server.weir(['job', 'get', `${id}/stdout`, '--output-dir', 'one'])
    expect(one.code, one.stderr).toBe(0)
    expect(readdirSync(join(server.dir, 'one'))).toEqual(['stdout'])
  })

  it('says that nothing was published when there is nothing to get', async () => {
    const { stderr } = await server.weir(['wasm', 'run', 'hello.wasm'])
    const { code, stderr: why } = await server.weir(['job', 'get', idIn(stderr)])
    expect(code).toBe(3)
    expect(why).toContain('nothing was published')
  })

  it('runs jobs from files and from standard input, with variables', async () => {
    mkdirSync(join(server.dir, 'data'), { recursive: true })
    const url = `data:application/wasm;base64,${(PROGRAMS.hello as Buffer).toString('base64')}`
    const text = `type: batch\nname: "{{.who}}"\ntasks:\n- name: main\n  engine:\n    type: wasm\n    params:\n      entrymodule: {source: {type: inline, params: {url: "${url}"}}}\n`
    writeFileSync(join(server.dir, 'job.yaml'), text)
    expect(await server.weir(['job', 'validate', 'job.yaml', '-V', 'who=me'])).toMatchObject({
      code: 0,
      stdout: 'OK\n',
    })
    const ran = await server.weir(['job', 'run', 'job.yaml', '-V', 'who=me'])
    expect([ran.code, ran.stdout]).toEqual([0, 'hello\n'])
    const piped = await server.weir(['job', 'run', '-E', 'who', '--id-only'], {
      input: text,
      env: { who: 'piped' },
    })
    const { stdout } = await server.weir(['job', 'describe', piped.stdout.trim(), '--output', 'json'])
    expect(JSON.parse(stdout)).toMatchObject({ Job: { Name: 'piped' } })
  })

  it('escapes what a program wrote in job describe, and passes it through in job logs', async () => {
    const { stderr } = await server.weir(['wasm', 'run', 'escape.wasm'])
    const described = await server.weir(['job', 'describe', idIn(stderr)])
    expect(described.stdout).toContain('\\u001b[31mred')
    expect(described.stdout).not.toContain('\u001b')
    const logs = await server.weir(['job', 'logs', idIn(stderr)])
    expect(logs.stdout).toBe('\u001b[31mred\n')
  })

  it('lists jobs, executions, history and nodes as table, CSV, JSON and YAML', async () => {
    const { stdout: id } = await server.weir([
      'wasm',
      'run',
      '--id-only',
      '--name',
      'listed',
      '-l',
      'team=x',
      'hello.wasm',
    ])
    const table = await server.weir(['job', 'list', '--labels', 'team=x'])
    expect(table.stdout.split('\n')[0]).toMatch(/^CREATED +ID +NAME +JOB +TYPE +STATE$/)
    expect(table.stdout).toContain(id.slice(0, 10))
    const csv = await server.weir(['job', 'list', '--labels', 'team=x', '--output', 'csv', '--hide-header'])
    expect(csv.stdout).toMatch(/,listed,wasm,batch,Completed\n$/)
    const json = await server.weir(['job', 'executions', id.trim(), '--output', 'json'])
    expect(JSON.parse(json.stdout)).toMatchObject([{ JobID: id.trim() }])
    const yaml = await server.weir(['job', 'history', id.trim(), '--output', 'yaml'])
    expect(yaml.stdout).toContain('Topic: Submission')
    const nodes = await server.weir(['node', 'list', '--show', 'features,network'])
    expect(nodes.stdout).toMatch(/CONNECTED .*wasm/)
  })

  it('gives the whole command for the next page', async () => {
    await server.weir(['wasm', 'run', '--id-only', 'hello.wasm'])
    const { stderr } = await server.weir(['job', 'list', '--limit', '1'])
    const command = /weir (job list .*--next-token \S+)/.exec(stderr)?.[1] ?? ''
    const next = await server.weir(command.split(' '))
    expect([next.code, next.stdout.split('\n').length]).toEqual([0, 3])
  })

  it('answers about itself', async () => {
    expect((await server.weir(['agent', 'alive'])).stdout).toBe('Status: OK\n')
    expect((await server.weir(['agent', 'version'])).stdout).toMatch(/^weir \d/)
    expect((await server.weir(['version', '--output', 'json'])).stdout).toMatch(/"server":"\d/)
    const node = JSON.parse((await server.weir(['agent', 'node', '--output', 'json'])).stdout) as object
    expect(node).toHaveProperty('Info.NodeID')
    expect((await server.weir(['node', 'describe', 'n-'])).stdout).toContain('NodeID: n-')
    expect((await server.weir(['job', 'egress', 'j-'])).code).toBe(3)
  })

  it('refuses a second server on the same data directory', async () => {
    const { code, stderr } = await server.weir(['serve', '-c', 'API.Port=0'])
    expect(code).toBe(4)
    expect(stderr).toContain('another server')
  })

  it('goes on when the reader of the output has gone', async () => {
    const { code } = await server.weir(['wasm', 'run', 'hello.wasm'], {
      onOutput: (_seen, child) => child.stdout?.destroy(),
    })
    expect(code).toBe(0)
  })
})

describe.skipIf(missing !== undefined || isTaken)(
  `without a server${skipped}${isTaken ? ' (skipped: port 1234 is in use)' : ''}`,
  () => {
    it('runs a job in a node of its own and says so in one line', async () => {
      const { dir, run } = workplace()
      const { code, stdout, stderr } = await run(['wasm', 'run', 'seven.wasm'])
      expect([code, stdout]).toEqual([7, 'seven\n'])
      expect(stderr.split('\n').filter((line) => line.includes('No server is running'))).toHaveLength(1)
      expect(readdirSync(join(dir, 'data'))).toEqual([])
    })

    it('downloads results before the node is gone', async () => {
      const { dir, run } = workplace()
      const { code, stderr } = await run([
        'wasm',
        'run',
        '-o',
        'outputs:/outputs',
        '--output-dir',
        'got',
        'hello.wasm',
      ])
      expect(code, stderr).toBe(0)
      expect(readdirSync(join(dir, 'got')).toSorted()).toEqual([
        'egress-receipt.json',
        'exitCode',
        'outputs',
        'stderr',
        'stdout',
      ])
    })

    it('refuses to leave a job running', async () => {
      const { code, stderr } = await workplace().run(['wasm', 'run', '--detach', 'hello.wasm'])
      expect(code).toBe(125)
      expect(stderr).toContain('Cannot leave the job running')
    })

    it('leaves nothing behind when Ctrl-C comes while the node starts', async () => {
      const { dir, run } = workplace()
      const scratch = join(dir, 'tmp')
      mkdirSync(scratch)
      let isSent = false
      const { code } = await run(['wasm', 'run', 'loop.wasm'], {
        env: { TMPDIR: scratch },
        onOutput: ({ stderr }, child) => {
          if (isSent || !stderr.includes('No server is running')) return
          isSent = true
          // The node's own directory is the first thing it makes.
          const looking = setInterval(() => {
            if (readdirSync(scratch).length === 0) return
            clearInterval(looking)
            child.kill('SIGINT')
          }, 2)
        },
      })
      expect(code).toBe(130)
      expect(readdirSync(scratch)).toEqual([])
    })

    it('stops everything on Ctrl-C', async () => {
      const { dir, run } = workplace()
      const { code, stderr } = await interruptedRun({ weir: run }, ['wasm', 'run', 'loop.wasm'])
      expect(code, stderr).toBe(130)
      expect(readdirSync(join(dir, 'data'))).toEqual([])
    })
  },
)

/** A directory with the programs, and an empty data directory. */
function workplace(): { dir: string; run: TestServer['weir'] } {
  const dir = mkdtemp()
  mkdirSync(join(dir, 'data'))
  for (const [name, bytes] of Object.entries(PROGRAMS)) writeFileSync(join(dir, `${name}.wasm`), bytes)
  return {
    dir,
    run: (args, options = {}) =>
      weir(args, { ...options, cwd: dir, env: { WEIR_DIR: join(dir, 'data'), ...options.env } }),
  }
}

const workplaces: string[] = []
afterAll(() => {
  for (const dir of workplaces) rmSync(dir, { recursive: true, force: true })
})

function mkdtemp(): string {
  const dir = mkdtempSync(join(tmpdir(), 'weir-cli-'))
  workplaces.push(dir)
  return dir
}

/** Interrupts a run once its program runs. */
function interruptedRun(server: Pick<TestServer, 'weir'>, args: readonly string[]): Promise<CliResult> {
  let isSent = false
  return server.weir(args, {
    onOutput: ({ stderr }, child) => {
      if (isSent || !/Execution +Running/.test(stderr)) return
      isSent = true
      child.kill('SIGINT')
    },
  })
}

function idIn(stderr: string): string {
  return /Job (j-[0-9a-f-]{36}) submitted/.exec(stderr)?.[1] ?? 'no id'
}

async function stateOf(server: TestServer, id: string): Promise<string> {
  const { stdout } = await server.weir(['job', 'describe', id, '--output', 'json'])
  return (JSON.parse(stdout) as { Job: { State: { StateType: string } } }).Job.State.StateType
}
