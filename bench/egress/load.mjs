import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** The program beside this file, built for this run: `run(mode, options)` resolves with what it printed. */
export function buildLoad(dir) {
  const source = fileURLToPath(new URL('load.c', import.meta.url))
  const program = join(dir, 'load')
  const tried = ['cc', 'clang-14', 'gcc', 'clang'].map((compiler) =>
    spawnSync(compiler, ['-O2', '-o', program, source], { encoding: 'utf8' }),
  )
  if (!tried.some(({ status }) => status === 0))
    throw new Error(`no C compiler built bench/egress/load.c: ${tried.map(({ stderr }) => stderr).join('')}`)
  const counters = join(dir, 'counters')

  /** A load that runs until it is told to go on (`hold`) or to stop (`origin`). */
  const start = async (mode, options = {}, launcher = []) => {
    const words = Object.entries({ counters, ...options }).map(([key, value]) => `${key}=${value}`)
    const [first, ...rest] = [...launcher, program, mode, ...words]
    const child = spawn(first, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
    child.stdin.on('error', () => {})
    const ended = new Promise((resolve, reject) => child.on('error', reject).on('exit', resolve))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const next = async () => {
      const { value, done } = await lines.next()
      if (done) throw new Error(`load ${mode} ended without an answer`)
      return JSON.parse(value)
    }
    return {
      first: await next(),
      goOn: () => {
        child.stdin.write('\n')
        return next()
      },
      stop: async () => {
        child.kill('SIGKILL')
        await ended
      },
    }
  }
  const run = async (mode, options) => {
    const load = await start(mode, options)
    await load.stop()
    return load.first
  }
  return { start, run }
}
