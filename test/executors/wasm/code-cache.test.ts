import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import type { WasmExecutorOptions } from '../../../src/executors/wasm/index.js'
import { Bench, padded, sandboxProblem, wat } from './harness.js'

// Modules are compiled in the background: on a busy machine that has to wait.
vi.setConfig({ testTimeout: 300_000 })

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`

/** Grows its memory as far as it gets and ends with 9: the cap shows. */
const GROWS = wat('grow-exit')

class CodeBench extends Bench {
  readonly said: string[]
  readonly codeDir: string

  constructor(options: Partial<WasmExecutorOptions> = {}) {
    const said: string[] = []
    const note = (_fields: object, message: string) => void said.push(message)
    const logger = { debug: note, info: note, warn: note, error: note }
    super({ warmSlots: 1, codeBytesMax: 64 << 20, logger, ...options })
    this.said = said
    this.codeDir = join(options.dataDir ?? this.dataDir, 'code')
  }

  files(ending: string): string[] {
    if (!existsSync(this.codeDir)) return []
    return readdirSync(this.codeDir)
      .filter((name) => name.endsWith(ending))
      .map((name) => join(this.codeDir, name))
  }

  async has(ending: '.code' | '.none', count = 1): Promise<string> {
    await expect.poll(() => this.files(ending).length, { timeout: 120_000 }).toBe(count)
    return this.files(ending)[0] ?? ''
  }

  /** Which compiler a run of the module used. */
  async compiler(module: string): Promise<string> {
    const { exit } = await this.run(module, { memoryBytes: 32 << 20 })
    expect(exit).toMatchObject({ code: '', exitCode: 9, details: { memoryPages: '512' } })
    return exit.details.compiler ?? ''
  }
}

/** As the node writes it: a checksum over the name and the code, then the code. */
function forge(file: string, code: Buffer): void {
  const key = /([0-9a-f]{64})\.code$/.exec(file)?.[1] ?? ''
  const head = createHash('sha256').update(key).update(code).digest()
  replace(file, Buffer.concat([head, code]))
}

function replace(file: string, bytes: Buffer): void {
  rmSync(file)
  writeFileSync(file, bytes)
}

describe.skipIf(problem !== undefined)(`compiled code of modules${skipped}`, () => {
  it('is made after the first run and used by the next, within the same memory limit; it outlives the node', async () => {
    const bench = new CodeBench()
    const module = bench.file('grows.wasm', padded(GROWS))
    expect(await bench.compiler(module)).toBe('optimising')
    const code = await bench.has('.code')
    expect(statSync(code).mode & 0o777).toBe(0o400)
    expect(await bench.compiler(module)).toBe('cached')
    await bench.executor.close()
    // Leftovers of a crash, and what does not belong there.
    writeFileSync(`${code}.part`, 'half')
    mkdirSync(join(bench.codeDir, 'a-directory'))
    const next = new CodeBench({ dataDir: bench.dataDir })
    const again = await next.run(module, { memoryBytes: 32 << 20 })
    expect(again.exit.details).toMatchObject({ compiler: 'cached', memoryPages: '512' })
    expect(readdirSync(bench.codeDir)).toEqual([code.slice(bench.codeDir.length + 1)])
    await next.close()
    await bench.close()
  })

  it('is not used when it is damaged or meant for something else, and made anew', {
    timeout: 120_000,
  }, async () => {
    const bench = new CodeBench()
    const module = bench.file('grows.wasm', padded(GROWS))
    const other = bench.file('other.wasm', padded(wat('exit-3')))
    await bench.run(other)
    const foreign = readFileSync(await bench.has('.code'))
    rmSync(bench.files('.code')[0] ?? '')
    await bench.compiler(module)
    const file = await bench.has('.code')
    const good = readFileSync(file)
    const damage: Record<string, () => void> = {
      'cut short': () => (chmodSync(file, 0o600), truncateSync(file, good.length - 1)),
      'cut to nothing': () => (chmodSync(file, 0o600), truncateSync(file, 0)),
      'one bit': () => {
        const bytes = Buffer.from(good)
        bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100)
        replace(file, bytes)
      },
      'of another module': () => replace(file, foreign),
      'a link': () => {
        copyFileSync(file, join(bench.dir, 'elsewhere'))
        rmSync(file)
        symlinkSync(join(bench.dir, 'elsewhere'), file)
      },
      gone: () => rmSync(file),
    }
    for (const [what, spoil] of Object.entries(damage)) {
      spoil()
      expect(await bench.compiler(module), what).toBe('optimising')
      await expect
        .poll(() => existsSync(file) && readFileSync(file).length, { timeout: 30_000 })
        .toBe(good.length)
      expect(await bench.compiler(module), what).toBe('cached')
    }
    expect(bench.files('.none')).toEqual([])
    await bench.close()
  })

  it('is compiled once more by the job, and not offered again, when V8 does not take it', async () => {
    const bench = new CodeBench()
    const module = bench.file('grows.wasm', padded(GROWS))
    await bench.compiler(module)
    const file = await bench.has('.code')
    // Of a V8 with other flags: their hash stands in the fourth word of V8's own head.
    const code = readFileSync(file).subarray(32)
    code.writeUInt32LE(code.readUInt32LE(12) ^ 1, 12)
    forge(file, code)
    expect(await bench.compiler(module)).toBe('optimising')
    await bench.has('.none')
    expect(bench.files('.code')).toEqual([])
    expect(await bench.compiler(module)).toBe('optimising')
    await bench.close()
  })

  it('is compiled once when many jobs bring the module at the same time', { timeout: 300_000 }, async () => {
    const bench = new CodeBench()
    const module = bench.file('grows.wasm', padded(GROWS))
    await Promise.all(Array.from({ length: 8 }, () => bench.compiler(module)))
    await bench.has('.code')
    expect(await bench.compiler(module)).toBe('cached')
    expect(bench.said.filter((one) => one === 'a module was compiled ahead')).toHaveLength(1)
    await bench.close()
  })

  it('stays within its room: what was not used for longest goes', { timeout: 300_000 }, async () => {
    const bench = new CodeBench()
    const modules = [0, 1, 2].map((number) => bench.file(`m${number}.wasm`, padded(GROWS, number)))
    await bench.compiler(modules[0] ?? '')
    const first = await bench.has('.code')
    const bytesMax = Math.floor(statSync(first).size * 2.5)
    await bench.executor.close()
    const small = new CodeBench({ dataDir: bench.dataDir, codeBytesMax: bytesMax })
    await small.compiler(modules[1] ?? '')
    await small.has('.code', 2)
    expect(await small.compiler(modules[0] ?? '')).toBe('cached')
    await small.compiler(modules[2] ?? '')
    const made = () => small.said.filter((one) => one === 'a module was compiled ahead').length
    await expect.poll(made, { timeout: 30_000 }).toBe(2)
    expect(small.files('.code')).toHaveLength(2)
    expect(small.files('.code')).toContain(first)
    expect(await small.compiler(modules[1] ?? '')).toBe('optimising')
    await small.close()
    await bench.close()
  })

  it('is not tried for every job when it cannot be had, and jobs run without', {
    timeout: 300_000,
  }, async () => {
    const bench = new CodeBench({ limits: { aheadTimeoutMs: 1 } })
    const module = bench.file('grows.wasm', padded(GROWS))
    expect(await bench.compiler(module)).toBe('optimising')
    const note = await bench.has('.none')
    utimesSync(note, new Date(), new Date(Date.now() - 3_600_000))
    const noted = statSync(note).mtimeMs
    await bench.executor.close()
    const next = new CodeBench({ dataDir: bench.dataDir })
    expect(await next.compiler(module)).toBe('optimising')
    expect(await next.compiler(module)).toBe('optimising')
    await next.executor.close()
    expect(statSync(note).mtimeMs).toBe(noted)
    expect(next.files('.code')).toEqual([])
    // A day later it is tried again.
    utimesSync(note, new Date(), new Date(Date.now() - 25 * 3_600_000))
    const later = new CodeBench({ dataDir: bench.dataDir })
    await later.compiler(module)
    await later.has('.code')
    expect(later.files('.none')).toEqual([])
    for (const one of [later, next, bench]) await one.close()
  })

  it('is kept for large modules and import modules as well, and the first run says that it compiles', async () => {
    const bench = new CodeBench({ limits: { optimiseBytesMax: 4_096 }, cgroups: false })
    const module = bench.file('uses.wasm', padded(wat('uses-math')))
    const math = { alias: 'math', file: bench.file('math.wasm', padded(wat('math'))) }
    const progress: string[] = []
    const options = { imports: [math], onProgress: (message: string) => void progress.push(message) }
    const first = await bench.run(module, options)
    expect(first.exit).toMatchObject({ code: '', details: { compiler: 'tiered' } })
    expect(progress.join('\n')).toMatch(/Compiling uses\.wasm \(8.*\), which is not compiled yet/)
    await bench.has('.code', 2)
    progress.length = 0
    const second = await bench.run(module, options)
    expect(second.exit).toMatchObject({ exitCode: first.exit.exitCode, details: { compiler: 'cached' } })
    expect(progress.join('\n')).not.toContain('Compiling')
    await bench.close()
  })

  it('is not kept where there is no room for any', async () => {
    const bench = new CodeBench({ codeBytesMax: 0 })
    const module = bench.file('grows.wasm', padded(GROWS))
    await bench.compiler(module)
    expect(await bench.compiler(module)).toBe('optimising')
    expect(existsSync(bench.codeDir)).toBe(false)
    await bench.close()
  })
})
