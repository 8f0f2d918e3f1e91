import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Bench, built, sandboxProblem, wat } from './harness.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const libc = built('c-libc')
const rustStd = built('rust-std')

/** What a suite, an engine’s command line and people call the directory that a program may use. */
const NAMES = ['fs-tests.dir', '/', '.', '/deep/er']

describe.skipIf(problem !== undefined)(`libraries of languages in the sandbox${skipped}`, () => {
  const alone = new Bench({ preopens: 'volumes' })
  const job = new Bench()
  afterAll(() => Promise.all([alone.close(), job.close()]))
  let count = 0
  const volume = (target: string): { hostPath: string; target: string; writable: boolean } => ({
    hostPath: alone.makeDir(`volume-${count++}`),
    target,
    writable: true,
  })

  const noC = libc === undefined ? ' (skipped: needs clang-14)' : ''
  describe.skipIf(libc === undefined)(`wasi-libc${noC}`, () => {
    it.each(NAMES)('finds everything as it expects it in a directory that is open as %s', async (name) => {
      const { exit, lines } = await alone.run(libc ?? '', {
        args: [name],
        volumes: [volume(name)],
        outputs: [],
      })
      expect({ lines, exitCode: exit.exitCode }).toEqual({ lines: ['0 wrong'], exitCode: 0 })
    })

    it.each(['outputs', '/tmp', 'fs-tests.dir'])(
      'and in %s of a job, where / and other directories are open as well',
      async (name) => {
        const volumes = name.includes('tests') ? [volume('/fs-tests.dir')] : []
        const { exit, lines } = await job.run(libc ?? '', { args: [name], volumes })
        expect({ lines, exitCode: exit.exitCode }).toEqual({ lines: ['0 wrong'], exitCode: 0 })
      },
    )
  })

  const noRust = rustStd === undefined ? ' (skipped: needs rustc for wasm32-wasi)' : ''
  describe.skipIf(rustStd === undefined)(`Rust’s standard library${noRust}`, () => {
    const expected = { lines: ['all right ["", "ünï"]'], exitCode: 70 }

    it.each(NAMES.slice(0, 2))(
      'finds everything as it expects it in a directory that is open as %s',
      async (name) => {
        const { exit, lines, stderr } = await alone.run(rustStd ?? '', {
          args: [name, '', 'ünï'],
          env: { EMPTY: '' },
          volumes: [volume(name)],
          outputs: [],
        })
        expect({ lines, exitCode: exit.exitCode, stderr: stderr() }).toEqual({ ...expected, stderr: '' })
      },
    )

    it('and in the outputs of a job', async () => {
      const { exit, lines, outputDirs } = await job.run(rustStd ?? '', {
        args: ['/outputs', '', 'ünï'],
        env: { EMPTY: '' },
      })
      expect({ lines, exitCode: exit.exitCode }).toEqual(expected)
      expect(readdirSync(outputDirs['/outputs'] ?? '')).toEqual(['file'])
    })
  })

  it('AssemblyScript reads its arguments and environment, writes a file, and ends with its code', async () => {
    const data = volume('data')
    const { exit, lines } = await alone.run(wat('assembly-files'), {
      args: ['7', '', 'ünï 🙂'],
      env: { A: 'b=c', EMPTY: '' },
      volumes: [data],
      outputs: [],
    })
    expect(lines).toEqual(['args 7||ünï 🙂', 'environ A=b=c|EMPTY=', 'file grüße'])
    expect(exit).toMatchObject({ exitCode: 7, code: '' })
    expect(readFileSync(join(data.hostPath, 'made by äss'), 'utf8')).toBe('grüße')
  })
})
