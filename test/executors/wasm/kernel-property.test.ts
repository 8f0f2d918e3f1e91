import {
  type Stats,
  closeSync,
  constants,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FILETYPE, FILE_RIGHTS, OFLAGS, RIGHTS } from '../../../src/executors/wasm/sandbox/wasi/abi.js'
import { type Filestat, WasiProgram } from './wasi-program.js'

/** A call that exists in both worlds. */
interface Call {
  kind: (typeof KINDS)[number]
  path: string
  other: string
  follow: boolean
  oflags: number
  writes: boolean
}

const KINDS = [
  'open',
  'open',
  'open',
  'mkdir',
  'mkdir',
  'rmdir',
  'unlink',
  'rename',
  'rename',
  'link',
  'symlink',
  'symlink',
  'readlink',
  'stat',
  'times',
  'list',
] as const

/** The same call through the WASI host, below its one directory. */
function asProgram(program: WasiProgram, call: Call): string {
  const { path, other, follow } = call
  switch (call.kind) {
    case 'open': {
      const rights = call.writes ? FILE_RIGHTS : RIGHTS.FD_READ
      const fd = program.open(path, { follow, oflags: call.oflags, rights })
      if (typeof fd === 'string') return fd
      return program.call('fd_close', fd)
    }
    case 'mkdir':
      return program.at('path_create_directory', path)
    case 'rmdir':
      return program.at('path_remove_directory', path)
    case 'unlink':
      return program.at('path_unlink_file', path)
    case 'rename':
      return program.rename(path, other)
    case 'link':
      return program.link(path, other)
    case 'symlink':
      return program.symlink(other, path)
    case 'readlink':
      return program.readlink(path)
    case 'stat':
      return described(program.stat(path, follow))
    case 'times':
      return program.call('path_filestat_set_times', 3, follow ? 1 : 0, ...program.text(path), 0n, 0n, 5)
    case 'list': {
      const fd = program.openDirectory(path, { follow: true })
      if (typeof fd === 'string') return fd
      const names = program.readdir(fd).map(({ name }) => name)
      program.call('fd_close', fd)
      return names
        .filter((name) => name !== '.' && name !== '..')
        .toSorted()
        .join(' ')
    }
  }
}

/** And as the kernel does it, in a directory of its own. */
function asKernel(base: string, call: Call): string {
  // An empty path stays empty: it is nothing, not the directory.
  const [path, other] = [call.path, call.other].map((one) => (one === '' ? '' : `${base}/${one}`)) as [
    string,
    string,
  ]
  try {
    switch (call.kind) {
      case 'open':
        closeSync(openSync(path, openFlags(call)))
        return 'ok'
      case 'mkdir':
        mkdirSync(path)
        return 'ok'
      case 'rmdir':
        rmdirSync(path)
        return 'ok'
      case 'unlink':
        unlinkSync(path)
        return 'ok'
      case 'rename':
        renameSync(path, other)
        return 'ok'
      case 'link':
        linkSync(path, other)
        return 'ok'
      case 'symlink':
        symlinkSync(call.other, path)
        return 'ok'
      case 'readlink':
        return `ok ${readlinkSync(path)}`
      case 'stat':
        return describedHere(call.follow ? statSync(path) : lstatSync(path))
      case 'times':
        ;(call.follow ? utimesSync : lutimesSync)(path, 0, 0)
        return 'ok'
      case 'list':
        return readdirSync(path).toSorted().join(' ')
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code?.slice(1) ?? String(error)
  }
}

function openFlags({ oflags, follow, writes }: Call): number {
  const pairs: [number, number][] = [
    [OFLAGS.CREAT, constants.O_CREAT],
    [OFLAGS.DIRECTORY, constants.O_DIRECTORY],
    [OFLAGS.EXCL, constants.O_EXCL],
    [OFLAGS.TRUNC, constants.O_TRUNC],
  ]
  const access = (writes ? constants.O_RDWR : constants.O_RDONLY) | (follow ? 0 : constants.O_NOFOLLOW)
  return pairs.reduce((sum, [ours, theirs]) => ((oflags & ours) === 0 ? sum : sum | theirs), access)
}

function described(stat: Filestat | string): string {
  if (typeof stat === 'string') return stat
  if (stat.type === FILETYPE.DIRECTORY) return 'directory'
  return `${stat.type === FILETYPE.SYMBOLIC_LINK ? 'link' : 'file'} ${stat.nlink} ${stat.size}`
}

function describedHere(stat: Stats): string {
  if (stat.isDirectory()) return 'directory'
  return `${stat.isSymbolicLink() ? 'link' : 'file'} ${stat.nlink} ${stat.size}`
}

/** Everything below a directory, as text. */
function tree(dir: string): string[] {
  return readdirSync(dir)
    .toSorted()
    .flatMap((name) => {
      const path = join(dir, name)
      const stat = lstatSync(path)
      if (stat.isDirectory()) return [`${name}/`, ...tree(path).map((line) => `${name}/${line}`)]
      if (stat.isSymbolicLink()) return [`${name} -> ${readlinkSync(path)}`]
      return [`${name} ${stat.nlink} ${readFileSync(path).length}`]
    })
}

// Few names, so that calls meet each other's work; and every odd way to write a path.
const part = fc.constantFrom('a', 'a', 'b', 'b', 'c', 'l', 'm', '.', '..')
const ending = fc.constantFrom('', '', '', '', '', '/', '//', '/.', '/..')
const path = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constantFrom('a', 'b', 'l', 'm', 'a/b', 'a/l', 'b/c'), ending).map(join2),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.array(part, { minLength: 1, maxLength: 4 }), fc.constantFrom('/', '/', '//', '/./'), ending)
      .map(([parts, slash, end]) => parts.join(slash) + end),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', '.', './', 'x'.repeat(255), 'x'.repeat(256), 'a/../b', 'l/../a'),
  },
)
function join2([first, second]: [string, string]): string {
  return first + second
}
const target = fc.constantFrom(
  'a',
  'b',
  'b/',
  'c',
  'nowhere',
  'nowhere/',
  'l',
  'm',
  'a/b',
  '../a',
  '../b/',
  '.',
  'l/',
)
const call: fc.Arbitrary<Call> = fc
  .record({
    kind: fc.constantFrom(...KINDS),
    path,
    other: path,
    target,
    follow: fc.boolean(),
    oflags: fc.constantFrom(0, 0, 1, 1, 5, 8, 9, 13, 2, 2, 10),
    writes: fc.boolean(),
  })
  .map(({ target: text, ...one }) => ({ ...one, other: one.kind === 'symlink' ? text : one.other }))

/** The beginning of every run: a little of everything. */
const FURNITURE: Call[] = [
  { kind: 'mkdir', path: 'a' },
  { kind: 'open', path: 'b', oflags: OFLAGS.CREAT, writes: true },
  { kind: 'symlink', path: 'l', other: 'a' },
  { kind: 'symlink', path: 'm', other: 'b' },
  { kind: 'open', path: 'a/b', oflags: OFLAGS.CREAT, writes: true },
].map((one) => ({ other: '', follow: false, oflags: 0, writes: false, ...one }) as Call)

describe('the WASI host beside the kernel', () => {
  it('answers every call with a path as the kernel answers it, and leaves the same tree', {
    timeout: 120_000,
  }, () => {
    fc.assert(
      fc.property(fc.array(call, { maxLength: 30, size: 'max' }), (calls) => {
        const program = new WasiProgram()
        const twin = join(program.base, 'twin')
        mkdirSync(twin)
        try {
          for (const one of [...FURNITURE, ...calls]) {
            const ours = asProgram(program, one)
            // Leading out of the directory is for the host to refuse; the kernel would go there.
            if (ours === 'PERM') continue
            // Which of two mistakes is told does not matter.
            if (ours === 'NAMETOOLONG' && (one.kind === 'rename' || one.kind === 'link')) continue
            expect({ ...one, answer: ours }).toEqual({ ...one, answer: asKernel(twin, one) })
          }
          expect(tree(program.work)).toEqual(tree(twin))
        } finally {
          program.remove()
        }
      }),
      { numRuns: Number(process.env.WEIR_PATH_RUNS ?? 300) },
    )
  })
})
