import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Bench, built, readOnly, sandboxProblem, wat } from './harness.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const cFiles = built('c-files')
const rustFiles = built('rust-files')
const goLike = built('c-go-like')
const noC = cFiles === undefined ? ' (skipped: needs clang-14)' : ''
const noRust = rustFiles === undefined ? ' (skipped: needs rustc for wasm32-wasi)' : ''

describe.skipIf(problem !== undefined)(`programs in the sandbox${skipped}`, () => {
  const bench = new Bench()
  afterAll(() => bench.close())
  const inputs = bench.makeDir('inputs', { 'data.txt': 'one two\nthree' })

  it('runs a program and delivers its output and exit code', async () => {
    const { exit, lines } = await bench.run(wat('hello'))
    expect(exit).toMatchObject({ exitCode: 0, code: '' })
    expect(lines).toEqual(['hello from wat'])
  })

  it.skipIf(goLike === undefined)(
    `gives programs that look for absolute paths in the directory "/", as those of Go do, what they need${noC}`,
    async () => {
      const { exit, lines, outputDirs } = await bench.run(goLike ?? '', {
        volumes: [readOnly(inputs, '/inputs')],
        outputs: ['/outputs'],
      })
      expect(exit).toMatchObject({ exitCode: 0, code: '' })
      expect(lines[0]).toBe('preopen 3: /')
      expect(readFileSync(join(outputDirs['/outputs'] ?? '', 'copy.txt'), 'utf8')).toBe('one two\nthree')
    },
  )

  it('says in which functions a program trapped, by the names that are in the module', async () => {
    const dir = bench.makeDir('named', {})
    writeFileSync(join(dir, 'named.wasm'), trapsInNamedFunctions())
    expect((await bench.run(join(dir, 'named.wasm'))).exit).toMatchObject({
      exitCode: 134,
      code: 'wasm.trap',
      message: 'The program trapped: unreachable (in read_row ← main)',
      hint: expect.stringContaining('abort'),
    })
  })

  it('reports the exit code of the program', async () => {
    expect((await bench.run(wat('exit-3'))).exit).toMatchObject({ exitCode: 3, code: '', message: '' })
  })

  it.skipIf(cFiles === undefined)(`runs C: arguments, environment, inputs, outputs${noC}`, async () => {
    const { exit, lines, stderr, outputDirs } = await bench.run(cFiles ?? '', {
      args: ['5', 'x'],
      engineEnv: { GREETING: 'engine', OTHER: '1' },
      env: { GREETING: 'task' },
      volumes: [readOnly(inputs, '/inputs')],
    })
    expect(exit).toMatchObject({ exitCode: 5, code: '' })
    expect(lines[0]).toBe('name=c-files.wasm args=2 greeting=task')
    expect(lines.slice(1).toSorted()).toEqual([
      'root: .',
      'root: ..',
      'root: inputs',
      'root: outputs',
      'root: tmp',
    ])
    expect(stderr()).toBe('done\n')
    expect(readdirSync(outputDirs['/outputs'] ?? '')).toEqual(['upper.txt'])
    expect(readFileSync(join(outputDirs['/outputs'] ?? '', 'upper.txt'), 'utf8')).toBe(
      'ONE TWO\nTHREEappended\n',
    )
  })

  it.skipIf(rustFiles === undefined)(`runs Rust: files, directories, clocks, errors${noRust}`, async () => {
    const { exit, lines, outputDirs } = await bench.run(rustFiles ?? '', {
      args: ['4'],
      env: { GREETING: 'hi' },
      volumes: [readOnly(inputs, '/inputs')],
    })
    expect(exit).toMatchObject({ exitCode: 4, code: '' })
    expect(lines).toEqual([
      'args=["4"] greeting=hi',
      'inputs=["data.txt"] size=14',
      'write to inputs: Some(69)',
      'passwd: false',
    ])
    expect(readFileSync(join(outputDirs['/outputs'] ?? '', 'words.txt'), 'utf8')).toBe('one\ntwo\nthree\n')
  })

  it.skipIf(rustFiles === undefined)(
    `says that memory ran out when an allocation fails and the program traps${noRust}`,
    async () => {
      const { exit } = await bench.run(rustFiles ?? '', {
        args: ['hog'],
        volumes: [readOnly(inputs, '/inputs')],
      })
      expect(exit).toMatchObject({ code: 'execution.out_of_memory', exitCode: 134 })
      expect(exit.hint).toContain('--memory')
    },
  )

  it.skipIf(cFiles === undefined)(
    `takes inputs that are too large to copy, and writable ones${noC}`,
    async () => {
      const large = bench.makeDir('large', { 'data.txt': 'x'.repeat(2 << 20) })
      const shared = bench.makeDir('shared')
      const { exit } = await bench.run(cFiles ?? '', {
        volumes: [readOnly(large, '/inputs'), { hostPath: shared, target: '/outputs', writable: true }],
        outputs: ['/result'],
      })
      expect(exit).toMatchObject({ exitCode: 0, details: { slot: 'cold' } })
      expect(readFileSync(join(shared, 'upper.txt'), 'utf8')).toHaveLength((2 << 20) + 9)
    },
  )

  it.skipIf(cFiles === undefined)(`mounts a single file and any number of result paths${noC}`, async () => {
    const file = join(bench.makeDir('single'), 'whatever.bin')
    writeFileSync(file, 'abc')
    const outputs = ['/outputs', '/deep/er/a', '/deep/er/b', '/c']
    const { exit, lines, outputDirs } = await bench.run(cFiles ?? '', {
      volumes: [readOnly(file, '/inputs/data.txt')],
      outputs,
    })
    expect(exit.exitCode).toBe(0)
    expect(lines).toContain('root: deep')
    expect(readdirSync(outputDirs['/outputs'] ?? '')).toEqual(['upper.txt'])
    expect(readdirSync(outputDirs['/deep/er/a'] ?? '')).toEqual([])
  })

  it('starts another exported function after _initialize', async () => {
    expect((await bench.run(wat('other-entry'), { entryPoint: 'main' })).exit.exitCode).toBe(22)
  })

  it('names the functions that could be started when the entry point is missing', async () => {
    const error = bench.start(wat('other-entry'))
    await expect(error).rejects.toMatchObject({
      code: 'wasm.entry_point',
      hint: expect.stringContaining('main'),
    })
    await expect(bench.start(wat('other-entry'), { entryPoint: 'takes' })).rejects.toMatchObject({
      code: 'wasm.entry_point',
    })
    await expect(bench.start(wat('other-entry'), { entryPoint: 'number' })).rejects.toMatchObject({
      code: 'wasm.entry_point',
    })
  })

  it('links import modules by alias, or by the name of their file', async () => {
    const byAlias = await bench.run(wat('uses-math'), { imports: [{ alias: 'math', file: wat('math') }] })
    const byName = await bench.run(wat('uses-math'), { imports: [{ alias: '', file: wat('math') }] })
    expect([byAlias.exit.exitCode, byName.exit.exitCode]).toEqual([42, 42])
  })

  it('keeps a program waiting while nobody takes its output', async () => {
    let release: () => void = () => undefined
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    let bytes = 0
    const started = await bench.start(wat('flood'), {
      onOutput: (_stream, data) => {
        bytes += data.length
        return held
      },
    })
    // While the first piece is held, a program that writes as fast as it can gets no further than the pipe's buffer.
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(bytes).toBeGreaterThan(0)
    expect(bytes).toBeLessThan(1 << 20)
    const stopped = started.running.stop(0)
    release()
    await stopped
    expect((await started.running.exit).exitCode).toBe(137)
  })

  it('refuses networks it cannot give, and more arguments than fit', async () => {
    const many = { A: 'x'.repeat(10 << 20) }
    await expect(bench.start(wat('noop'), { env: many })).rejects.toMatchObject({ code: 'spec.invalid' })
    await expect(bench.start(wat('noop'), { env: { 'A=B': '' } })).rejects.toMatchObject({
      code: 'spec.invalid',
    })
    await expect(bench.start(wat('noop'), { args: ['a\0b'] })).rejects.toMatchObject({ code: 'spec.invalid' })
  })

  it('gives up a start that is aborted', async () => {
    await expect(
      bench.start(wat('noop'), { signal: AbortSignal.abort(new Error('enough')) }),
    ).rejects.toThrow('enough')
  })
})

/** `_start` calls `main`, which calls `read_row`, which traps; with a name section. */
function trapsInNamedFunctions(): Buffer {
  const section = (id: number, ...content: number[]): number[] => [id, content.length, ...content]
  const text = (value: string): number[] => [value.length, ...Buffer.from(value)]
  const body = (...code: number[]): number[] => [code.length + 2, 0, ...code, 0x0b]
  const names = ['read_row', 'main', '_start'].flatMap((name, index) => [index, ...text(name)])
  return Buffer.from([
    ...Buffer.from('0061736d01000000', 'hex'),
    ...section(1, 1, 0x60, 0, 0),
    ...section(3, 3, 0, 0, 0),
    ...section(7, 1, ...text('_start'), 0, 2),
    ...section(10, 3, ...body(0x00), ...body(0x10, 0), ...body(0x10, 1)),
    ...section(0, ...text('name'), 1, names.length + 1, 3, ...names),
  ])
}
