import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { type Finished, Bench, sandboxProblem, wat } from './harness.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const isRoot = process.getuid?.() === 0

describe.skipIf(problem !== undefined)(`hostile programs${skipped}`, () => {
  const bench = new Bench({ limits: { outputBytesMax: 8 << 20, compileTimeoutMs: 15_000 } })
  afterAll(() => bench.close())

  const stopAfter = async (module: string): Promise<{ ms: number; finished: Finished }> => {
    const started = await bench.start(module)
    const begin = performance.now()
    await started.running.stop(0)
    const exit = await started.running.exit
    return { ms: performance.now() - begin, finished: { ...started, exit, lines: [] } }
  }

  it('O-17 imports that nobody provides are named before anything runs', async () => {
    const error = await bench.start(wat('bad-imports')).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'wasm.imports' })
    expect((error as Error).message).toContain('env.system')
    expect((error as Error).message).toContain('wasi_snapshot_preview1.proc_exec')
    await expect(bench.start(wat('go-imports'))).rejects.toMatchObject({
      hint: expect.stringContaining('GOOS=wasip1'),
    })
    await expect(bench.start(wat('wrong-type'))).rejects.toMatchObject({ code: 'wasm.imports' })
  })

  it('O-19 a program that takes all memory traps as out of memory, one that copes ends by itself', async () => {
    const trapped = await bench.run(wat('grow-trap'), { memoryBytes: 32 << 20 })
    expect(trapped.exit).toMatchObject({ code: 'execution.out_of_memory', details: { memoryPages: '512' } })
    const coped = await bench.run(wat('grow-exit'), { memoryBytes: 32 << 20 })
    expect(coped.exit).toMatchObject({ code: '', exitCode: 9, details: { memoryPages: '512' } })
  })

  it('O-19 a module that starts with more memory than the job has is refused', async () => {
    await expect(bench.start(wat('memory-all'))).rejects.toMatchObject({ code: 'execution.out_of_memory' })
  })

  it('O-19 tables are bounded, at the start and as they grow', async () => {
    const { exit } = await bench.run(wat('table-bomb'))
    expect(exit).toMatchObject({ exitCode: 0 })
    await expect(bench.start(wat('table-huge'))).rejects.toMatchObject({ code: 'wasm.invalid' })
    await expect(bench.start(wat('seventeen-tables'))).rejects.toMatchObject({
      code: 'wasm.invalid',
      message: expect.stringContaining('17 tables') as string,
    })
  })

  it('O-19 sixteen tables that grow as far as they can are the program’s own harm', async () => {
    const { exit } = await bench.run(wat('sixteen-tables'))
    if (isRoot) expect(exit).toMatchObject({ code: 'execution.out_of_memory', exitCode: 137 })
    expect((await bench.run(wat('hello'))).exit).toMatchObject({ exitCode: 0 })
  })

  it('O-19 64-bit memories and several memories in one module are refused', async () => {
    const memory64 = moduleWithMemories([0x04, 0x01])
    await expect(bench.start(bench.file('memory64.wasm', memory64))).rejects.toMatchObject({
      code: 'wasm.invalid',
      message: expect.stringContaining('64-bit memories') as string,
    })
    const multiMemory = moduleWithMemories([0x00, 0x01], [0x00, 0x01])
    await expect(bench.start(bench.file('multi-memory.wasm', multiMemory))).rejects.toMatchObject({
      code: 'wasm.invalid',
      message: expect.stringContaining('one memory') as string,
    })
  })

  it.skipIf(!isRoot)(
    `O-19 memories that do not fit together end the sandbox, which is told as out of memory${isRoot ? '' : ' (skipped: needs root)'}`,
    async () => {
      const imports = ['a', 'b', 'c', 'd'].map((alias) => ({ alias, file: wat('touch') }))
      const memoryBytes = 96 << 20
      const { exit } = await bench.run(wat('four-memories'), { imports, memoryBytes })
      expect(exit).toMatchObject({ code: 'execution.out_of_memory', exitCode: 137 })
      // The node itself, and the next program, do not notice.
      expect((await bench.run(wat('hello'))).exit).toMatchObject({ exitCode: 0 })
    },
  )

  it('O-25 a program that fails because its disk is full is told apart from one that just fails', async () => {
    const { exit } = await bench.run(wat('disk-full'), { diskBytes: 1 << 20 })
    expect(exit).toMatchObject({
      code: 'compute.disk',
      exitCode: 51,
      message: expect.stringContaining('disk limit of 1') as string,
    })
  })

  it('O-33 exceptions nobody catches are traps, and references to the host cannot be had', async () => {
    const thrown = await bench.run(wat('exception'))
    expect(thrown.exit).toMatchObject({ code: 'wasm.trap', exitCode: 134 })
    // A function with a parameter is not started at all, so nothing of the host is ever passed.
    await expect(bench.start(wat('externref'))).rejects.toMatchObject({ code: 'wasm.entry_point' })
  })

  it('O-33 garbage-collected types are refused', async () => {
    const struct = Uint8Array.of(...HEADER, 0x01, 0x03, 0x01, 0x5f, 0x00)
    await expect(bench.start(bench.file('gc.wasm', struct))).rejects.toMatchObject({ code: 'wasm.invalid' })
  })

  for (const name of ['endless', 'endless-start', 'endless-calls', 'sleep-hour']) {
    it(`O-20 ${name} is gone within a second of being stopped`, async () => {
      const { ms, finished } = await stopAfter(wat(name))
      expect(ms).toBeLessThan(1_000)
      expect(finished.exit).toMatchObject({ exitCode: 137, code: '' })
    })
  }

  it('O-20 an endless loop leaves the node’s own loop free', async () => {
    const started = await bench.start(wat('endless'))
    let longest = 0
    for (let turn = 0; turn < 20; turn++) {
      const begin = performance.now()
      await new Promise((resolve) => setTimeout(resolve, 5))
      longest = Math.max(longest, performance.now() - begin - 5)
    }
    await started.running.stop(0)
    expect(longest).toBeLessThan(500)
  })

  it('O-21 deep recursion is a stack overflow, also through a table', async () => {
    for (const name of ['recursion', 'recursion-table']) {
      expect((await bench.run(wat(name))).exit).toMatchObject({
        exitCode: 134,
        code: 'wasm.trap',
        message: expect.stringMatching(/^The program trapped: stack overflow \(in function \d+/),
      })
    }
  })

  it('O-22 a module that is too large is refused by its size', async () => {
    const small = new Bench({ limits: { moduleBytesMax: 100 } })
    try {
      await expect(small.start(wat('hello'))).rejects.toMatchObject({ code: 'wasm.invalid' })
    } finally {
      await small.close()
    }
  })

  it('O-22 one function with a million nested blocks ends within its limits, not in a hanging node', async () => {
    const file = join(bench.makeDir('bombs'), 'nested.wasm')
    writeFileSync(file, nestedBlocks(1_000_000))
    const answer = await bench.run(file).then(
      ({ exit }) => exit.code,
      (error: { code: string }) => error.code,
    )
    // It takes more memory than the sandbox has, or the compiler gives up; without a memory limit it may even run.
    expect(['', 'wasm.invalid', 'engine.failed', 'wasm.trap', 'execution.out_of_memory']).toContain(answer)
  })

  it('O-23 truncated and malformed modules are refused, with the place', async () => {
    const hello = readFileSync(wat('hello'))
    const dir = bench.makeDir('malformed')
    const tryBytes = (bytes: Uint8Array): Promise<unknown> => {
      const file = join(dir, 'm.wasm')
      writeFileSync(file, bytes)
      return bench.start(file)
    }
    await expect(tryBytes(Buffer.alloc(0))).rejects.toMatchObject({ code: 'wasm.invalid' })
    await expect(tryBytes(hello.subarray(0, 60))).rejects.toMatchObject({ code: 'wasm.invalid' })
    await expect(tryBytes(Buffer.from('(module)'))).rejects.toMatchObject({
      hint: expect.stringContaining('wat2wasm'),
    })
    const body = Buffer.from(hello)
    body[body.indexOf('hello from wat') - 12] = 0xff
    await expect(tryBytes(body)).rejects.toMatchObject({ code: expect.stringMatching(/^wasm\./) })
  })

  it('O-24 a flood of output ends the program at the limit', async () => {
    let bytes = 0
    const started = await bench.start(wat('flood'), {
      onOutput: (_stream, data) => {
        bytes += data.length
      },
    })
    expect(await started.running.exit).toMatchObject({ code: 'execution.output_limit', exitCode: 137 })
    expect(bytes).toBeLessThanOrEqual(8 << 20)
  })

  it('O-28 random bytes beyond the memory are an error, not a read of the host', async () => {
    expect((await bench.run(wat('random-huge'))).exit.exitCode).toBe(21)
  })

  it('O-31 exit codes, signals and traps are told apart', async () => {
    expect((await bench.run(wat('exit-huge'))).exit).toMatchObject({
      exitCode: 255,
      details: { wasmExitCode: '2147483648' },
    })
    expect((await bench.run(wat('exit-in-start'))).exit).toMatchObject({ exitCode: 7, code: '' })
    expect((await bench.run(wat('raise'))).exit).toMatchObject({ exitCode: 134, code: '' })
    expect((await bench.run(wat('trap'))).exit).toMatchObject({ exitCode: 134, code: 'wasm.trap' })
    const outside = (await bench.run(wat('out-of-bounds'))).exit
    expect(outside).toMatchObject({ code: 'wasm.trap', message: expect.stringContaining('out of bounds') })
  })

  it('O-32 threads are not linked and shared memories refused', async () => {
    await expect(bench.start(wat('threads'))).rejects.toMatchObject({
      code: 'wasm.imports',
      hint: expect.stringContaining('hread'),
    })
    await expect(bench.start(wat('shared-memory'))).rejects.toMatchObject({ code: 'wasm.invalid' })
  })

  it('O-34 names that mean something to JavaScript are plain names', async () => {
    const { exit } = await bench.run(wat('polluting-names'), {
      imports: [
        { alias: '__proto__', file: wat('polluted') },
        { alias: 'constructor', file: wat('polluted') },
      ],
    })
    expect(exit).toMatchObject({ exitCode: 0, code: '' })
    const env = JSON.parse('{"__proto__": "a", "constructor": "b"}') as Record<string, string>
    expect((await bench.run(wat('hello'), { env })).exit.exitCode).toBe(0)
  })

  it('O-36 no import module can stand in for WASI', async () => {
    const replaced = bench.start(wat('exit-3'), {
      imports: [{ alias: 'wasi_snapshot_preview1', file: wat('fake-wasi') }],
    })
    await expect(replaced).rejects.toMatchObject({ code: 'wasm.imports' })
    const beside = await bench.run(wat('exit-3'), { imports: [{ alias: 'other', file: wat('fake-wasi') }] })
    expect(beside.exit.exitCode).toBe(3)
  })
})

/** (module (memory (export "memory") 1) (func (export "_start") block block … end end)) */
function nestedBlocks(depth: number): Buffer {
  const blocks = Buffer.alloc(depth * 2, Buffer.from([0x02, 0x40]))
  const body = Buffer.concat([Buffer.from([0]), blocks, Buffer.alloc(depth + 1, 0x0b)])
  const code = Buffer.concat([leb(1), leb(body.length), body])
  const head = Buffer.from(
    '0061736d01000000' + '010401600000' + '03020100' + '0503010001' + '070a01065f7374617274' + '0000',
    'hex',
  )
  return Buffer.concat([head, Buffer.from([10]), leb(code.length), code])
}

function leb(value: number): Buffer {
  const bytes: number[] = []
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0))
    value >>>= 7
  } while (value > 0)
  return Buffer.from(bytes)
}

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]

/** A module that exports an empty `_start` and has these memories: each flags and pages. */
function moduleWithMemories(...memories: number[][]): Uint8Array {
  const limits = memories.flat()
  const sections = [
    [0x01, 0x04, 0x01, 0x60, 0x00, 0x00],
    [0x03, 0x02, 0x01, 0x00],
    [0x05, limits.length + 1, memories.length, ...limits],
    [0x07, 0x0a, 0x01, 0x06, ...Buffer.from('_start'), 0x00, 0x00],
    [0x0a, 0x04, 0x01, 0x02, 0x00, 0x0b],
  ]
  return Uint8Array.from([...HEADER, ...sections.flat()])
}
