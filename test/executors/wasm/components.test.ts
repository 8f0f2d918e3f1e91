import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Bench, HELLO_COMPONENT, readOnly, sandboxProblem, wat } from './harness.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`

describe.skipIf(problem !== undefined)(`components in the sandbox${skipped}`, () => {
  const bench = new Bench({ codeBytesMax: 64 << 20 })
  afterAll(() => bench.close())
  const inputs = bench.makeDir('inputs', { 'data.txt': 'one two\nthree' })

  it('runs a command component: its arguments, its output and its exit code', async () => {
    const { exit, lines } = await bench.run(HELLO_COMPONENT, { args: ['wörld', 'x', 'y'] })
    expect(exit).toMatchObject({ exitCode: 3, code: '', details: { memoryPages: '1' } })
    expect(lines).toEqual(['hello wörld'])
  })

  it('runs C that was made a component as it runs it as a module, from kept code the next time', async () => {
    const options = {
      args: ['0', 'x'],
      engineEnv: { GREETING: 'engine' },
      volumes: [readOnly(inputs, '/inputs')],
    }
    const { exit, lines, stderr, outputDirs } = await bench.run(wat('component-c-files'), options)
    expect(exit).toMatchObject({ exitCode: 0, code: '', details: { compiler: 'optimising' } })
    expect(lines[0]).toBe('name=component-c-files.wasm args=2 greeting=engine')
    const root = ['root: .', 'root: ..', 'root: inputs', 'root: outputs', 'root: tmp']
    expect(lines.slice(1).toSorted()).toEqual(root)
    expect(stderr()).toBe('done\n')
    expect(readdirSync(outputDirs['/outputs'] ?? '')).toEqual(['upper.txt'])
    expect(readFileSync(join(outputDirs['/outputs'] ?? '', 'upper.txt'), 'utf8')).toBe(
      'ONE TWO\nTHREEappended\n',
    )
    let compiler: string | undefined
    for (let tries = 0; tries < 50 && compiler !== 'cached'; tries++)
      compiler = (await bench.run(wat('component-c-files'), options)).exit.details.compiler
    expect(compiler).toBe('cached')
  })

  it('passes values of every kind between components with memories and encodings of their own', async () => {
    expect((await bench.run(wat('component-passes-values'))).exit).toMatchObject({ exitCode: 0, code: '' })
  })

  it('ends a resource once, when its last owner drops it', async () => {
    expect((await bench.run(wat('component-resources'))).exit).toMatchObject({ exitCode: 42, code: '' })
  })

  it('exits with 1 when the main function answers with an error', async () => {
    expect((await bench.run(wat('component-returns-error'))).exit).toMatchObject({ exitCode: 1, code: '' })
  })

  it.each([
    ['uses a number that is no handle', 'forged-handle', 'there is no handle 7'],
    ['keeps a handle that it was lent', 'borrowed-kept', 'a borrowed handle was kept'],
    ['declares a function with another type', 'wrong-type', 'that it does not have'],
  ])('ends a component that %s', async (_what, name, message) => {
    expect((await bench.run(wat(`component-${name}`))).exit).toMatchObject({
      exitCode: 134,
      code: 'wasm.trap',
      message: expect.stringContaining(message),
    })
  })

  it('refuses a component whose parts multiply', async () => {
    expect((await bench.run(wat('component-doubling'))).exit).toMatchObject({
      code: 'wasm.invalid',
      message: expect.stringContaining('more than 1000 instances'),
    })
  })

  it('refuses a server, and a component with import modules, before a sandbox is taken', async () => {
    await expect(bench.run(wat('component-server'))).rejects.toMatchObject({
      code: 'wasm.entry_point',
      message: expect.stringContaining('is a server'),
    })
    await expect(
      bench.run(HELLO_COMPONENT, { imports: [{ alias: 'math', file: wat('math') }] }),
    ).rejects.toMatchObject({ code: 'wasm.imports', message: expect.stringContaining('"math"') })
  })
})
