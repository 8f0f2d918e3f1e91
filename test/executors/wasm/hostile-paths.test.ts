import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Bench, type ProgramOptions, built, readOnly, sandboxProblem } from './harness.js'

const problem = (await sandboxProblem()) ?? (built('c-probe') === undefined ? 'needs clang-14' : undefined)
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`

// Error numbers of WASI: see src/executors/wasm/sandbox/wasi/errno.ts.
const [BADF, EXIST, FAULT, INVAL, LOOP, MFILE, NOENT, NOSPC, NOTSOCK, PERM, ROFS, XDEV] = [
  8, 20, 21, 28, 32, 33, 44, 51, 57, 63, 69, 75,
]

describe.skipIf(problem !== undefined)(`hostile paths${skipped}`, () => {
  const bench = new Bench({ limits: { filesMax: 500 } })
  const probe = built('c-probe') ?? ''
  afterAll(() => bench.close())

  /** One line of answer for each call. */
  const ask = async (calls: string[], options: ProgramOptions = {}): Promise<string[]> => {
    const { lines, exit, stderr } = await bench.run(probe, { args: calls, ...options })
    expect({ code: exit.code, exitCode: exit.exitCode, stderr: stderr() }).toEqual({
      code: '',
      exitCode: 0,
      stderr: '',
    })
    return lines
  }
  const inputs = bench.makeDir('inputs', { 'data.txt': 'data' })
  const withInputs = { volumes: [readOnly(inputs, '/inputs')] }

  it('O-01 no path climbs out of the directory it starts from', async () => {
    const climbing = [
      '../etc/passwd',
      'inputs/../../etc/passwd',
      './../etc/passwd',
      '..',
      'inputs/../..',
      'outputs/x/../../../x',
    ]
    const before = ['mkdir|outputs/x']
    const calls = climbing.flatMap((path) => [
      `open|${path}|1`,
      `stat|${path}`,
      `mkdir|${path}`,
      `unlink|${path}`,
      `readdir|${path}`,
    ])
    const lines = await ask([...before, ...calls], withInputs)
    expect(lines[0]).toBe('mkdir ok')
    for (const line of lines.slice(1)) expect(line).toMatch(new RegExp(` ${PERM}$`))
  })

  it('O-02 absolute, empty and odd paths are refused', async () => {
    const lines = await ask([
      'open|/etc/passwd|1',
      'open|//etc/passwd|1',
      'open||1',
      'open|inputs/data.txt%00.png|1',
      String.raw`open|C:\windows|1`,
      String.raw`open|..\..\etc\passwd|1`,
      'stat|/',
      'mkdir|/outputs/x',
      'symlink|/etc/passwd|outputs/l',
      'rename|/inputs/data.txt|outputs/y',
    ])
    expect(lines).toEqual([
      `open ${PERM}`,
      `open ${PERM}`,
      `open ${NOENT}`,
      `open ${INVAL}`,
      `open ${NOENT}`,
      `open ${NOENT}`,
      `stat ${PERM}`,
      `mkdir ${PERM}`,
      `symlink ${PERM}`,
      `rename ${PERM}`,
    ])
  })

  it('O-02 a NUL inside a path is refused', async () => {
    expect(await ask(['open|inputs/data.txt%00|1'], withInputs)).toEqual([`open ${INVAL}`])
  })

  it('O-03 O-06 links in outputs lead nowhere outside, and loops end', async () => {
    const lines = await ask([
      'symlink|../../etc/passwd|outputs/up',
      'open|outputs/up|1',
      'open|outputs/up|0',
      'symlink|.|outputs/x',
      'symlink|x/..|outputs/root',
      'symlink|root/..|outputs/above',
      'open|outputs/above/etc/passwd|1',
      'open|outputs/root/../../etc/passwd|1',
      'symlink|loop|outputs/loop',
      'open|outputs/loop|1',
      'stat|outputs/loop/x|1',
      'readlink|outputs/up',
    ])
    expect(lines).toEqual([
      'symlink ok',
      `open ${PERM}`,
      `open ${LOOP}`,
      'symlink ok',
      'symlink ok',
      'symlink ok',
      `open ${PERM}`,
      `open ${PERM}`,
      'symlink ok',
      `open ${LOOP}`,
      `stat ${LOOP}`,
      `readlink ${PERM}`,
    ])
  })

  it('O-05 creating through a dangling link makes nothing outside', async () => {
    const { lines, outputDirs } = await bench.run(probe, {
      args: [
        'symlink|../../escaped|outputs/l',
        'open|outputs/l|1|1|1',
        'symlink|inside|outputs/m',
        'open|outputs/m|1|1|1',
      ],
    })
    expect(lines.slice(0, 2)).toEqual(['symlink ok', `open ${PERM}`])
    expect(lines.slice(2)).toEqual(['symlink ok', 'open ok ', 'write ok'])
    expect(readdirSync(outputDirs['/outputs'] ?? '').toSorted()).toEqual(['inside', 'l', 'm'])
    expect(existsSync(join(bench.dir, 'escaped'))).toBe(false)
  })

  it('O-07 swapping links while looking through them, 3,000 times, finds nothing outside', async () => {
    expect(await ask(['flip|3000'])).toEqual(['flip 0'])
  })

  it('O-07 links that another process swaps all the time never lead to the machine in 2,500 looks', async () => {
    const shared = bench.makeDir('shared')
    const outside = bench.makeDir('outside-of-shared', { f: 'outside' })
    bench.makeDir('shared/real', { f: 'inside' })
    symlinkSync(outside, join(shared, 'absolute'))
    symlinkSync('../outside-of-shared', join(shared, 'climbing'))
    const swapper = spawn(process.execPath, ['-e', SWAPPER, shared], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      await once(swapper.stdout, 'data')
      const volumes = [{ hostPath: shared, target: '/vol', writable: true }]
      const lines = await ask(['look|vol/x/f|2000|inside', 'look|vol/x/../x/f|500|inside'], { volumes })
      const seen = lines.map((line) => line.split(' ').map(Number))
      // It looked while things were swapped, and found its own file; nothing else was ever found.
      expect(seen[0]?.[1]).toBeGreaterThan(20)
      expect(seen.map(([, , other]) => other)).toEqual([0, 0])
    } finally {
      swapper.kill('SIGKILL')
    }
  })

  it('O-08 O-14 hostile links inside the inputs are not followed, copied or bound', async () => {
    const secret = join(bench.makeDir('elsewhere'), 'secret.txt')
    writeFileSync(secret, 'top secret')
    for (const [name, filler] of [
      ['small', ''],
      ['large', 'x'.repeat(2 << 20)],
    ] as const) {
      const dir = bench.makeDir(`links-${name}`, { filler })
      const links = {
        absolute: secret,
        relative: '../elsewhere/secret.txt',
        proc: '/proc/self/root',
        fd: '/proc/self/fd/0',
        tcp: '/dev/tcp/127.0.0.1/1',
        dir: '..',
      }
      for (const [link, target] of Object.entries(links)) symlinkSync(target, join(dir, link))
      const names = Object.keys(links)
      const calls = names.flatMap((one) => [`open|inputs/${one}|1`, `stat|inputs/${one}|1`])
      const lines = await ask(
        [
          ...calls,
          'open|inputs/dir/elsewhere/secret.txt|1',
          'readlink|inputs/absolute',
          'readlink|inputs/proc',
        ],
        {
          volumes: [readOnly(dir, '/inputs')],
        },
      )
      // `dir` is the root itself, which may be looked at; all the others lead out.
      expect(lines.filter((line) => line.includes('ok'))).toEqual(['open ok ', 'stat ok'])
      expect(lines.join()).not.toContain('secret')
    }
  })

  it('O-09 O-10 inputs can be neither linked, moved, changed nor written', async () => {
    const hash = (): string =>
      createHash('sha256')
        .update(readFileSync(join(inputs, 'data.txt')))
        .digest('hex')
    const before = hash()
    const lines = await ask(
      [
        'link|inputs/data.txt|outputs/y',
        'rename|inputs/data.txt|outputs/y',
        'open|outputs/z|0|1|1',
        'rename|outputs/z|inputs/z',
        'link|outputs/z|inputs/z',
        'open|inputs/data.txt|0|0|1',
        'open|inputs/data.txt|0|8|0',
        'open|inputs/new|0|1|1',
        'unlink|inputs/data.txt',
        'mkdir|inputs/new',
        'symlink|x|inputs/new',
        'times|inputs/data.txt',
        'rename|inputs|outputs/y',
        'rmdir|outputs',
        'mkdir|new-in-root',
        'mkdir|outputs',
      ],
      withInputs,
    )
    const refusals = lines.filter((line) => !line.endsWith('ok') && !line.endsWith('ok '))
    expect(lines.filter((line) => !refusals.includes(line))).toEqual(['open ok ', 'write ok'])
    for (const line of refusals) expect([ROFS, XDEV, EXIST, 10]).toContain(Number(line.split(' ')[1]))
    expect(hash()).toBe(before)
    expect(readdirSync(inputs)).toEqual(['data.txt'])
  })

  it('O-13 numbers that are no descriptor are EBADF, everywhere', async () => {
    const lines = await ask(['badfd|-1', 'badfd|2147483647', 'badfd|77', 'sock|x'])
    const bad = Array.from({ length: 8 }, () => BADF).join(' ')
    expect(lines).toEqual([`badfd ${bad}`, `badfd ${bad}`, `badfd ${bad}`, `sock ${NOTSOCK} ${BADF}`])
  })

  it('O-18 pointers outside the memory are EFAULT', async () => {
    expect(await ask(['pointer|x'])).toEqual([`pointer ${FAULT} ${FAULT} ${FAULT}`])
  })

  it('O-25 bytes and files are bounded, and the program learns it as ENOSPC', async () => {
    const lines = await ask(
      [
        'resize|outputs/sparse|1099511627776',
        'mkdir|outputs/many',
        'files|outputs/many',
        'deep|outputs/many',
        'fill|outputs/many/1',
      ],
      { diskBytes: 1 << 20 },
    )
    expect(lines).toEqual([
      `resize ${NOSPC}`,
      `allocate ${NOSPC}`,
      'mkdir ok',
      // 500 in all: the sparse file and the directory are two of them.
      `files ${NOSPC} 498`,
      'deep refused',
      `fill ${NOSPC} ${1 << 20}`,
    ])
  })

  it('O-26 what a program leaves is in the output directory and nowhere else, links as links', async () => {
    const { outputDirs } = await bench.run(probe, {
      args: ['symlink|../../../../../../etc/shadow|outputs/s', 'mkdir|outputs/d'],
    })
    const dir = outputDirs['/outputs'] ?? ''
    expect(readdirSync(dir).toSorted()).toEqual(['d', 's'])
    expect(lstatSync(join(dir, 's')).isSymbolicLink()).toBe(true)
  })

  it('O-30 descriptors run out with EMFILE', async () => {
    expect(await ask(['exhaust|inputs/data.txt'], withInputs)).toEqual([`exhaust ${MFILE} bounded`])
  })

  it('O-35 odd names survive byte for byte', async () => {
    const dir = join(bench.dir, 'odd')
    mkdirSync(dir)
    const names = [
      Buffer.from('a\nb'),
      Buffer.from('‮txt'),
      Buffer.from('..%2f'),
      Buffer.from('-rf'),
      Buffer.from([0xff, 0xfe, 0x41]),
    ]
    for (const name of names) writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), name]), 'odd')
    const lines = await ask(
      ['readdir|inputs', 'open|inputs/%ff%feA|0', 'open|inputs/a%0ab|0', 'open|inputs/-rf|0'],
      {
        volumes: [readOnly(dir, '/inputs')],
      },
    )
    const listed = lines[0]?.split(' ').slice(2).toSorted()
    expect(listed).toEqual(['.', '..', '%ff%feA', '%e2%80%aetxt', '-rf', '..%252f', 'a%0ab'].toSorted())
    expect(lines.slice(1)).toEqual(['open ok odd', 'open ok odd', 'open ok odd'])
  })
})

/** Lets `x` be in turn a directory, a link to elsewhere by its absolute path, and one that climbs there. */
const SWAPPER = `
  const fs = require('node:fs')
  process.chdir(process.argv[1])
  fs.renameSync('real', 'x')
  process.stdout.write('ready')
  for (;;) {
    for (const link of ['absolute', 'climbing']) {
      fs.renameSync('x', 'real'); fs.renameSync(link, 'x')
      fs.renameSync('x', link); fs.renameSync('real', 'x')
    }
  }`
