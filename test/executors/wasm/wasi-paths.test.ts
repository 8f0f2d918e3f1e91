import { mkdirSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  DIRECTORY_RIGHTS,
  FILETYPE,
  FILE_RIGHTS,
  OFLAGS,
  RIGHTS,
} from '../../../src/executors/wasm/sandbox/wasi/abi.js'
import { type Filestat, WasiProgram } from './wasi-program.js'

const { CREAT, DIRECTORY, EXCL, TRUNC } = OFLAGS
const READ = RIGHTS.FD_READ
const WRITE = RIGHTS.FD_WRITE

/** `dir/nested/file`, `file`, and links: to a file, to a directory, to nothing, in a circle. */
function furnish(program: WasiProgram): void {
  mkdirSync(join(program.work, 'dir/nested'), { recursive: true })
  mkdirSync(join(program.work, 'empty'))
  writeFileSync(join(program.work, 'dir/nested/file'), 'deep')
  writeFileSync(join(program.work, 'file'), 'text')
  const links = { 'to-file': 'file', 'to-dir': 'dir', dangling: 'nowhere', loop: 'loop', chain: 'to-file' }
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(program.work, name))
}

describe('paths in the WASI host', () => {
  let program: WasiProgram
  beforeEach(() => {
    program = new WasiProgram()
    furnish(program)
  })
  afterEach(() => program.remove())
  const opens = (path: string, options = {}): string => {
    const fd = program.open(path, { rights: READ, ...options })
    if (typeof fd === 'string') return fd
    program.call('fd_close', fd)
    return 'ok'
  }
  const typeOf = (path: string, follow: boolean): number | string => {
    const stat = program.stat(path, follow)
    return typeof stat === 'string' ? stat : stat.type
  }

  it.each([
    ['dir/nested/file', 'ok'],
    ['dir/.//nested/../../dir/nested///./file', 'ok'],
    ['./file', 'ok'],
    ['dir', 'ok'],
    ['dir/', 'ok'],
    ['dir///', 'ok'],
    ['dir/.', 'ok'],
    ['dir/..', 'ok'],
    ['.', 'ok'],
    ['', 'NOENT'],
    ['..', 'PERM'],
    ['../work/file', 'PERM'],
    ['dir/../../work/file', 'PERM'],
    ['dir/nested/../../..', 'PERM'],
    ['/file', 'PERM'],
    ['//file', 'PERM'],
    ['/', 'PERM'],
    ['file/', 'NOTDIR'],
    ['file//', 'NOTDIR'],
    ['file/.', 'NOTDIR'],
    ['file/..', 'NOTDIR'],
    ['file/x', 'NOTDIR'],
    ['missing/..', 'NOENT'],
    ['file\0', 'INVAL'],
    ['dir\0/file', 'INVAL'],
    ['\0', 'INVAL'],
    ['x'.repeat(255), 'NOENT'],
    ['x'.repeat(256), 'NAMETOOLONG'],
  ])('opening %j is %s', (path, answer) => {
    expect(opens(path)).toBe(answer)
  })

  it('a link as the last name is followed only by calls that ask for it', () => {
    for (const [path, followed, notFollowed] of [
      ['to-file', 'ok', 'LOOP'],
      ['chain', 'ok', 'LOOP'],
      ['to-dir', 'ok', 'LOOP'],
      ['dangling', 'NOENT', 'LOOP'],
      ['loop', 'LOOP', 'LOOP'],
      // A slash behind it follows the link as well.
      ['to-dir/', 'ok', 'ok'],
      ['to-file/', 'NOTDIR', 'NOTDIR'],
      ['dangling/', 'NOENT', 'NOENT'],
      ['loop/', 'LOOP', 'LOOP'],
      ['to-dir/nested/file', 'ok', 'ok'],
      ['to-dir/.', 'ok', 'ok'],
      ['to-dir/..', 'ok', 'ok'],
    ] as const) {
      expect([path, opens(path, { follow: true })]).toEqual([path, followed])
      expect([path, opens(path)]).toEqual([path, notFollowed])
    }
    const answers = (follow: boolean): (number | string)[] =>
      ['to-file', 'to-dir', 'dangling', 'loop', 'to-dir/'].map((path) => typeOf(path, follow))
    const { REGULAR_FILE, DIRECTORY: DIR, SYMBOLIC_LINK: LINK } = FILETYPE
    expect(answers(true)).toEqual([REGULAR_FILE, DIR, 'NOENT', 'LOOP', DIR])
    expect(answers(false)).toEqual([LINK, LINK, LINK, LINK, DIR])
  })

  it('a link’s own size is the length of its text', () => {
    expect(program.stat('to-file')).toMatchObject({ size: 4n, nlink: 1n })
    expect(program.stat('to-file', true)).toMatchObject({ size: 4n })
    expect(program.stat('dangling')).toMatchObject({ size: 7n })
  })

  it('times are set on the link or on what it leads to, to the nanosecond', () => {
    const set = (path: string, flags: number, atim: bigint, mtim: bigint): string =>
      program.call('path_filestat_set_times', 3, flags, ...program.text(path), atim, mtim, 5)
    expect(set('to-file', 0, 1_000_000_001n, 2_000_000_003n)).toBe('ok')
    expect(program.stat('to-file')).toMatchObject({ atim: 1_000_000_001n, mtim: 2_000_000_003n })
    expect((program.stat('file') as Filestat).mtim).toBeGreaterThan(1_000_000_000_000_000_000n)
    expect(set('to-file', 1, 1_700_000_000_123_456_789n, 1_700_000_001_987_654_321n)).toBe('ok')
    const exact = { atim: 1_700_000_000_123_456_789n, mtim: 1_700_000_001_987_654_321n }
    expect(program.stat('file')).toMatchObject(exact)
    const fd = program.open('file', { rights: READ }) as number
    expect(program.fdStat(fd)).toMatchObject(exact)
    expect([set('dangling', 1, 0n, 0n), set('dangling', 0, 0n, 0n), set('loop', 1, 0n, 0n)]).toEqual([
      'NOENT',
      'ok',
      'LOOP',
    ])
    expect(set('file', 2, 0n, 0n)).toBe('INVAL')
  })

  it('a time is left alone, set, or now; both at once is a mistake that changes nothing', () => {
    const fd = program.open('file') as number
    const set = (atim: bigint, mtim: bigint, flags: number): string =>
      program.call('fd_filestat_set_times', fd, atim, mtim, flags)
    expect(set(5n, 7n, 5)).toBe('ok')
    expect(set(9n, 9n, 1)).toBe('ok')
    expect(program.fdStat(fd)).toMatchObject({ atim: 9n, mtim: 7n })
    expect([set(0n, 0n, 3), set(0n, 0n, 12), set(0n, 0n, 15), set(0n, 0n, 16)]).toEqual(
      Array(4).fill('INVAL'),
    )
    expect(program.fdStat(fd)).toMatchObject({ atim: 9n, mtim: 7n })
    expect(set(0n, 0n, 8)).toBe('ok')
    const { atim, mtim } = program.fdStat(fd) as Filestat
    expect(atim).toBe(9n)
    expect(Math.abs(Number(mtim / 1_000_000n) - Date.now())).toBeLessThan(120_000)
    expect(program.call('fd_filestat_set_times', 3, 11n, 12n, 5)).toBe('ok')
    expect(program.stat('.')).toMatchObject({ atim: 11n, mtim: 12n })
    expect(program.call('fd_filestat_set_times', 1, 0n, 0n, 5)).toBe('INVAL')
  })

  it('reading a link cuts what does not fit, and only links can be read', () => {
    expect(program.readlink('dangling')).toBe('ok nowhere')
    expect(program.readlink('dangling', 4)).toBe('ok nowh')
    expect(program.readlink('dangling', 0)).toBe('ok ')
    expect(program.readlink('dangling', 7)).toBe('ok nowhere')
    const paths = ['file', 'dir', 'missing', 'to-dir/', 'dangling/', 'file/']
    expect(paths.map((path) => program.readlink(path))).toEqual([
      'INVAL',
      'INVAL',
      'NOENT',
      'INVAL',
      'NOENT',
      'NOTDIR',
    ])
  })

  it.each([
    // path, oflags, rights, answer
    ['new', CREAT, READ, 'ok'],
    ['file', CREAT, READ, 'ok'],
    ['file', CREAT | EXCL, READ, 'EXIST'],
    ['dangling', CREAT | EXCL, READ, 'EXIST'],
    ['dangling', CREAT, READ, 'LOOP'],
    ['dir', CREAT | EXCL, READ, 'EXIST'],
    ['dir', CREAT, READ, 'ISDIR'],
    ['dir', TRUNC, READ, 'ISDIR'],
    ['dir', 0, READ | WRITE, 'ISDIR'],
    ['dir', DIRECTORY, READ | WRITE, 'ISDIR'],
    ['dir', DIRECTORY, READ, 'ok'],
    ['dir', EXCL, READ, 'ok'],
    ['file', DIRECTORY, READ, 'NOTDIR'],
    ['to-dir', DIRECTORY, READ, 'NOTDIR'],
    ['missing', DIRECTORY, READ, 'NOENT'],
    ['missing', 0, READ, 'NOENT'],
    ['missing', TRUNC, READ, 'NOENT'],
    ['new', CREAT | DIRECTORY, READ, 'INVAL'],
    ['dir', CREAT | DIRECTORY, READ, 'INVAL'],
    ['new/', CREAT, READ, 'ISDIR'],
    ['file/', CREAT, READ, 'ISDIR'],
    ['dir/', CREAT, READ, 'ISDIR'],
    ['missing/new', CREAT, READ, 'NOENT'],
    ['file/new', CREAT, READ, 'NOTDIR'],
    ['file', 16, READ, 'INVAL'],
  ])('opening %j with flags %i and rights %i is %s', (path, oflags, rights, answer) => {
    expect(opens(path, { oflags, rights })).toBe(answer)
  })

  it('creating follows a dangling link where following is asked for, and never out', () => {
    expect(opens('dangling', { oflags: CREAT, follow: true })).toBe('ok')
    expect(readdirSync(program.work)).toContain('nowhere')
    symlinkSync('../../outside', join(program.work, 'out'))
    symlinkSync('/etc/passwd', join(program.work, 'absolute'))
    expect(opens('out', { oflags: CREAT, follow: true })).toBe('PERM')
    expect(opens('absolute', { follow: true })).toBe('PERM')
    expect([program.readlink('out'), program.readlink('absolute')]).toEqual(['PERM', 'PERM'])
  })

  it('truncating empties the file, also without the right to write', () => {
    expect(opens('file', { oflags: TRUNC, rights: 0 })).toBe('ok')
    expect(program.stat('file')).toMatchObject({ size: 0n })
  })

  it('directories are made where nothing is', () => {
    const paths = [
      'new',
      'new',
      'other/',
      'file',
      'to-dir',
      'dangling',
      'dangling/',
      'missing/x',
      'file/x',
      '.',
      'dir/.',
    ]
    expect(paths.map((path) => program.at('path_create_directory', path))).toEqual([
      'ok',
      'EXIST',
      'ok',
      'EXIST',
      'EXIST',
      'EXIST',
      'EXIST',
      'NOENT',
      'NOTDIR',
      'EXIST',
      'EXIST',
    ])
  })

  it('directories are removed when they are empty, and files are unlinked; never the other way round', () => {
    const removed = [
      'dir',
      'file',
      'file/',
      'to-dir',
      'to-dir/',
      'missing',
      '.',
      'empty/.',
      'dir/nested/..',
      'empty/',
    ]
    expect(removed.map((path) => program.at('path_remove_directory', path))).toEqual([
      'NOTEMPTY',
      'NOTDIR',
      'NOTDIR',
      'NOTDIR',
      'NOTDIR',
      'NOENT',
      'INVAL',
      'INVAL',
      'NOTEMPTY',
      'ok',
    ])
    const unlinked = [
      'dir',
      'dir/',
      'file/',
      'to-dir/',
      'missing',
      '.',
      'to-dir',
      'dangling',
      'loop',
      'file',
      'file',
    ]
    expect(unlinked.map((path) => program.at('path_unlink_file', path))).toEqual([
      'ISDIR',
      'ISDIR',
      'NOTDIR',
      'NOTDIR',
      'NOENT',
      'ISDIR',
      'ok',
      'ok',
      'ok',
      'ok',
      'NOENT',
    ])
    expect(readdirSync(join(program.work, 'dir'))).toEqual(['nested'])
  })

  it.each([
    ['file', 'new', 'ok'],
    ['file', 'dir/nested/file', 'ok'],
    ['file', 'file', 'ok'],
    ['file', 'dangling', 'ok'],
    ['dangling', 'new', 'ok'],
    ['dir', 'new', 'ok'],
    ['dir', 'new/', 'ok'],
    ['dir/', 'new', 'ok'],
    ['dir', 'empty', 'ok'],
    ['dir/', 'empty/', 'ok'],
    ['empty', 'dir', 'NOTEMPTY'],
    ['dir', 'file', 'NOTDIR'],
    ['file', 'dir', 'ISDIR'],
    ['file', 'empty', 'ISDIR'],
    ['dir', 'dir/nested/in-itself', 'INVAL'],
    ['dir/nested', 'dir', 'NOTEMPTY'],
    ['file/', 'new', 'NOTDIR'],
    ['file', 'new/', 'NOTDIR'],
    ['to-dir/', 'new', 'NOTDIR'],
    ['missing', 'new', 'NOENT'],
    ['file', 'missing/new', 'NOENT'],
    ['.', 'new', 'BUSY'],
    ['dir', 'empty/.', 'BUSY'],
    ['dir', '../new', 'PERM'],
    ['file', '', 'NOENT'],
  ])('renaming %j to %j is %s', (from, to, answer) => {
    expect(program.rename(from, to)).toBe(answer)
  })

  it('an open file and an open directory stay what they are when they are renamed or unlinked', () => {
    const file = program.open('file') as number
    const dir = program.openDirectory('dir') as number
    expect([program.rename('file', 'empty/moved'), program.rename('dir', 'moved')]).toEqual(['ok', 'ok'])
    expect(program.read(file, 10)).toEqual({ text: 'text' })
    expect(program.readdir(dir).map(({ name }) => name)).toContain('nested')
    expect(program.at('path_unlink_file', 'empty/moved')).toBe('ok')
    expect(program.pread(file, 10, 0n)).toEqual({ text: 'text' })
    expect(program.fdStat(file)).toMatchObject({ nlink: 0n })
    expect(typeof program.open('file', { oflags: CREAT | EXCL })).toBe('number')
  })

  it('links are made to files and links, not to directories, and not where something is', () => {
    expect(program.link('file', 'other')).toBe('ok')
    expect(program.stat('file')).toMatchObject({ nlink: 2n })
    expect((program.stat('other') as Filestat).ino).toBe((program.stat('file') as Filestat).ino)
    for (const [from, to, answer] of [
      ['file', 'other', 'EXIST'],
      ['file', 'file', 'EXIST'],
      ['file', 'dir', 'EXIST'],
      ['file', 'dangling', 'EXIST'],
      ['file', 'loop', 'EXIST'],
      ['file', 'new/', 'NOENT'],
      ['file', 'file/', 'EXIST'],
      ['file/', 'new', 'NOTDIR'],
      ['dir', 'new', 'PERM'],
      ['to-dir/', 'new', 'PERM'],
      ['missing', 'new', 'NOENT'],
      ['file', 'missing/new', 'NOENT'],
      ['file', '../new', 'PERM'],
    ] as const) {
      expect([from, to, program.link(from, to)]).toEqual([from, to, answer])
    }
  })

  it('a link is linked itself, or what it leads to', () => {
    expect([program.link('to-file', 'same-link'), program.link('dangling', 'same-dangling')]).toEqual([
      'ok',
      'ok',
    ])
    expect(readlinkSync(join(program.work, 'same-dangling'))).toBe('nowhere')
    expect(program.link('to-file', 'the-file', 1)).toBe('ok')
    expect(program.stat('the-file')).toMatchObject({ type: FILETYPE.REGULAR_FILE, nlink: 2n })
    expect([
      program.link('dangling', 'x', 1),
      program.link('loop', 'x', 1),
      program.link('to-dir', 'x', 1),
    ]).toEqual(['NOENT', 'LOOP', 'PERM'])
    expect(program.link('file', 'x', 2)).toBe('INVAL')
  })

  it('symbolic links are made where nothing is', () => {
    for (const [target, path, answer] of [
      ['anything', 'new', 'ok'],
      ['anything', 'new', 'EXIST'],
      ['anything', 'new/', 'EXIST'],
      ['anything', 'other/', 'NOENT'],
      ['anything', 'dir/', 'EXIST'],
      ['anything', 'file/', 'EXIST'],
      ['anything', 'missing/new', 'NOENT'],
      ['', 'x', 'NOENT'],
      ['/absolute', 'x', 'PERM'],
      ['a\0b', 'x', 'INVAL'],
      ['anything', '../x', 'PERM'],
      ['anything', '', 'NOENT'],
    ] as const) {
      expect([target, path, program.symlink(target, path)]).toEqual([target, path, answer])
    }
  })

  it('forty links are followed, one more is a loop', () => {
    writeFileSync(join(program.work, 'end'), '')
    symlinkSync('end', join(program.work, 'n1'))
    for (let n = 2; n <= 41; n++) symlinkSync(`n${n - 1}`, join(program.work, `n${n}`))
    expect([opens('n40', { follow: true }), opens('n41', { follow: true })]).toEqual(['ok', 'LOOP'])
  })

  it('a path starts at the directory it is given, and climbs no higher', () => {
    const nested = program.openDirectory('dir/nested') as number
    expect(opens('file', { fd: nested })).toBe('ok')
    expect(opens('../../file', { fd: nested })).toBe('PERM')
    symlinkSync('../../file', join(program.work, 'dir/nested/up'))
    expect(opens('up', { fd: nested, follow: true })).toBe('PERM')
    expect(opens('dir/nested/up', { follow: true })).toBe('ok')
  })

  it('only directories have paths below them', () => {
    const file = program.open('file') as number
    expect(opens('x', { fd: file })).toBe('NOTDIR')
    expect(program.stat('x', false, file)).toBe('NOTDIR')
    expect(opens('x', { fd: 99 })).toBe('BADF')
    expect(program.rename('file', 'x', 3, file)).toBe('NOTDIR')
    expect(program.link('file', 'x', 0, 3, 1)).toBe('NOTDIR')
  })

  it('a directory that was removed while it was open has nothing in it', () => {
    const gone = program.openDirectory('empty') as number
    expect(program.at('path_remove_directory', 'empty')).toBe('ok')
    mkdirSync(join(program.work, 'empty'))
    expect(opens('new', { fd: gone, oflags: CREAT })).toBe('NOENT')
    expect(program.readdirRaw(gone, 100)).toBe('NOENT')
    expect(readdirSync(join(program.work, 'empty'))).toEqual([])
  })

  it('what is opened reports its type, flags and rights', () => {
    const file = program.open('file', { rights: FILE_RIGHTS | DIRECTORY_RIGHTS, fdflags: 1 | 16 }) as number
    expect(program.fdstat(file)).toEqual({
      type: FILETYPE.REGULAR_FILE,
      flags: 17,
      rights: FILE_RIGHTS,
      inheriting: FILE_RIGHTS,
    })
    const dir = program.openDirectory('dir', { rights: (FILE_RIGHTS & ~WRITE) | DIRECTORY_RIGHTS }) as number
    expect(program.fdstat(dir)).toMatchObject({ type: FILETYPE.DIRECTORY, rights: DIRECTORY_RIGHTS })
    expect(opens('file', { fdflags: 32 })).toBe('INVAL')
  })
})

describe('several directories in the WASI host', () => {
  const programs: WasiProgram[] = []
  afterEach(() => {
    for (const one of programs.splice(0)) one.remove()
  })

  /** A read-only root that holds `in` (read only), `deep/out` and `tmp`. */
  const job = (): WasiProgram => {
    const mounts = [
      { target: '/in', writable: false },
      { target: '/deep/out', writable: true },
      { target: '/tmp', writable: true },
    ]
    const paths = ['/', ...mounts.map(({ target }) => target)]
    const program = new WasiProgram({ mounts, preopens: paths.map((path) => ({ name: path, target: path })) })
    programs.push(program)
    writeFileSync(join(program.dirs['/in'] ?? '', 'data'), 'data')
    return program
  }

  it('tells the name of each, in their order, and no other', () => {
    const program = job()
    const names: string[] = []
    for (let fd = 3; program.call('fd_prestat_get', fd, 512) === 'ok'; fd++) {
      expect(program.view.getUint8(512)).toBe(0)
      const length = program.view.getUint32(516, true)
      expect(program.call('fd_prestat_dir_name', fd, 32_768, length - 1)).toBe('NAMETOOLONG')
      expect(program.call('fd_prestat_dir_name', fd, 32_768, length + 5)).toBe('ok')
      names.push(program.told(length))
    }
    expect(names).toEqual(['/', '/in', '/deep/out', '/tmp'])
    expect([0, 1, 7, -1].map((fd) => program.call('fd_prestat_get', fd, 512))).toEqual(Array(4).fill('BADF'))
    const opened = program.openDirectory('in') as number
    expect(program.call('fd_prestat_get', opened, 512)).toBe('BADF')
  })

  it('leads through the root to all of them, with `..` between them', () => {
    const program = job()
    const at = (path: string): string | { text: string } => {
      const fd = program.open(path, { rights: READ })
      return typeof fd === 'string' ? fd : program.read(fd, 10)
    }
    expect(at('in/data')).toEqual({ text: 'data' })
    expect(at('deep/out/../../in/data')).toEqual({ text: 'data' })
    expect(at('deep/../tmp/../in/./data')).toEqual({ text: 'data' })
    expect(at('in/../../in/data')).toBe('PERM')
    expect(program.open('../in/data', { fd: 5 })).toBe('PERM')
  })

  it('moves and links nothing from one into another', () => {
    const program = job()
    expect(typeof program.open('deep/out/mine', { oflags: CREAT })).toBe('number')
    expect(program.rename('deep/out/mine', 'tmp/mine')).toBe('XDEV')
    expect(program.link('deep/out/mine', 'tmp/mine')).toBe('XDEV')
    expect(program.rename('mine', 'mine', 5, 6)).toBe('XDEV')
    expect(program.rename('deep/out/mine', 'deep/out/yours')).toBe('ok')
    expect(program.rename('deep/out', 'deep/other')).toBe('BUSY')
    expect(program.at('path_remove_directory', 'tmp')).toBe('BUSY')
  })

  it('writes nothing where it may not', () => {
    const program = job()
    const answers = [
      program.open('new', { oflags: CREAT }),
      program.open('deep/new', { oflags: CREAT }),
      program.open('in/new', { oflags: CREAT }),
      program.open('in/data', { rights: WRITE }),
      program.open('in/data', { rights: READ, oflags: TRUNC }),
      program.at('path_create_directory', 'new'),
      program.at('path_unlink_file', 'in/data'),
      program.symlink('x', 'in/new'),
      program.link('in/data', 'in/other'),
      program.call('path_filestat_set_times', 3, 0, ...program.text('in/data'), 0n, 0n, 5),
      program.call('path_filestat_set_times', 3, 0, ...program.text('deep'), 0n, 0n, 5),
    ]
    expect(answers).toEqual(Array(11).fill('ROFS'))
    expect(program.at('path_unlink_file', 'new')).toBe('NOENT')
    // Asking for more than reading of what can only be read is refused by the first write, not by opening.
    expect(typeof program.open('in/data', { rights: FILE_RIGHTS & ~WRITE })).toBe('number')
  })

  it('lists directories that only lead to others, with numbers that agree with their stat', () => {
    const program = job()
    const root = program.openDirectory('.') as number
    const entries = program.readdir(root)
    expect(entries.map(({ name }) => name).toSorted()).toEqual(['.', '..', 'deep', 'in', 'tmp'])
    for (const { name, ino, type } of entries) {
      if (name !== '..') expect(program.stat(name)).toMatchObject({ ino, type })
    }
    expect(new Set(entries.map(({ ino }) => ino)).size).toBe(4)
    const deep = program.openDirectory('deep') as number
    const up = program.readdir(deep).find(({ name }) => name === '..')
    expect(up?.ino).toBe((program.stat('.') as Filestat).ino)
  })

  it('can be the root itself, writable', () => {
    const program = new WasiProgram({ mounts: [{ target: '/', writable: true }] })
    programs.push(program)
    expect(typeof program.open('new', { oflags: CREAT })).toBe('number')
    expect(readdirSync(program.dirs['/'] ?? '')).toEqual(['new'])
    expect(program.openDirectory('..')).toBe('PERM')
  })
})
