import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { Failure } from '../../../src/executors/wasm/sandbox/component/faults.js'
import { HttpClient } from '../../../src/executors/wasm/sandbox/http/http-client.js'
import { hostInterfaces } from '../../../src/executors/wasm/sandbox/wasi2/host.js'
import { isWasi2Function, wasi2Provider } from '../../../src/model/wasi-preview2.js'
import { WasiProgram, type WasiProgramOptions } from './wasi-program.js'

type Call = (...args: unknown[]) => unknown
const open: WasiProgram[] = []
afterEach(() => {
  for (const one of open.splice(0)) one.remove()
})

/** The host functions on directories of this machine. A call answers with its value, or with what failed. */
function host(options: WasiProgramOptions = {}) {
  const program = new WasiProgram(options)
  open.push(program)
  const interfaces = hostInterfaces(program.state, new HttpClient(undefined))
  const call = (interfaceName: string, name: string, ...args: unknown[]): unknown => {
    const found = interfaces[interfaceName]
    try {
      return (found?.functions[name] as Call | undefined)?.(...args)
    } catch (error) {
      const failure = error instanceof Failure ? error : found?.failureOf?.(error)
      if (failure === undefined) throw error
      return `err ${JSON.stringify(failure.value)}`
    }
  }
  const files = (name: string, ...args: unknown[]): unknown =>
    call('wasi:filesystem/types', name.includes('.') ? `[method]${name}` : name, ...args)
  const directories = call('wasi:filesystem/preopens', 'get-directories') as [unknown, string][]
  const openAt = (path: string, how: string[], flags: string[], from = directories[0]?.[0]): unknown =>
    files('descriptor.open-at', from, new Set(['symlink-follow']), path, new Set(how), new Set(flags))
  return { program, call, files, openAt, directories, root: directories[0]?.[0] }
}

describe('WASI 0.2 on the WASI host of the sandbox', () => {
  it('has exactly the functions that validation promises', () => {
    const { program } = host()
    for (const [name, { functions }] of Object.entries(
      hostInterfaces(program.state, new HttpClient(undefined)),
    )) {
      expect(wasi2Provider(name), name).toContain('WASI 0.2')
      for (const one of Object.keys(functions))
        expect(isWasi2Function(name, one), `${name}#${one}`).toBe(true)
    }
  })

  it('never leaves the opened directory: by dots, by absolute paths, by links of others or of its own', () => {
    const { program, openAt, files, root } = host()
    writeFileSync(join(program.base, 'secret'), 'secret')
    symlinkSync('../secret', join(program.work, 'out'))
    symlinkSync(join(program.base, 'secret'), join(program.work, 'absolute'))
    for (const path of ['../secret', `${program.base}/secret`, 'out', 'absolute', 'a/../../secret'])
      expect(openAt(path, [], ['read']), path).toMatch(/^err "(?:not-permitted|no-entry)"$/)
    mkdirSync(join(program.work, 'deep'))
    expect(files('descriptor.symlink-at', root, '..', 'deep/up')).toBeUndefined()
    expect(files('descriptor.symlink-at', root, 'deep/up/..', 'top')).toBeUndefined()
    expect(openAt('top/secret', [], ['read'])).toBe('err "not-permitted"')
    const deep = openAt('deep', ['directory'], ['read'])
    expect(openAt('up/out', [], ['read'], deep)).toBe('err "not-permitted"')
    expect(files('descriptor.readlink-at', root, 'absolute')).toBe('err "not-permitted"')
  })

  it('writes only where the job may, within its disk limit, and says what failed in the words of WASI 0.2', () => {
    const { program, openAt, files, call, directories } = host({
      mounts: [
        { target: '/in', writable: false },
        { target: '/out', writable: true },
      ],
      diskBytes: 10,
    })
    const [readOnly, writable] = directories.map(([one]) => one)
    expect(directories.map(([, name]) => name)).toEqual(['/in', '/out'])
    expect(openAt('new', ['create'], ['write'], readOnly)).toBe('err "read-only"')
    const file = openAt('new', ['create'], ['read', 'write'], writable)
    expect(files('descriptor.write', file, Buffer.from('12345678'), 0n)).toBe(8n)
    expect(files('descriptor.write', file, Buffer.from('12345678'), 8n)).toBe(2n)
    expect(files('descriptor.write', file, Buffer.from('1'), 10n)).toBe('err "insufficient-space"')
    const stream = files('descriptor.append-via-stream', file)
    const failed = call('wasi:io/streams', '[method]output-stream.write', stream, Buffer.from('x'))
    expect(failed).toContain('last-operation-failed')
    expect(readFileSync(join(program.dirs['/out'] ?? '', 'new'), 'utf8')).toBe('1234567812')
    expect(openAt('new', ['create', 'exclusive'], ['write'], writable)).toBe('err "exist"')
    expect(openAt('new', ['directory'], ['read'], writable)).toBe('err "not-directory"')
    expect(openAt('.', [], ['write'], writable)).toBe('err "is-directory"')
  })

  it('reads by streams that end with their file, and never another file that has its number', () => {
    const { program, openAt, files, call } = host()
    writeFileSync(join(program.work, 'a'), 'abcdef')
    writeFileSync(join(program.work, 'b'), 'secret')
    const file = openAt('a', [], ['read'])
    const stream = files('descriptor.read-via-stream', file, 1n)
    const read = (length: bigint): unknown => {
      const answer = call('wasi:io/streams', '[method]input-stream.blocking-read', stream, length)
      return answer instanceof Uint8Array ? Buffer.from(answer).toString() : answer
    }
    expect([read(2n), read(2n)]).toEqual(['bc', 'de'])
    const { drop } = file as { drop(): void }
    drop.call(file)
    openAt('b', [], ['read'])
    expect(read(9n)).toBe('err {"tag":"closed"}')
    const again = files('descriptor.read-via-stream', openAt('a', [], ['read']), 6n)
    expect(call('wasi:io/streams', '[method]input-stream.read', again, 9n)).toBe('err {"tag":"closed"}')
    expect(call('wasi:io/streams', '[method]input-stream.read', again, 0n)).toEqual(new Uint8Array(0))
  })

  it('tells of files what they are, and lists directories without the dots', () => {
    const { program, openAt, files, root } = host()
    writeFileSync(join(program.work, 'a'), 'abc')
    mkdirSync(join(program.work, 'd'))
    writeFileSync(Buffer.concat([Buffer.from(`${program.work}/d/`), Buffer.from([0xff])]), '')
    const times = [{ tag: 'timestamp', value: { seconds: 7n, nanoseconds: 9 } }, { tag: 'no-change' }]
    expect(files('descriptor.set-times-at', root, new Set(), 'a', ...times)).toBeUndefined()
    expect(files('descriptor.stat-at', root, new Set(), 'a')).toMatchObject({
      type: 'regular-file',
      size: 3n,
      'data-access-timestamp': { tag: 'some', value: { seconds: 7n, nanoseconds: 9 } },
    })
    const listing = files('descriptor.read-directory', root)
    const entries = [1, 2, 3].map(() => files('directory-entry-stream.read-directory-entry', listing))
    expect(entries).toContainEqual({ tag: 'some', value: { type: 'directory', name: 'd' } })
    expect(entries).toContainEqual({ tag: 'some', value: { type: 'regular-file', name: 'a' } })
    expect(entries[2]).toEqual({ tag: 'none' })
    const odd = files('descriptor.read-directory', openAt('d', ['directory'], ['read']))
    expect(files('directory-entry-stream.read-directory-entry', odd)).toBe('err "illegal-byte-sequence"')
    const [one, other] = [openAt('a', [], ['read']), openAt('./d/../a', [], ['read'])]
    expect(files('descriptor.is-same-object', one, other)).toBe(true)
    expect(files('descriptor.is-same-object', one, root)).toBe(false)
  })

  it('waits for clocks, and answers which of several were first', () => {
    const { call } = host()
    const timer = (ms: number): unknown =>
      call('wasi:clocks/monotonic-clock', 'subscribe-duration', BigInt(ms) * 1_000_000n)
    const before = call('wasi:clocks/monotonic-clock', 'now') as bigint
    expect(call('wasi:io/poll', 'poll', [timer(60_000), timer(5)])).toEqual([1])
    expect((call('wasi:clocks/monotonic-clock', 'now') as bigint) - before).toBeGreaterThanOrEqual(5_000_000n)
    expect(() => call('wasi:io/poll', 'poll', [])).toThrow('wait for nothing')
  })

  it('opens no more files than the job may have', () => {
    const { openAt } = host({ openFilesMax: 6 })
    const opened = Array.from({ length: 4 }, (_, index) => openAt(`f${index}`, ['create'], ['write']))
    expect(opened.filter((one) => one === 'err "quota"')).toHaveLength(2)
  })
})
