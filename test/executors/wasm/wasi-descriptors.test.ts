import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  ALL_RIGHTS,
  DIRECTORY_RIGHTS,
  FDFLAGS,
  FILE_RIGHTS,
  OFLAGS,
  RIGHTS,
  WHENCE,
} from '../../../src/executors/wasm/sandbox/wasi/abi.js'
import { type Fdstat, type Filestat, WasiProgram } from './wasi-program.js'

const { CREAT, TRUNC } = OFLAGS
const { FD_READ: READ, FD_WRITE: WRITE } = RIGHTS
const { SET, CUR, END } = WHENCE

describe('descriptors in the WASI host', () => {
  let program: WasiProgram
  beforeEach(() => {
    program = new WasiProgram()
    writeFileSync(join(program.work, 'file'), 'abcdef')
  })
  afterEach(() => program.remove())
  const open = (path = 'file', options = {}): number => {
    const fd = program.open(path, options)
    if (typeof fd === 'string') throw new Error(`opening ${path} answered ${fd}`)
    return fd
  }
  const content = (path = 'file'): string => readFileSync(join(program.work, path), 'utf8')

  describe('reading, writing and seeking', () => {
    it('go on where the last call ended, for each descriptor by itself', () => {
      const [one, two] = [open(), open()]
      expect([program.read(one, 2), program.read(one, 3, 9), program.read(one, 1)]).toEqual([
        { text: 'ab' },
        { text: 'cdef' },
        { text: '' },
      ])
      expect(program.read(two, 1)).toEqual({ text: 'a' })
      expect(program.write(two, 'XY', '', 'Z')).toBe(3)
      expect([program.tell(one), program.tell(two), content()]).toEqual([6n, 4n, 'aXYZef'])
    })

    it('at a position leave the offset alone', () => {
      const fd = open()
      expect([program.pread(fd, 3, 2n), program.pwrite(fd, '--', 1n), program.tell(fd)]).toEqual([
        { text: 'cde' },
        2,
        0n,
      ])
      expect(content()).toBe('a--def')
      expect(program.pwrite(fd, 'far', 10n)).toBe(3)
      expect(content()).toBe('a--def\0\0\0\0far')
      expect([program.pread(fd, 3, 100n), program.pread(fd, 3, 1n << 60n)]).toEqual([
        { text: '' },
        { text: '' },
      ])
      expect([program.pread(fd, 3, -1n), program.pwrite(fd, 'x', -1n)]).toEqual(['INVAL', 'INVAL'])
      expect(program.pwrite(fd, 'x', 1n << 60n)).toBe('FBIG')
    })

    it('seek from the start, from here and from the end, never before the start', () => {
      const fd = open()
      expect([program.seek(fd, 4n, SET), program.seek(fd, -1n, CUR), program.seek(fd, -2n, END)]).toEqual([
        4n,
        3n,
        4n,
      ])
      expect([program.seek(fd, -5n, CUR), program.seek(fd, -1n, SET), program.seek(fd, -7n, END)]).toEqual(
        Array(3).fill('INVAL'),
      )
      expect([program.seek(fd, 0n, 3), program.seek(fd, 0n, -1)]).toEqual(['INVAL', 'INVAL'])
      expect(program.tell(fd)).toBe(4n)
      expect(program.seek(fd, 0x7fff_ffff_ffff_ffffn, CUR)).toBe('OVERFLOW')
      expect(program.seek(fd, 100n, END)).toBe(106n)
      expect([program.read(fd, 3), program.write(fd, '!'), program.tell(fd)]).toEqual([{ text: '' }, 1, 107n])
      expect(content()).toBe(`abcdef${'\0'.repeat(100)}!`)
    })

    it('append at the end, whoever wrote meanwhile, wherever the descriptor was', () => {
      const [log, other] = [open('file', { fdflags: FDFLAGS.APPEND }), open()]
      expect([program.write(log, '1'), program.seek(other, 0n, END), program.write(other, '2')]).toEqual([
        1,
        7n,
        1,
      ])
      expect([program.seek(log, 0n, SET), program.read(log, 2), program.write(log, '3')]).toEqual([
        0n,
        { text: 'ab' },
        1,
      ])
      expect([program.tell(log), content()]).toEqual([9n, 'abcdef123'])
      // As on Linux, a position means nothing then.
      expect([program.pwrite(log, '4', 0n), content(), program.tell(log)]).toEqual([1, 'abcdef1234', 9n])
      expect(program.call('fd_fdstat_set_flags', log, 0)).toBe('ok')
      expect([program.pwrite(log, 'A', 0n), content()]).toEqual([1, 'Abcdef1234'])
      expect(program.call('fd_fdstat_set_flags', other, FDFLAGS.APPEND | FDFLAGS.SYNC)).toBe('ok')
      expect([program.seek(other, 0n, SET), program.write(other, '5'), content()]).toEqual([
        0n,
        1,
        'Abcdef12345',
      ])
      expect(program.fdstat(other)).toMatchObject({ flags: 17 })
      expect(program.call('fd_fdstat_set_flags', other, 32)).toBe('INVAL')
    })

    it('use no buffers, empty ones, many and overlapping ones', () => {
      const fd = open()
      expect([program.read(fd), program.write(fd), program.read(fd, 0), program.write(fd, '')]).toEqual([
        { text: '' },
        0,
        { text: '' },
        0,
      ])
      expect(program.read(fd, 0, 0, 4, 0)).toEqual({ text: 'abcd' })
      // Two thousand buffers of one byte at the same place: as many as one call takes.
      const [iovs, count] = [100_000, 2_000]
      for (let n = 0; n < count; n++) {
        program.view.setUint32(iovs + n * 8, 40_000, true)
        program.view.setUint32(iovs + n * 8 + 4, 1, true)
      }
      program.view.setUint8(40_000, 'z'.charCodeAt(0))
      expect(program.seek(fd, 0n, SET)).toBe(0n)
      expect(program.call('fd_write', fd, iovs, count, 512)).toBe('ok')
      expect(program.view.getUint32(512, true)).toBe(1_024)
      expect(content()).toBe('z'.repeat(1_024))
      expect(program.seek(fd, 0n, SET)).toBe(0n)
      expect(program.call('fd_read', fd, iovs, count, 512)).toBe('ok')
      expect(program.view.getUint32(512, true)).toBe(1_024)
      // Empty buffers do not count: the one that is not comes last.
      for (let n = 0; n < count - 1; n++) program.view.setUint32(iovs + n * 8 + 4, 0, true)
      expect(program.seek(fd, 0n, SET)).toBe(0n)
      expect([program.call('fd_read', fd, iovs, count, 512), program.view.getUint32(512, true)]).toEqual([
        'ok',
        1,
      ])
    })

    it('see the memory after it grew', () => {
      const fd = open()
      expect(program.read(fd, 1)).toEqual({ text: 'a' })
      program.memory.grow(1)
      expect(program.read(fd, 1)).toEqual({ text: 'b' })
      program.view.setUint32(20_480, 5 * 65_536 - 2, true)
      program.view.setUint32(20_484, 2, true)
      expect(program.call('fd_read', fd, 20_480, 1, 512)).toBe('ok')
      expect(Buffer.from(program.bytes.slice(-2)).toString()).toBe('cd')
    })

    it('need a descriptor that was opened for them', () => {
      const [reads, writes, neither] = [
        open('file', { rights: READ }),
        open('file', { rights: WRITE }),
        open('file', { rights: 0 }),
      ]
      expect([program.write(reads, 'x'), program.pwrite(reads, 'x', 0n)]).toEqual(['BADF', 'BADF'])
      expect([program.read(writes, 1), program.pread(writes, 1, 0n)]).toEqual(['BADF', 'BADF'])
      expect([program.read(neither, 1), program.write(neither, 'x')]).toEqual(['BADF', 'BADF'])
      expect(program.call('fd_filestat_set_size', reads, 1n)).toBe('INVAL')
      expect(program.call('fd_allocate', reads, 0n, 100n)).toBe('BADF')
      expect(content()).toBe('abcdef')
    })
  })

  describe('sizes', () => {
    it('grow with zeros and shrink; the offset stays', () => {
      const fd = open('file', { rights: READ | WRITE })
      expect(program.seek(fd, 5n, SET)).toBe(5n)
      expect(program.call('fd_filestat_set_size', fd, 8n)).toBe('ok')
      expect(content()).toBe('abcdef\0\0')
      expect(program.call('fd_filestat_set_size', fd, 2n)).toBe('ok')
      expect([content(), program.tell(fd), program.read(fd, 1)]).toEqual(['ab', 5n, { text: '' }])
      expect(program.call('fd_filestat_set_size', fd, -1n)).toBe('INVAL')
      expect(program.call('fd_filestat_set_size', fd, 1n << 62n)).toBe('FBIG')
      expect(program.call('fd_filestat_set_size', fd, 1n << 40n)).toBe('NOSPC')
      expect(program.fdStat(fd)).toMatchObject({ size: 2n })
    })

    it('are made sure of by allocating, which never shrinks', () => {
      const fd = open()
      const allocate = (offset: bigint, length: bigint): string =>
        program.call('fd_allocate', fd, offset, length)
      expect([allocate(0n, 3n), content()]).toEqual(['ok', 'abcdef'])
      expect([allocate(4n, 6n), content()]).toEqual(['ok', 'abcdef\0\0\0\0'])
      expect([allocate(0n, 0n), allocate(-1n, 1n), allocate(0n, -1n)]).toEqual(Array(3).fill('INVAL'))
      expect(allocate(1n << 62n, 1n)).toBe('FBIG')
      expect(allocate(0n, 1n << 40n)).toBe('NOSPC')
    })

    it('are bounded for all files together, and what is removed is given back', () => {
      const small = new WasiProgram({ diskBytes: 10 })
      try {
        const one = small.open('one', { oflags: CREAT }) as number
        expect([small.write(one, '12345678'), small.write(one, 'abc', 'd'), small.write(one, 'x')]).toEqual([
          8,
          2,
          'NOSPC',
        ])
        expect(small.write(one, '')).toBe(0)
        const two = small.open('two', { oflags: CREAT }) as number
        expect(small.write(two, 'x')).toBe('NOSPC')
        expect(small.call('fd_filestat_set_size', one, 9n)).toBe('ok')
        expect(small.write(two, 'xy')).toBe(1)
        expect([small.at('path_unlink_file', 'one'), small.write(two, 'y')]).toEqual(['ok', 'NOSPC'])
        expect([small.call('fd_close', one), small.write(two, 'yz')]).toEqual(['ok', 2])
      } finally {
        small.remove()
      }
    })
  })

  it('advice is checked and otherwise ignored', () => {
    const fd = open('file', { rights: READ })
    const advise = (advice: number, offset = 0n, length = 0n): string =>
      program.call('fd_advise', fd, offset, length, advice)
    expect([0, 1, 2, 3, 4, 5].map((one) => advise(one))).toEqual(Array(6).fill('ok'))
    expect([advise(6), advise(-1), advise(0, -1n), advise(0, 0n, -1n)]).toEqual(Array(4).fill('INVAL'))
    expect(advise(1, 10n, 1_000n)).toBe('ok')
  })

  it('files and directories can be synced, streams cannot', () => {
    const fd = open()
    expect(
      ['fd_sync', 'fd_datasync'].flatMap((name) => [fd, 3, 1, 77].map((one) => program.call(name, one))),
    ).toEqual(Array(2).fill(['ok', 'ok', 'INVAL', 'BADF']).flat())
  })

  it('what is for files is EBADF on directories and ESPIPE or EINVAL on streams', () => {
    const dir = program.openDirectory('.') as number
    const calls = (fd: number): (string | number | bigint | { text: string })[] => [
      program.read(fd, 1),
      program.pread(fd, 1, 0n),
      program.pwrite(fd, '', 0n),
      program.seek(fd, 0n, CUR),
      program.tell(fd),
      program.call('fd_advise', fd, 0n, 0n, 0),
      program.call('fd_allocate', fd, 0n, 1n),
      program.call('fd_filestat_set_size', fd, 0n),
      program.call('fd_fdstat_set_flags', fd, FDFLAGS.NONBLOCK),
    ]
    expect(calls(dir)).toEqual(Array(9).fill('BADF'))
    expect(program.write(dir, 'x')).toBe('BADF')
    expect(calls(1)).toEqual(['BADF', ...Array(7).fill('SPIPE'), 'ok'])
    expect([program.read(1, 1), program.write(0, 'x')]).toEqual(['BADF', 'BADF'])
    expect(program.fdStat(1)).toMatchObject({ type: 0, size: 0n })
    expect([program.readdirRaw(1, 100), program.readdirRaw(open(), 100)]).toEqual(['NOTDIR', 'NOTDIR'])
  })

  describe('numbers', () => {
    it('are the lowest free ones', () => {
      const [a, b, c] = [open(), open(), open()]
      expect([a, b, c]).toEqual([4, 5, 6])
      expect([program.call('fd_close', b), program.call('fd_close', a)]).toEqual(['ok', 'ok'])
      expect([open(), open(), open()]).toEqual([4, 5, 7])
      expect([program.call('fd_close', 0), open()]).toEqual(['ok', 0])
    })

    it('are given to another descriptor by renumbering, which closes what was there', () => {
      const [one, two] = [open(), open('other', { oflags: CREAT })]
      expect(program.read(one, 2)).toEqual({ text: 'ab' })
      expect(program.call('fd_renumber', one, two)).toBe('ok')
      expect([program.read(two, 2), program.read(one, 1)]).toEqual([{ text: 'cd' }, 'BADF'])
      expect(program.call('fd_renumber', two, two)).toBe('ok')
      expect([program.call('fd_renumber', two, 99), program.call('fd_renumber', 99, two)]).toEqual([
        'BADF',
        'BADF',
      ])
      expect(program.call('fd_renumber', 99, 99)).toBe('BADF')
      expect(program.read(two, 9)).toEqual({ text: 'ef' })
      expect(open()).toBe(one)
    })

    it('can be changed for streams and preopened directories as for all others', () => {
      expect([0, 1, 2, 3].map((fd) => program.call('fd_renumber', fd, fd))).toEqual(Array(4).fill('ok'))
      const output = open('out', { oflags: CREAT })
      expect(program.call('fd_renumber', output, 1)).toBe('ok')
      expect([program.write(1, 'said'), content('out')]).toEqual([4, 'said'])
      const dir = program.openDirectory('.') as number
      expect(program.call('fd_renumber', dir, 3)).toBe('ok')
      expect(program.call('fd_prestat_get', 3, 512)).toBe('BADF')
      expect(typeof program.open('file')).toBe('number')
    })

    it('are free after closing, also those of streams and preopened directories', () => {
      for (const fd of [3, 2, 1, 0]) {
        expect([program.call('fd_close', fd), program.call('fd_close', fd)]).toEqual(['ok', 'BADF'])
        expect(program.fdstat(fd)).toBe('BADF')
      }
      expect(program.call('fd_prestat_get', 3, 512)).toBe('BADF')
      expect(program.open('file')).toBe('BADF')
    })

    it.each([-1, 77, 2 ** 31 - 1, -(2 ** 31)])('%i is EBADF for every call', (fd) => {
      const path = program.text('x')
      const answers = [
        program.call('fd_advise', fd, 0n, 0n, 0),
        program.call('fd_allocate', fd, 0n, 1n),
        program.call('fd_close', fd),
        program.call('fd_datasync', fd),
        program.fdstat(fd),
        program.call('fd_fdstat_set_flags', fd, 0),
        program.call('fd_fdstat_set_rights', fd, 0n, 0n),
        program.fdStat(fd),
        program.call('fd_filestat_set_size', fd, 0n),
        program.call('fd_filestat_set_times', fd, 0n, 0n, 0),
        program.pread(fd, 1, 0n),
        program.call('fd_prestat_get', fd, 512),
        program.call('fd_prestat_dir_name', fd, 512, 100),
        program.pwrite(fd, 'x', 0n),
        program.read(fd, 1),
        program.readdirRaw(fd, 100),
        program.call('fd_renumber', fd, 3),
        program.call('fd_renumber', 3, fd),
        program.seek(fd, 0n, 0),
        program.call('fd_sync', fd),
        program.tell(fd),
        program.write(fd, 'x'),
        program.at('path_create_directory', 'x', fd),
        program.stat('x', false, fd),
        program.call('path_filestat_set_times', fd, 0, ...path, 0n, 0n, 0),
        program.link('x', 'y', 0, fd),
        program.link('file', 'y', 0, 3, fd),
        program.open('x', { fd }),
        program.readlink('x', 10, fd),
        program.at('path_remove_directory', 'x', fd),
        program.rename('x', 'y', fd),
        program.rename('file', 'y', 3, fd),
        program.symlink('x', 'y', fd),
        program.at('path_unlink_file', 'x', fd),
        program.call('sock_accept', fd, 0, 512),
        program.call('sock_recv', fd, 0, 0, 0, 512, 516),
        program.call('sock_send', fd, 0, 0, 0, 512),
        program.call('sock_shutdown', fd, 1),
      ]
      expect(answers).toEqual(Array(38).fill('BADF'))
    })

    it('run out with EMFILE, and nothing is made then', () => {
      const few = new WasiProgram({ openFilesMax: 6 })
      try {
        expect([1, 2].map((n) => few.open(`${n}`, { oflags: CREAT }))).toEqual([4, 5])
        expect(few.open('3', { oflags: CREAT })).toBe('MFILE')
        expect(few.open('1', { oflags: TRUNC })).toBe('MFILE')
        expect(readdirSync(few.work).toSorted()).toEqual(['1', '2'])
        expect([few.call('fd_close', 4), few.open('3', { oflags: CREAT })]).toEqual(['ok', 4])
      } finally {
        few.remove()
      }
    })

    it('are no sockets', () => {
      const fd = open()
      for (const one of [0, 1, 3, fd]) {
        expect(program.call('sock_shutdown', one, 1)).toBe('NOTSOCK')
        expect(program.call('sock_accept', one, 0, 512)).toBe('NOTSOCK')
        expect(program.call('sock_recv', one, 0, 0, 0, 512, 516)).toBe('NOTSOCK')
        expect(program.call('sock_send', one, 0, 0, 0, 512)).toBe('NOTSOCK')
      }
    })
  })

  describe('rights', () => {
    const limit = (fd: number, base: number, inheriting: number): string =>
      program.call('fd_fdstat_set_rights', fd, BigInt(base), BigInt(inheriting))

    it('only shrink', () => {
      const fd = open()
      expect(limit(fd, FILE_RIGHTS & ~WRITE, FILE_RIGHTS)).toBe('ok')
      expect(limit(fd, FILE_RIGHTS, FILE_RIGHTS)).toBe('NOTCAPABLE')
      expect(limit(fd, READ, ALL_RIGHTS)).toBe('NOTCAPABLE')
      expect(program.call('fd_fdstat_set_rights', fd, -1n, 0n)).toBe('NOTCAPABLE')
      expect(program.fdstat(fd)).toMatchObject({ rights: FILE_RIGHTS & ~WRITE, inheriting: FILE_RIGHTS })
      expect([limit(fd, 0, 0), limit(fd, 0, 0), limit(fd, READ, 0)]).toEqual(['ok', 'ok', 'NOTCAPABLE'])
    })

    it.each<[string, number, (fd: number) => unknown]>([
      ['fd_read', READ, (fd) => program.read(fd, 1)],
      ['fd_pread', READ, (fd) => program.pread(fd, 1, 0n)],
      ['fd_pread', RIGHTS.FD_SEEK, (fd) => program.pread(fd, 1, 0n)],
      ['fd_write', WRITE, (fd) => program.write(fd, 'x')],
      ['fd_pwrite', WRITE, (fd) => program.pwrite(fd, 'x', 0n)],
      ['fd_pwrite', RIGHTS.FD_SEEK, (fd) => program.pwrite(fd, 'x', 0n)],
      ['fd_seek', RIGHTS.FD_SEEK, (fd) => program.seek(fd, 1n, CUR)],
      ['fd_tell', RIGHTS.FD_SEEK | RIGHTS.FD_TELL, (fd) => program.tell(fd)],
      ['fd_advise', RIGHTS.FD_ADVISE, (fd) => program.call('fd_advise', fd, 0n, 0n, 0)],
      ['fd_allocate', RIGHTS.FD_ALLOCATE, (fd) => program.call('fd_allocate', fd, 0n, 1n)],
      ['fd_sync', RIGHTS.FD_SYNC, (fd) => program.call('fd_sync', fd)],
      ['fd_datasync', RIGHTS.FD_DATASYNC, (fd) => program.call('fd_datasync', fd)],
      ['fd_filestat_get', RIGHTS.FD_FILESTAT_GET, (fd) => program.fdStat(fd)],
      [
        'fd_filestat_set_size',
        RIGHTS.FD_FILESTAT_SET_SIZE,
        (fd) => program.call('fd_filestat_set_size', fd, 0n),
      ],
      [
        'fd_filestat_set_times',
        RIGHTS.FD_FILESTAT_SET_TIMES,
        (fd) => program.call('fd_filestat_set_times', fd, 0n, 0n, 0),
      ],
      ['fd_fdstat_set_flags', RIGHTS.FD_FDSTAT_SET_FLAGS, (fd) => program.call('fd_fdstat_set_flags', fd, 0)],
    ])('%s without right %i is ENOTCAPABLE', (_name, right, act) => {
      const fd = open()
      expect(limit(fd, FILE_RIGHTS & ~right, FILE_RIGHTS)).toBe('ok')
      expect(act(fd)).toBe('NOTCAPABLE')
      expect(content()).toBe('abcdef')
    })

    it.each<[string, number, (fd: number) => unknown]>([
      ['path_open', RIGHTS.PATH_OPEN, (fd) => program.open('file', { fd })],
      ['path_open CREAT', RIGHTS.PATH_CREATE_FILE, (fd) => program.open('new', { fd, oflags: CREAT })],
      [
        'path_create_directory',
        RIGHTS.PATH_CREATE_DIRECTORY,
        (fd) => program.at('path_create_directory', 'x', fd),
      ],
      [
        'path_remove_directory',
        RIGHTS.PATH_REMOVE_DIRECTORY,
        (fd) => program.at('path_remove_directory', 'x', fd),
      ],
      ['path_unlink_file', RIGHTS.PATH_UNLINK_FILE, (fd) => program.at('path_unlink_file', 'file', fd)],
      ['path_readlink', RIGHTS.PATH_READLINK, (fd) => program.readlink('x', 10, fd)],
      ['path_symlink', RIGHTS.PATH_SYMLINK, (fd) => program.symlink('x', 'y', fd)],
      ['path_link from', RIGHTS.PATH_LINK_SOURCE, (fd) => program.link('file', 'y', 0, fd, 3)],
      ['path_link to', RIGHTS.PATH_LINK_TARGET, (fd) => program.link('file', 'y', 0, 3, fd)],
      ['path_rename from', RIGHTS.PATH_RENAME_SOURCE, (fd) => program.rename('file', 'y', fd, 3)],
      ['path_rename to', RIGHTS.PATH_RENAME_TARGET, (fd) => program.rename('file', 'y', 3, fd)],
      ['path_filestat_get', RIGHTS.PATH_FILESTAT_GET, (fd) => program.stat('file', false, fd)],
      [
        'path_filestat_set_times',
        RIGHTS.PATH_FILESTAT_SET_TIMES,
        (fd) => program.call('path_filestat_set_times', fd, 0, ...program.text('file'), 0n, 0n, 5),
      ],
      ['fd_readdir', RIGHTS.FD_READDIR, (fd) => program.readdirRaw(fd, 100)],
      ['fd_filestat_get', RIGHTS.FD_FILESTAT_GET, (fd) => program.fdStat(fd)],
    ])('%s without right %i is ENOTCAPABLE', (_name, right, act) => {
      const fd = program.openDirectory('.') as number
      expect(limit(fd, DIRECTORY_RIGHTS & ~right, ALL_RIGHTS)).toBe('ok')
      expect(act(fd)).toBe('NOTCAPABLE')
      expect(readdirSync(program.work)).toEqual(['file'])
    })

    it('to truncate by opening is the directory’s, and EPERM when it is missing', () => {
      const dir = program.openDirectory('.') as number
      const { rights, inheriting } = program.fdstat(dir) as Fdstat
      expect(limit(dir, rights, inheriting & ~RIGHTS.FD_FILESTAT_SET_SIZE)).toBe('ok')
      // The opened file cannot be resized, but opening may truncate.
      expect(typeof program.open('file', { fd: dir, oflags: TRUNC, rights: 0, inheriting: 0 })).toBe('number')
      expect(content()).toBe('')
      writeFileSync(join(program.work, 'file'), 'again')
      expect(
        limit(dir, rights & ~RIGHTS.PATH_FILESTAT_SET_SIZE, inheriting & ~RIGHTS.FD_FILESTAT_SET_SIZE),
      ).toBe('ok')
      expect(program.open('file', { fd: dir, oflags: TRUNC, rights: 0, inheriting: 0 })).toBe('PERM')
      expect(content()).toBe('again')
    })

    it('that a directory does not pass on cannot be had below it', () => {
      const dir = program.openDirectory('.', {
        inheriting: READ | RIGHTS.FD_SEEK | DIRECTORY_RIGHTS,
      }) as number
      expect(program.open('file', { fd: dir, rights: READ | WRITE, inheriting: 0 })).toBe('NOTCAPABLE')
      expect(program.open('file', { fd: dir, rights: READ, inheriting: WRITE })).toBe('NOTCAPABLE')
      const below = program.openDirectory('.', { fd: dir, inheriting: 0 }) as number
      expect(program.open('file', { fd: below, rights: WRITE, inheriting: 0 })).toBe('NOTCAPABLE')
      const fd = program.open('file', { fd: below, rights: READ, inheriting: 0 }) as number
      expect(program.fdstat(fd)).toMatchObject({ rights: READ, inheriting: 0 })
      expect([program.read(fd, 1), program.call('fd_fdstat_set_flags', fd, 0)]).toEqual([{ text: 'a' }, 'ok'])
      expect(program.call('fd_allocate', fd, 0n, 1n)).toBe('NOTCAPABLE')
    })

    it('that were only never asked for are not missed', () => {
      const dir = program.open('.', { oflags: 2, rights: 0, inheriting: 0 }) as number
      const fd = program.open('file', { fd: dir, rights: READ | WRITE, inheriting: 0 }) as number
      expect(program.fdstat(fd)).toMatchObject({ rights: READ | WRITE, inheriting: 0 })
      expect([program.seek(fd, 0n, END), program.call('fd_filestat_set_size', fd, 3n)]).toEqual([6n, 'ok'])
      expect(program.readdir(dir).map(({ name }) => name)).toContain('file')
    })

    it('of stdin and stdout shrink as well', () => {
      const { rights } = program.fdstat(1) as Fdstat
      expect(limit(1, rights & ~WRITE, 0)).toBe('ok')
      expect(program.write(1, 'x')).toBe('NOTCAPABLE')
    })
  })

  describe('listing a directory', () => {
    const names = ['a', 'bb', 'ccc', 'ü'.repeat(20), 'y'.repeat(255)]
    const dirOf = (): number => {
      mkdirSync(join(program.work, 'd'))
      for (const name of names) writeFileSync(join(program.work, 'd', name), '')
      mkdirSync(join(program.work, 'd', 'sub'))
      return program.openDirectory('d') as number
    }

    it('begins with `.` and `..`, and types and inodes are those of stat', () => {
      const fd = dirOf()
      const entries = program.readdir(fd)
      expect(entries.slice(0, 2).map(({ name }) => name)).toEqual(['.', '..'])
      expect(entries.map(({ name }) => name).toSorted()).toEqual(
        ['.', '..', 'sub', ...names.map((name) => Buffer.from(name).toString('latin1'))].toSorted(),
      )
      for (const { name, ino, type } of entries) {
        if (name !== '..') expect(program.stat(name, false, fd)).toMatchObject({ ino, type })
      }
      expect(entries[1]?.ino).toBe((program.stat('.') as Filestat).ino)
      expect(entries[0]?.ino).toBe((program.fdStat(fd) as Filestat).ino)
    })

    it('goes on from any cookie, in any order', () => {
      const fd = dirOf()
      const all = program.readdir(fd)
      for (const [index, { next }] of [...all.entries()].toReversed()) {
        expect(program.readdir(fd, 8_192, next)).toEqual(all.slice(index + 1))
      }
      expect(program.readdirRaw(fd, 100, 10_000n)).toHaveLength(0)
      expect(program.readdirRaw(fd, 100, 1n << 62n)).toHaveLength(0)
      expect(program.readdirRaw(fd, 100, -1n)).toBe('INVAL')
    })

    it('fills the buffer to the last byte and cuts the entry that does not fit', () => {
      const fd = dirOf()
      const whole = program.readdirRaw(fd, 8_192) as Buffer
      for (let room = 0; room <= whole.length + 1; room++) {
        const part = program.readdirRaw(fd, room) as Buffer
        expect(part.equals(whole.subarray(0, room))).toBe(true)
      }
    })

    it('reads everything however small the pieces, if one entry fits', () => {
      const fd = dirOf()
      const seen: string[] = []
      for (let cookie = 0n; ; ) {
        const entries = program.readdir(fd, 24 + 255, cookie)
        if (entries.length === 0) break
        seen.push(...entries.map(({ name }) => name))
        cookie = entries.at(-1)?.next ?? 0n
      }
      expect(seen).toHaveLength(names.length + 3)
      expect(new Set(seen).size).toBe(seen.length)
    })

    it('leaves out what is gone meanwhile, and sees what is new from the beginning', () => {
      const fd = dirOf()
      const first = program.readdir(fd)
      rmSync(join(program.work, 'd', 'bb'))
      writeFileSync(join(program.work, 'd', 'new'), '')
      const rest = program.readdir(fd, 8_192, first[1]?.next).map(({ name }) => name)
      expect([rest.includes('bb'), rest.includes('new'), rest.includes('ccc')]).toEqual([false, false, true])
      expect(program.readdir(fd).map(({ name }) => name)).toContain('new')
    })
  })
})
