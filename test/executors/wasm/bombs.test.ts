import { closeSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { collectOutputs } from '../../../src/compute/collect-outputs.js'
import { Bench, built, readOnly, sandboxProblem, wat } from './harness.js'

const problem = await sandboxProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const MIB = 1 << 20

describe.skipIf(problem !== undefined)(`modules and programs that are bombs${skipped}`, () => {
  const bench = new Bench({ limits: { compileTimeoutMs: 20_000, outputBytesMax: 4 * MIB, filesMax: 20_000 } })
  const dir = bench.makeDir('bombs')
  afterAll(() => bench.close())

  /** The exit code of a program, or the error that refused it. */
  const answerTo = async (module: Buffer, name: string): Promise<string> => {
    const file = join(dir, `${name}.wasm`)
    writeFileSync(file, module)
    return bench.run(file).then(
      ({ exit }) => exit.code || `exit ${exit.exitCode}`,
      (error: { code: string }) => error.code,
    )
  }
  /** However a bomb ends, the next program does not notice. */
  const expectUnharmed = async (): Promise<void> => {
    expect((await bench.run(wat('hello'))).exit).toMatchObject({ exitCode: 0, code: '' })
  }

  it('O-22 a hundred megabytes of code that is never called, and one byte more than is allowed', {
    timeout: 60_000,
  }, async () => {
    const file = join(dir, 'large.wasm')
    // One function whose body is 100 MB of nops: its size is written first, so nothing has to fit into memory here.
    const nops = 100 * MIB
    const body = nops + 2
    const head = Buffer.concat([HEADER, ONE_TYPE, section(3, leb(1), leb(0)), START_EXPORT])
    const codeBytes = leb(1).length + leb(body).length + body
    const fd = openSync(file, 'w')
    writeSync(fd, Buffer.concat([head, Buffer.from([10]), leb(codeBytes), leb(1), leb(body), leb(0)]))
    const piece = Buffer.alloc(MIB, 0x01)
    for (let written = 0; written < nops; written += MIB) writeSync(fd, piece)
    writeSync(fd, Buffer.from([0x0b]))
    closeSync(fd)
    const answer = await bench.run(file).then(
      ({ exit }) => exit.code,
      (error: { code: string }) => error.code,
    )
    // V8 takes functions up to 7 MB, so the sandbox's own compiler refuses it.
    expect(answer).toBe('wasm.invalid')
    const strict = new Bench({ limits: { moduleBytesMax: 100 * MIB }, warmSlots: 0 })
    await expect(strict.start(file)).rejects.toMatchObject({
      code: 'wasm.invalid',
      message: expect.stringContaining('100 MiB') as string,
    })
    await strict.close()
    writeFileSync(file, '')
    await expectUnharmed()
  })

  it('O-22 a million functions, a huge branch table, fifty thousand locals', {
    timeout: 60_000,
  }, async () => {
    const functions = 999_999
    const many = moduleOf(
      section(3, leb(functions), Buffer.alloc(functions)),
      section(10, leb(functions), repeated(Buffer.from([0x02, 0x00, 0x0b]), functions)),
    )
    // At the engine's own limit of a million it may run; it must not hang or harm anybody.
    expect(['exit 0', 'wasm.invalid', 'execution.out_of_memory']).toContain(await answerTo(many, 'functions'))
    const targets = 2_000_000
    const table = Buffer.concat([
      Buffer.from([0x00, 0x41, 0x00, 0x0e]),
      leb(targets),
      Buffer.alloc(targets + 1),
      Buffer.from([0x0b]),
    ])
    expect(await answerTo(oneFunction(table), 'table')).toBe('wasm.invalid')
    const locals = Buffer.concat([leb(1), leb(50_001), Buffer.from([0x7f, 0x0b])])
    expect(await answerTo(oneFunction(locals), 'locals')).toBe('wasm.invalid')
    await expectUnharmed()
  })

  it('O-21 fifty thousand locals in a function that calls itself is a stack overflow', async () => {
    const body = Buffer.concat([leb(1), leb(49_999), Buffer.from([0x7f, 0x10, 0x00, 0x0b])])
    expect(await answerTo(oneFunction(body), 'deep-locals')).toBe('wasm.trap')
  })

  it('O-23 custom sections, malformed numbers and truncations are refused or inert', {
    timeout: 30_000,
  }, async () => {
    const small = oneFunction(Buffer.from([0x00, 0x0b]))
    const custom = Buffer.concat([leb(1), Buffer.from('x'), Buffer.alloc(16 * MIB)])
    expect(await answerTo(Buffer.concat([small, section(0, custom)]), 'custom')).toBe('exit 0')
    // It says a gigabyte, and there is none.
    const lying = Buffer.concat([small, Buffer.from([0]), leb(1 << 30), Buffer.from([1, 0x78])])
    expect(await answerTo(lying, 'lying')).toBe('wasm.invalid')
    for (const [name, tail] of Object.entries({
      'five-byte number': [0x01, 0xff, 0xff, 0xff, 0xff, 0x7f],
      'endless number': [0x01, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
      'unknown section': [0x3f, 0x00],
      'section without its size': [0x0b],
      'two type sections': [0x01, 0x04, 0x01, 0x60, 0x00, 0x00],
    })) {
      expect({
        name,
        answer: await answerTo(Buffer.concat([small, Buffer.from(tail)]), 'malformed'),
      }).toEqual({ name, answer: 'wasm.invalid' })
    }
    for (let length = 1; length < small.length; length += 7) {
      const answer = await answerTo(small.subarray(0, length), 'truncated')
      expect(['wasm.invalid', 'wasm.entry_point']).toContain(answer)
    }
  })

  it('O-24 escape sequences, bytes that are no text and a line without an end arrive as they were written', async () => {
    const bytes = Buffer.concat([
      Buffer.from('\x1b]0;owned\x07\x1b[2J\u202e'),
      Buffer.from([0xff, 0xfe, 0x00]),
      Buffer.alloc(200_000, 'x'),
    ])
    const file = bench.file('writes.wasm', writing(bytes))
    const got: Buffer[] = []
    const started = await bench.start(file, { onOutput: (_stream, data) => void got.push(Buffer.from(data)) })
    expect(await started.running.exit).toMatchObject({ exitCode: 0, code: '' })
    expect(Buffer.concat(got).equals(bytes)).toBe(true)
  })

  it('O-29 arguments and environment of ten megabytes are refused; the environment is the job’s and nothing of the node’s', async () => {
    const large = 'x'.repeat(10 * MIB)
    await expect(bench.start(wat('noop'), { args: [large] })).rejects.toMatchObject({ code: 'spec.invalid' })
    await expect(bench.start(wat('noop'), { env: { A: large } })).rejects.toMatchObject({
      code: 'spec.invalid',
    })
    const file = bench.file('counts.wasm', COUNTS_ENVIRONMENT)
    expect(Object.keys(process.env).length).toBeGreaterThan(2)
    expect((await bench.run(file)).exit.exitCode).toBe(0)
    expect((await bench.run(file, { env: { A: '1', B: '2' } })).exit.exitCode).toBe(2)
  })

  const probe = built('c-probe')
  it.skipIf(probe === undefined)(
    `O-30 a million opens end at the limit, and the node’s descriptors stay as they were${probe === undefined ? ' (skipped: needs clang-14)' : ''}`,
    async () => {
      const before = readdirSync('/proc/self/fd').length
      const inputs = bench.makeDir('for-opening', { 'data.txt': 'x' })
      const { lines } = await bench.run(probe ?? '', {
        args: ['exhaust|inputs/data.txt'],
        volumes: [readOnly(inputs, '/inputs')],
      })
      // c-probe asks up to a million times; EMFILE (33) comes at the limit of 1,024.
      expect(lines).toEqual(['exhaust 33 bounded'])
      expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 16)
    },
  )

  it.skipIf(probe === undefined)(
    `O-25 O-35 what fills outputs is refused in time, and the collector finishes with all of it${probe === undefined ? ' (skipped: needs clang-14)' : ''}`,
    { timeout: 60_000 },
    async () => {
      const odd = ['a%0ab', '%e2%80%aetxt', '..%252f', '-rf', 'n%ff%feA', 'x'.repeat(255)]
      const { lines, outputDirs } = await bench.run(probe ?? '', {
        args: [
          ...odd.map((name) => `open|outputs/${name}|0|1|1`),
          `open|outputs/${'x'.repeat(256)}|0|1|1`,
          'resize|outputs/sparse|1099511627776',
          'symlink|../../etc/shadow|outputs/shadow',
          'link|outputs/-rf|outputs/twice',
          'mkdir|outputs/many',
          'files|outputs/many',
          'deep|outputs',
        ],
        diskBytes: MIB,
      })
      expect(lines).toContain('open 37')
      // No room for a terabyte, neither by length nor by allocation; a million files were asked for, 20,000 may be.
      expect(lines).toEqual(expect.arrayContaining(['resize 51', 'allocate 51', 'deep refused']))
      expect(lines.find((line) => line.startsWith('files'))).toMatch(/^files 51 19\d{3}$/)
      const into = bench.makeDir('collected')
      const limits = { bytesMax: MIB, filesMax: 5_000 }
      const outputs = [{ name: 'outputs', hostDir: outputDirs['/outputs'] ?? '' }]
      const before = process.memoryUsage().rss
      const collected = await collectOutputs(outputs, into, limits, new AbortController().signal)
      expect(process.memoryUsage().rss - before).toBeLessThan(128 * MIB)
      expect(collected.files).toBeLessThanOrEqual(5_000)
      // What was left out is told, in words that a terminal can show: no line ends, no change of direction, no bare bytes.
      expect(collected.skipped.map(({ path }) => path).join('')).not.toMatch(/[\n\u202e\u001b]/)
      expect(collected.skippedCount).toBeGreaterThan(0)
      expect(readdirSync(join(into, 'outputs'))).not.toContain('shadow')
    },
  )
})

const HEADER = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00])
/** (type (func)) */
const ONE_TYPE = section(1, Buffer.from([0x01, 0x60, 0x00, 0x00]))
/** (export "_start" (func 0)) */
const START_EXPORT = section(7, leb(1), leb(6), Buffer.from('_start'), Buffer.from([0x00, 0x00]))

/** Writes these bytes to stdout with one call. */
function writing(bytes: Buffer): Buffer {
  const [vector, at] = [Buffer.alloc(8), 16]
  vector.writeUInt32LE(at, 0)
  vector.writeUInt32LE(bytes.length, 4)
  const data = (where: number, what: Buffer): Buffer =>
    Buffer.concat([Buffer.from([0x00, 0x41]), leb(where), Buffer.from([0x0b]), leb(what.length), what])
  return Buffer.concat([
    HEADER,
    // (type (func)) (type (func (param i32 i32 i32 i32) (result i32)))
    section(1, Buffer.from([0x02, 0x60, 0, 0, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f])),
    section(2, leb(1), imported('fd_write', 1)),
    section(3, leb(1), leb(0)),
    section(5, leb(1), leb(0), leb(16)),
    section(7, leb(2), text('_start'), Buffer.from([0x00, 0x01]), text('memory'), Buffer.from([0x02, 0x00])),
    section(10, leb(1), leb(13), Buffer.from([0, 0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a, 0x0b])),
    section(11, leb(2), data(0, vector), data(at, bytes)),
  ])
}

/** Exits with the number of its environment variables. */
const COUNTS_ENVIRONMENT = Buffer.concat([
  HEADER,
  // (type (func)) (type (func (param i32 i32) (result i32))) (type (func (param i32)))
  section(1, Buffer.from([0x03, 0x60, 0, 0, 0x60, 2, 0x7f, 0x7f, 1, 0x7f, 0x60, 1, 0x7f, 0])),
  section(2, leb(2), imported('environ_sizes_get', 1), imported('proc_exit', 2)),
  section(3, leb(1), leb(0)),
  section(5, leb(1), leb(0), leb(1)),
  section(7, leb(2), text('_start'), Buffer.from([0x00, 0x02]), text('memory'), Buffer.from([0x02, 0x00])),
  section(
    10,
    leb(1),
    leb(16),
    Buffer.from([0, 0x41, 0, 0x41, 8, 0x10, 0, 0x1a, 0x41, 0, 0x28, 2, 0, 0x10, 1, 0x0b]),
  ),
])

function imported(name: string, type: number): Buffer {
  return Buffer.concat([text('wasi_snapshot_preview1'), text(name), Buffer.from([0x00, type])])
}

function text(value: string): Buffer {
  return Buffer.concat([leb(value.length), Buffer.from(value)])
}

function moduleOf(functions: Buffer, code: Buffer): Buffer {
  return Buffer.concat([HEADER, ONE_TYPE, functions, START_EXPORT, code])
}

/** `body` without its size: locals first, 0x0b last. */
function oneFunction(body: Buffer): Buffer {
  return moduleOf(section(3, leb(1), leb(0)), section(10, leb(1), leb(body.length), body))
}

function section(id: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([id]), leb(content.length), content])
}

function repeated(bytes: Buffer, times: number): Buffer {
  return Buffer.alloc(bytes.length * times, bytes)
}

function leb(value: number): Buffer {
  const bytes: number[] = []
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0))
    value >>>= 7
  } while (value > 0)
  return Buffer.from(bytes)
}
