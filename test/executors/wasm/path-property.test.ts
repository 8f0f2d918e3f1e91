import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  GuestMemory,
  createWasiState,
  wasiFunctions,
} from '../../../src/executors/wasm/sandbox/wasi/index.js'
import { DIRECTORY_RIGHTS, FILE_RIGHTS } from '../../../src/executors/wasm/sandbox/wasi/abi.js'
import { wasmApi } from '../../../src/executors/wasm/sandbox/web-assembly.js'

/** Whatever a program must not see bears this word in its name and its bytes. */
const SECRET = 'SECRET'
const [PATH_AT, BUFFER_AT, OUT_AT, BUFFER_BYTES] = [0, 8_192, 60_000, 16_384]
const ROOT_FD = 3
const [OUTPUTS_FD, TMP_FD] = [5, 6]
/** Stands for the descriptor that was opened last. */
const LAST = -1
const OFLAGS = { create: 1, directory: 2, exclusive: 4, truncate: 8 }

/** The WASI host on directories of this machine, without a sandbox behind it: it has to hold by itself. */
class Program {
  readonly base = mkdtempSync(join(tmpdir(), 'weir-paths-'))
  readonly #memory = new wasmApi.Memory({ initial: 1 })
  readonly #functions: Record<string, (...args: unknown[]) => unknown>
  readonly #outside: ReadonlySet<bigint>
  readonly #before: string
  #last = OUTPUTS_FD
  /** What it was shown and must not have seen. */
  readonly leaks: string[] = []

  constructor(tree: readonly Entry[]) {
    for (const dir of ['in', 'out', 'tmp', 'outer', 'outer/below']) mkdirSync(join(this.base, dir))
    for (const file of [`outer/${SECRET}`, SECRET, `outer/below/${SECRET}`]) {
      writeFileSync(join(this.base, file), SECRET)
    }
    writeFileSync(join(this.base, 'in', 'data'), 'data')
    for (const entry of tree) this.#plant(entry)
    const state = createWasiState(
      {
        kind: 'run',
        module: '',
        imports: [],
        entryPoint: '_start',
        args: [],
        env: {},
        mounts: [
          { target: '/in', source: join(this.base, 'in'), kind: 'directory', writable: false },
          { target: '/out', source: join(this.base, 'out'), kind: 'directory', writable: true },
          { target: '/tmp', source: join(this.base, 'tmp'), kind: 'directory', writable: true },
        ],
        preopens: ['/', '/in', '/out', '/tmp'].map((path) => ({ name: path, target: path })),
        memoryPages: 1,
        diskBytes: 1_000_000,
        filesMax: 1_000,
        openFilesMax: 32,
        network: false,
        optimise: false,
      },
      () => {
        throw new Error('nobody ends the program')
      },
    )
    const memory = new GuestMemory()
    memory.attach(this.#memory)
    this.#functions = wasiFunctions(state, memory) as never
    this.#outside = new Set(this.#strangers().map((path) => lstatSync(path, { bigint: true }).ino))
    this.#before = this.#view()
  }

  do(action: Action): number {
    const { flag, oflags } = action
    const [fd, to] = [action.fd, action.to].map((one) => (one === LAST ? this.#last : one)) as [
      number,
      number,
    ]
    const { path, other } = named(action)
    switch (action.kind) {
      case 'open':
        return this.#opened(
          'path_open',
          fd,
          flag,
          ...this.#text(path),
          oflags,
          rights(oflags),
          ALL_RIGHTS,
          0,
          OUT_AT,
        )
      case 'close':
        return fd < 3 ? 0 : this.#call('fd_close', fd)
      case 'mkdir':
        return this.#call('path_create_directory', fd, ...this.#text(path))
      case 'rmdir':
        return this.#call('path_remove_directory', fd, ...this.#text(path))
      case 'unlink':
        return this.#call('path_unlink_file', fd, ...this.#text(path))
      case 'rename':
        return this.#call('path_rename', fd, ...this.#text(path), to, ...this.#text(other, 4_096))
      case 'link':
        return this.#call('path_link', fd, 0, ...this.#text(path), to, ...this.#text(other, 4_096))
      case 'symlink':
        return this.#call('path_symlink', ...this.#text(other, 4_096), fd, ...this.#text(path))
      case 'stat':
        return this.#seen(this.#call('path_filestat_get', fd, flag, ...this.#text(path), OUT_AT), action)
      case 'times':
        return this.#call('path_filestat_set_times', fd, flag, ...this.#text(path), 1_000n, 2_000n, 5)
      case 'fdTimes':
        return this.#call('fd_filestat_set_times', fd, 1_000n, 2_000n, 5)
      case 'fdStat':
        return this.#seen(this.#call('fd_filestat_get', fd, OUT_AT), action)
      case 'readdir':
        return this.#told(this.#call('fd_readdir', fd, BUFFER_AT, BUFFER_BYTES, 0n, OUT_AT), action)
      case 'read':
        this.#view32.setUint32(OUT_AT + 8, BUFFER_AT, true)
        this.#view32.setUint32(OUT_AT + 12, BUFFER_BYTES, true)
        return fd < 3 ? 0 : this.#told(this.#call('fd_read', fd, OUT_AT + 8, 1, OUT_AT), action)
      case 'write':
        this.#view32.setUint32(OUT_AT + 8, BUFFER_AT, true)
        this.#view32.setUint32(OUT_AT + 12, 3, true)
        return fd < 3 ? 0 : this.#call('fd_write', fd, OUT_AT + 8, 1, OUT_AT)
      case 'size':
        return this.#call('fd_filestat_set_size', fd, 1n)
      case 'renumber':
        return fd < 3 || to < 3 ? 0 : this.#call('fd_renumber', fd, to)
    }
  }

  /** What is outside of the writable directories: names, kinds, links, sizes, times and bytes. */
  get isOutsideUnchanged(): boolean {
    return this.#view() === this.#before
  }

  remove(): void {
    for (let fd = ROOT_FD; fd < 64; fd++) this.#call('fd_close', fd)
    rmSync(this.base, { recursive: true, force: true })
  }

  get #view32(): DataView {
    return new DataView(this.#memory.buffer)
  }

  #call(name: string, ...args: unknown[]): number {
    const answer = this.#functions[name]?.(...args)
    if (typeof answer !== 'number') throw new Error(`${name} answered ${String(answer)}`)
    return answer
  }

  #opened(name: string, ...args: unknown[]): number {
    const errno = this.#call(name, ...args)
    if (errno === 0) this.#last = this.#view32.getUint32(OUT_AT, true)
    return errno
  }

  #text(text: string, at = PATH_AT): [at: number, length: number] {
    const bytes = Buffer.from(text, 'latin1')
    new Uint8Array(this.#memory.buffer).set(bytes, at)
    return [at, bytes.length]
  }

  #seen(errno: number, action: Action): number {
    if (errno === 0 && this.#outside.has(this.#view32.getBigUint64(OUT_AT + 8, true))) {
      this.leaks.push(`${JSON.stringify(action)} shows something outside`)
    }
    return errno
  }

  #told(errno: number, action: Action): number {
    const used = errno === 0 ? this.#view32.getUint32(OUT_AT, true) : 0
    const text = Buffer.from(this.#memory.buffer, BUFFER_AT, used).toString('latin1')
    if (text.includes(SECRET)) this.leaks.push(`${JSON.stringify(action)} tells ${text.slice(0, 200)}`)
    return errno
  }

  #plant({ at, kind, target }: Entry): void {
    try {
      if (kind === 'directory') mkdirSync(join(this.base, at))
      else if (kind === 'file') writeFileSync(join(this.base, at), 'planted', { flag: 'wx' })
      else symlinkSync(target.replace('%', this.base), join(this.base, at))
    } catch {
      // Its parent is missing or no directory, or something is there already: another tree.
    }
  }

  /** Paths of all that belongs to nobody's mount, and the places that lead there. */
  #strangers(): string[] {
    const below = (dir: string): string[] =>
      readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
        const path = join(dir, entry.name)
        return entry.isDirectory() ? [path, ...below(path)] : [path]
      })
    const isMount = (path: string): boolean =>
      ['in', 'out', 'tmp'].some((one) => inside(path, join(this.base, one)))
    return [this.base, '/', '/tmp', '/etc', ...below(this.base).filter((path) => !isMount(path))]
  }

  #view(): string {
    const seen: string[] = []
    const visit = (path: string, isRoot = false): void => {
      const stat = lstatSync(path, { bigint: true })
      // The writable directories are the program's; that they exist is not.
      const isOwn = inside(path, join(this.base, 'out')) || inside(path, join(this.base, 'tmp'))
      const kind = stat.isDirectory()
        ? 'directory'
        : stat.isSymbolicLink()
          ? readlinkSync(path)
          : readFileSync(path)
      const about = isOwn
        ? ''
        : `${stat.ino} ${stat.nlink} ${stat.mode} ${stat.size} ${stat.mtimeNs} ${String(kind)}`
      seen.push(`${path} ${isRoot ? '' : about}`)
      if (stat.isDirectory() && !isOwn)
        for (const name of readdirSync(path).toSorted()) visit(join(path, name))
    }
    visit(this.base, true)
    return seen.join('\n')
  }
}

/** What the program makes itself must not look like what it must not see. */
function named({ kind, path, other, oflags }: Action): { path: string; other: string } {
  const makesPath = kind === 'mkdir' || kind === 'symlink' || (oflags & OFLAGS.create) !== 0
  const makesOther = kind === 'rename' || kind === 'link'
  return {
    path: makesPath ? path.replaceAll(SECRET, 'a') : path,
    other: makesOther ? other.replaceAll(SECRET, 'a') : other,
  }
}

/** A directory cannot be opened for writing. */
function rights(oflags: number): bigint {
  return (oflags & OFLAGS.directory) === 0 ? ALL_RIGHTS : BigInt(DIRECTORY_RIGHTS)
}

const ALL_RIGHTS = BigInt(DIRECTORY_RIGHTS | FILE_RIGHTS)

function inside(path: string, dir: string): boolean {
  return path === dir || path.startsWith(`${dir}/`)
}

interface Entry {
  at: string
  kind: 'directory' | 'file' | 'link'
  /** `%` stands for the directory that holds everything. */
  target: string
}

const KINDS = [
  'open',
  'open',
  'open',
  'close',
  'mkdir',
  'rmdir',
  'unlink',
  'rename',
  'rename',
  'link',
  'symlink',
  'symlink',
  'stat',
  'times',
  'fdTimes',
  'fdStat',
  'readdir',
  'read',
  'write',
  'size',
  'renumber',
] as const

interface Action {
  kind: (typeof KINDS)[number]
  fd: number
  to: number
  path: string
  other: string
  flag: number
  oflags: number
}

const name = fc.constantFrom('a', 'a', 'b', 'b', 'c', '..', '.', '')
const outsideName = fc.constantFrom('..', '..', 'in', 'out', 'tmp', 'outer', 'below', SECRET, SECRET, 'a')
const anyPath = fc
  .tuple(
    fc.constantFrom('', '', '', '', '/', 'out/', 'tmp/', 'in/'),
    fc.array(fc.oneof({ weight: 4, arbitrary: name }, outsideName), { maxLength: 4 }),
    fc.constantFrom('', '', '', '/', `/${SECRET}`),
  )
  .map(([first, parts, last]) => first + parts.join('/') + last)
/** Few names, so that calls meet each other's work. */
const path = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom('out/a', 'out/b', 'out/a/b', 'a', 'b', 'a/b', SECRET, 'below', `a/${SECRET}`),
  },
  { weight: 2, arbitrary: anyPath },
)
const target = fc.oneof(
  path,
  fc.constantFrom('%', '%/outer', '/', '/etc', '..', '../..', '../outer', '../../outer', 'a', 'b', 'nowhere'),
)
const entry: fc.Arbitrary<Entry> = fc.record({
  at: fc
    .tuple(
      fc.constantFrom('in', 'out', 'tmp'),
      fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }),
    )
    .map(([mount, parts]) => [mount, ...parts].join('/')),
  kind: fc.constantFrom(
    'directory' as const,
    'directory' as const,
    'file' as const,
    'link' as const,
    'link' as const,
  ),
  target,
})
const fd = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom(ROOT_FD, 4, OUTPUTS_FD, TMP_FD) },
  { weight: 2, arbitrary: fc.constant(LAST) },
  { weight: 2, arbitrary: fc.integer({ min: 7, max: 9 }) },
)
const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom(...KINDS),
  fd,
  to: fd,
  path,
  other: target.map((text) => text.replace('%', '..')),
  flag: fc.constantFrom(0, 1),
  oflags: fc.constantFrom(
    0,
    0,
    OFLAGS.directory,
    OFLAGS.directory,
    OFLAGS.create,
    OFLAGS.create | OFLAGS.exclusive,
    OFLAGS.truncate,
  ),
})

/** A directory is opened, taken away, and something else is put in its place. */
const swap: fc.Arbitrary<Action[]> = fc
  .record({
    at: fc.constantFrom('out/a', 'out/b', 'out/a/b'),
    away: fc.constantFrom('rmdir' as const, 'rename' as const),
    action,
  })
  .map(({ at, away, action: base }) => {
    const one = { ...base, fd: ROOT_FD, to: ROOT_FD, path: at, oflags: OFLAGS.directory }
    return [
      { ...one, kind: 'mkdir' },
      { ...one, kind: 'open' },
      { ...one, kind: away, other: 'out/c' },
      { ...one, kind: 'symlink', other: base.other },
      { ...base, fd: LAST },
    ]
  })
const actions = fc
  .array(fc.oneof({ weight: 6, arbitrary: action.map((one) => [one]) }, { weight: 1, arbitrary: swap }), {
    maxLength: 40,
    size: 'max',
  })
  .map((groups) => groups.flat())

describe('the WASI host, without a sandbox behind it', () => {
  it('O-03 shows and changes nothing outside, whatever the tree and whatever the calls', {
    timeout: 120_000,
  }, () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), actions, (tree, calls) => {
        const program = new Program(tree)
        try {
          for (const one of calls) program.do(one)
          expect(program.leaks).toEqual([])
          expect(program.isOutsideUnchanged).toBe(true)
        } finally {
          program.remove()
        }
      }),
      { numRuns: Number(process.env.WEIR_PATH_RUNS ?? 200) },
    )
  })

  const call = (change: Partial<Action>): Action => ({
    kind: 'open',
    fd: ROOT_FD,
    to: ROOT_FD,
    path: '',
    other: '',
    flag: 0,
    oflags: 0,
    ...change,
  })

  it('O-03 does not take an open directory for what stands in its place after it was removed', () => {
    const program = new Program([])
    try {
      const fd = 7
      const steps = [
        call({ kind: 'mkdir', path: 'out/a' }),
        call({ kind: 'open', path: 'out/a', oflags: OFLAGS.directory }),
        call({ kind: 'rmdir', path: 'out/a' }),
        call({ kind: 'symlink', path: 'out/a', other: '../outer' }),
      ]
      for (const step of steps) expect(program.do(step)).toBe(0)
      for (const kind of ['readdir', 'fdStat', 'fdTimes'] as const) program.do(call({ kind, fd }))
      for (const path of [SECRET, 'below', 'below/x']) {
        program.do(call({ kind: 'stat', fd, path }))
        program.do(call({ kind: 'open', fd, path, oflags: OFLAGS.create }))
        program.do(call({ kind: 'mkdir', fd, path }))
        program.do(call({ kind: 'unlink', fd, path }))
      }
      expect(program.leaks).toEqual([])
      expect(program.isOutsideUnchanged).toBe(true)
    } finally {
      program.remove()
    }
  })
})
