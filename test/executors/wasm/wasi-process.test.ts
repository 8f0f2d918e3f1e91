import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { OFLAGS, RIGHTS } from '../../../src/executors/wasm/sandbox/wasi/abi.js'
import { Ended, WasiProgram } from './wasi-program.js'

/** Offsets in the memory that the program below does not use. */
const [LIST_AT, TEXT_AT, OUT_AT] = [64_000, 70_000, 512]
const EDGE = 4 * 65_536

describe('arguments, environment, clocks and chance in the WASI host', () => {
  const programs: WasiProgram[] = []
  const start = (options = {}): WasiProgram => {
    const program = new WasiProgram(options)
    programs.push(program)
    return program
  }
  afterEach(() => {
    for (const one of programs.splice(0)) one.remove()
  })

  const list = (program: WasiProgram, what: 'args' | 'environ'): string[] => {
    expect(program.call(`${what}_sizes_get`, OUT_AT, OUT_AT + 4)).toBe('ok')
    const [count, bytes] = [OUT_AT, OUT_AT + 4].map((at) => program.view.getUint32(at, true)) as [
      number,
      number,
    ]
    expect(program.call(`${what}_get`, LIST_AT, TEXT_AT)).toBe('ok')
    const ends = Array.from({ length: count }, (_, n) => program.view.getUint32(LIST_AT + 4 * n, true))
    const texts = ends.map((at) => {
      const end = program.bytes.indexOf(0, at)
      return Buffer.from(program.bytes.slice(at, end)).toString('utf8')
    })
    expect(bytes).toBe(texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0))
    return texts
  }

  it('arguments and environment arrive as they were given, also empty and not ASCII', () => {
    const args = ['program', '', ' ', 'ünï', '🙂', '-', '--x=y', 'a\nb', '']
    const env = { EMPTY: '', 'odd name': 'x', Ü: 'ß=ß', LONG: 'y'.repeat(5_000) }
    const program = start({ args, env })
    expect(list(program, 'args')).toEqual(args)
    expect(list(program, 'environ')).toEqual(Object.entries(env).map(([name, value]) => `${name}=${value}`))
  })

  it('thousands of arguments, or none, are counted right', () => {
    const many = Array.from({ length: 1_500 }, (_, n) => `argument ${n}`)
    expect(list(start({ args: many }), 'args')).toEqual(many)
    const none = start()
    expect([list(none, 'args'), list(none, 'environ')]).toEqual([[], []])
  })

  it('clocks tell the time, and unknown ones are EINVAL', () => {
    const program = start()
    const time = (id: number): bigint => {
      expect(program.call('clock_time_get', id, 1n, OUT_AT)).toBe('ok')
      return program.view.getBigUint64(OUT_AT, true)
    }
    for (const id of [0, 1, 2, 3]) {
      expect(program.call('clock_res_get', id, OUT_AT)).toBe('ok')
      expect(program.view.getBigUint64(OUT_AT, true)).toBeGreaterThan(0n)
      const [first, second] = [time(id), time(id)]
      expect(second).toBeGreaterThanOrEqual(first)
    }
    expect(Math.abs(Number(time(0) / 1_000_000n) - Date.now())).toBeLessThan(120_000)
    for (const id of [4, -1, 1_000]) {
      expect(program.call('clock_res_get', id, OUT_AT)).toBe('INVAL')
      expect(program.call('clock_time_get', id, 0n, OUT_AT)).toBe('INVAL')
    }
  })

  it('random bytes fill exactly what was asked for', () => {
    const program = start()
    for (const length of [0, 1, 16, 65_537, 200_000]) {
      program.bytes.fill(0)
      expect(program.call('random_get', 1_000, length)).toBe('ok')
      expect(program.bytes.slice(0, 1_000).every((byte) => byte === 0)).toBe(true)
      expect(program.bytes.slice(1_000 + length).every((byte) => byte === 0)).toBe(true)
      if (length >= 16) expect(program.bytes.slice(1_000 + length - 16).some((byte) => byte !== 0)).toBe(true)
    }
  })

  it('a program ends with any code, or by a signal', () => {
    const program = start()
    const end = (name: string, value: number): string => {
      try {
        return program.call(name, value)
      } catch (error) {
        return (error as Ended).message
      }
    }
    expect([0, 1, 33, 255, 256, 65_536, -1].map((code) => end('proc_exit', code))).toEqual(
      [0, 1, 33, 255, 256, 65_536, 4_294_967_295].map((code) => `exit ${code}`),
    )
    expect([end('proc_raise', 0), end('proc_raise', 6), end('proc_raise', 32)]).toEqual([
      'ok',
      'raise 6',
      'INVAL',
    ])
    expect(program.call('sched_yield')).toBe('ok')
  })

  it('pointers and lengths outside the memory are EFAULT, wherever they are', () => {
    const program = start({ args: ['x'], env: { A: 'b' } })
    writeFileSync(join(program.work, 'file'), 'abc')
    const fd = program.open('file') as number
    const path = program.text('file')
    const iovs = 20_480
    const vector = (pointer: number, length: number): number => {
      program.view.setUint32(iovs, pointer, true)
      program.view.setUint32(iovs + 4, length, true)
      return iovs
    }
    const wrong: [string, ...(number | bigint)[]][] = [
      ['args_get', EDGE, TEXT_AT],
      ['args_get', LIST_AT, EDGE - 1],
      ['args_sizes_get', EDGE - 3, OUT_AT],
      ['args_sizes_get', OUT_AT, -1],
      ['environ_get', -4, TEXT_AT],
      ['environ_sizes_get', OUT_AT, EDGE],
      ['clock_res_get', 0, EDGE - 7],
      ['clock_time_get', 0, 0n, -8],
      ['random_get', EDGE - 1, 2],
      ['random_get', 0, -1],
      ['fd_read', fd, iovs, 1, EDGE],
      ['fd_read', fd, EDGE - 4, 1, OUT_AT],
      ['fd_read', fd, 0, -1, OUT_AT],
      ['fd_write', fd, -8, 1, OUT_AT],
      ['fd_write', fd, 0, 0x1fff_ffff, OUT_AT],
      ['fd_pread', fd, EDGE, 1, 0n, OUT_AT],
      ['fd_pwrite', fd, iovs, 1, 0n, -4],
      ['fd_seek', fd, 0n, 0, EDGE - 7],
      ['fd_tell', fd, EDGE - 7],
      ['fd_fdstat_get', fd, EDGE - 23],
      ['fd_filestat_get', fd, EDGE - 63],
      ['fd_prestat_get', 3, EDGE - 7],
      ['fd_prestat_dir_name', 3, EDGE - 3, 100],
      ['fd_readdir', 3, EDGE - 10, 11, 0n, OUT_AT],
      ['fd_readdir', 3, TEXT_AT, 100, 0n, EDGE],
      ['path_open', 3, 0, EDGE, 1, 0, 0n, 0n, 0, OUT_AT],
      ['path_open', 3, 0, 0, -1, 0, 0n, 0n, 0, OUT_AT],
      ['path_open', 3, 0, ...path, 0, 0n, 0n, 0, EDGE - 3],
      ['path_filestat_get', 3, 0, ...path, EDGE - 63],
      ['path_filestat_set_times', 3, 0, -1, 1, 0n, 0n, 0],
      ['path_readlink', 3, ...path, EDGE - 1, 2, OUT_AT],
      ['path_rename', 3, ...path, 3, EDGE - 1, 5],
      ['path_link', 3, 0, EDGE - 1, 5, 3, ...path],
      ['path_symlink', -1, 1, 3, ...path],
      ['path_create_directory', 3, EDGE - 1, 2],
      ['path_remove_directory', 3, EDGE, 1],
      ['path_unlink_file', 3, EDGE, 1],
      ['poll_oneoff', EDGE - 47, TEXT_AT, 1, OUT_AT],
      ['poll_oneoff', TEXT_AT, EDGE - 31, 1, OUT_AT],
      ['poll_oneoff', TEXT_AT, LIST_AT, 1, EDGE],
    ]
    vector(1_000, 3)
    const before = program.state.descriptors.add
    for (const [name, ...args] of wrong)
      expect([name, ...args, program.call(name, ...args)]).toEqual([name, ...args, 'FAULT'])
    for (const [pointer, length] of [
      [EDGE - 1, 2],
      [EDGE + 1, 0],
      [0, EDGE + 1],
      [-1 >>> 0, 1],
      [0, -1 >>> 0],
    ] as const) {
      vector(pointer, length)
      for (const name of ['fd_read', 'fd_write'])
        expect(program.call(name, fd, iovs, 1, OUT_AT)).toBe('FAULT')
    }
    expect(program.state.descriptors.add).toBe(before)
    expect([program.tell(fd), program.open('file')]).toEqual([0n, fd + 1])
  })

  describe('polling', () => {
    let program: WasiProgram
    beforeEach(() => {
      program = start()
    })
    const [IN_AT, EVENTS_AT] = [80_000, 100_000]
    interface Wish {
      type?: number
      fd?: number
      clock?: number
      timeout?: bigint
      flags?: number
    }
    const poll = (
      ...wishes: Wish[]
    ): string | { userdata: bigint; errno: number; type: number; bytes: bigint; flags: number }[] => {
      wishes.forEach(({ type = 0, fd = 0, clock = 1, timeout = 0n, flags = 0 }, index) => {
        const at = IN_AT + index * 48
        program.bytes.fill(0, at, at + 48)
        program.view.setBigUint64(at, 0xabcd_0000n + BigInt(index), true)
        program.view.setUint8(at + 8, type)
        program.view.setUint32(at + 16, type === 0 ? clock : fd, true)
        program.view.setBigUint64(at + 24, timeout, true)
        program.view.setUint16(at + 40, flags, true)
      })
      const answer = program.call('poll_oneoff', IN_AT, EVENTS_AT, wishes.length, OUT_AT)
      if (answer !== 'ok') return answer
      const { view } = program
      return Array.from({ length: view.getUint32(OUT_AT, true) }, (_, n) => EVENTS_AT + n * 32).map((at) => ({
        userdata: view.getBigUint64(at, true) - 0xabcd_0000n,
        errno: view.getUint16(at + 8, true),
        type: view.getUint8(at + 10),
        bytes: view.getBigUint64(at + 16, true),
        flags: view.getUint16(at + 24, true),
      }))
    }
    const MS = 1_000_000n
    const now = (clock: number): bigint => {
      program.call('clock_time_get', clock, 0n, OUT_AT)
      return program.view.getBigUint64(OUT_AT, true)
    }

    it('for nothing is EINVAL, and so is an unknown kind', () => {
      expect([poll(), poll({ type: 3 }), poll({}, { type: 255 })]).toEqual(Array(3).fill('INVAL'))
    })

    it('waits for the first clock that is due, relative or absolute', () => {
      const begin = now(1)
      const events = poll(
        { timeout: 3_600_000n * MS },
        { timeout: 20n * MS },
        { clock: 0, timeout: 7_200_000n * MS },
      )
      expect(now(1) - begin).toBeGreaterThanOrEqual(20n * MS)
      expect(events).toEqual([{ userdata: 1n, errno: 0, type: 0, bytes: 0n, flags: 0 }])
      const until = now(0) + 10n * MS
      expect(poll({ clock: 0, timeout: until, flags: 1 })).toHaveLength(1)
      expect(now(0)).toBeGreaterThanOrEqual(until)
      expect(poll({ clock: 0, timeout: 5n, flags: 1 }, { timeout: now(1) - 1n, flags: 1 })).toHaveLength(2)
      expect(poll({ timeout: 0n })).toHaveLength(1)
    })

    it('tells what is wrong with one wish in its event', () => {
      writeFileSync(join(program.work, 'file'), 'abc')
      const reads = program.open('file', { rights: RIGHTS.FD_READ }) as number
      const wishes = [
        { type: 1, fd: 77 },
        { type: 2, fd: 0xffff_ffff },
        { type: 1, fd: 3 },
        { clock: 2 },
        { clock: 9 },
        { flags: 2 },
        { type: 2, fd: reads },
        { type: 1, fd: 1 },
        // Not due while others are.
        { timeout: 3_600_000n * MS },
      ]
      const events = poll(...wishes)
      if (typeof events === 'string') throw new Error(events)
      expect(events.map(({ userdata, errno, type }) => [userdata, errno, type])).toEqual([
        [0n, 8, 1],
        [1n, 8, 2],
        [2n, 8, 1],
        [3n, 28, 0],
        [4n, 28, 0],
        [5n, 28, 0],
        [6n, 8, 2],
        [7n, 8, 1],
      ])
    })

    it('finds streams ready, and files with what is left in them', () => {
      const fd = program.open('file', { oflags: OFLAGS.CREAT }) as number
      program.write(fd, 'abcdef')
      program.seek(fd, 2n, 0)
      expect(
        poll({ type: 1, fd }, { type: 2, fd }, { type: 1, fd: 0 }, { type: 2, fd: 1 }, { type: 2, fd: 2 }),
      ).toEqual(
        [4n, 1n, 1n, 1n, 1n].map((bytes, n) => ({
          userdata: BigInt(n),
          errno: 0,
          type: [1, 2, 1, 2, 2][n],
          bytes,
          flags: 0,
        })),
      )
      program.seek(fd, 0n, 2)
      expect(poll({ type: 1, fd })).toMatchObject([{ bytes: 0n, flags: 1 }])
    })

    it('of a descriptor that gave the right up is ENOTCAPABLE in the event', () => {
      const fd = program.open('file', { oflags: OFLAGS.CREAT }) as number
      program.call('fd_fdstat_set_rights', fd, BigInt(RIGHTS.FD_READ), 0n)
      expect(poll({ type: 1, fd })).toMatchObject([{ errno: 76 }])
    })
  })
})
