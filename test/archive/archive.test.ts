import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { pack as newPack, type Header } from 'tar-stream'
import fc from 'fast-check'
import { packTar, unpackTarGz, type UnpackOptions } from '../../src/archive/index.js'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-archive-'))
  await mkdir(join(dir, 'out'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const never = new AbortController().signal

function unpack(bytes: Uint8Array, more: Partial<UnpackOptions> = {}) {
  return unpackTarGz(Readable.from([bytes]), {
    into: join(dir, 'out'),
    bytesMax: 1_000_000,
    entriesMax: 100,
    what: 'the test',
    codes: { unsafe: 'results.unsafe', corrupt: 'results.corrupt', tooLarge: 'source.too_large' },
    signal: never,
    ...more,
  })
}

function pack(path: string, more: Partial<Parameters<typeof packTar>[0]> = {}) {
  return packTar({
    path,
    bytesMax: 1_000_000,
    entriesMax: 1000,
    what: 'the test',
    codes: { failed: 'publisher.failed', tooLarge: 'publisher.quota' },
    signal: never,
    ...more,
  })
}

/** A gzipped tar of entries that no packer of ours would write. */
async function archive(...entries: (Partial<Header> & { name: string; body?: string })[]): Promise<Buffer> {
  const tar = newPack()
  for (const { body, ...header } of entries) {
    if (body === undefined) tar.entry(header).end(null)
    else tar.entry(header, body)
  }
  tar.finalize()
  return gzipSync(await buffer(Readable.from(tar)))
}

describe('unpacking', () => {
  it('gives back what was packed, with executable bits, odd names, long names and empty directories', async () => {
    const source = join(dir, 'in')
    const long = 'x'.repeat(255)
    await mkdir(join(source, 'a', 'empty'), { recursive: true })
    await writeFile(join(source, 'a', 'line\nbreak'), 'one')
    await writeFile(join(source, 'a', '\u202egnp.exe'), 'two')
    await writeFile(join(source, long), 'three')
    await writeFile(join(source, '..%2fup'), '')
    await writeFile(join(source, '-rf'), 'x'.repeat(300_000))
    await chmod(join(source, '-rf'), 0o4755)
    const result = await unpack(gzipSync(await buffer(await pack(source))))
    expect(result.files.toSorted()).toEqual(
      ['-rf', '..%2fup', long, 'a/line\nbreak', 'a/\u202egnp.exe'].toSorted(),
    )
    expect(result.bytes).toBe(300_011)
    expect(await readFile(join(dir, 'out', 'a', 'line\nbreak'), 'utf8')).toBe('one')
    expect(await readFile(join(dir, 'out', long), 'utf8')).toBe('three')
    expect(await readdir(join(dir, 'out', 'a', 'empty'))).toEqual([])
    expect((await stat(join(dir, 'out', '-rf'))).mode & 0o7777).toBe(0o755)
  })

  it('unpacks only what is selected', async () => {
    const bytes = await archive({ name: 'stdout', body: 'a' }, { name: 'outputs/x', body: 'b' })
    const result = await unpack(bytes, { select: (path) => path.startsWith('outputs/') })
    expect(result).toEqual({ files: ['outputs/x'], bytes: 2, roots: ['stdout', 'outputs'] })
    expect(await readdir(join(dir, 'out'))).toEqual(['outputs'])
  })

  it.each([
    ['an absolute path', { name: '/etc/evil', body: 'x' }, /absolute/],
    ['a path upwards', { name: 'a/../../evil', body: 'x' }, /upwards/],
    ['a symbolic link', { name: 'a', type: 'symlink', linkname: '/etc' }, /symbolic link/],
    ['a hard link', { name: 'a', type: 'link', linkname: '/etc/passwd' }, /hard link/],
    ['a device', { name: 'a', type: 'character-device', devmajor: 1, devminor: 3 }, /device/],
    ['a named pipe', { name: 'a', type: 'fifo' }, /named pipe/],
    ['a name of 256 bytes', { name: 'y'.repeat(256), body: 'x' }, /longer than 255 bytes/],
    ['a path of 300 directories', { name: `${'d/'.repeat(300)}f`, body: 'x' }, /deeper than 256/],
  ] as const)('refuses %s and writes nothing outside', async (_what, entry, message) => {
    const bytes = await archive(entry)
    await expect(unpack(bytes)).rejects.toMatchObject({
      code: 'results.unsafe',
      message: expect.stringMatching(message),
    })
    expect(await readdir(dir)).toEqual(['out'])
    expect(await readdir(join(dir, 'out'))).toEqual([])
  })

  it('refuses a second entry with the same name and a file in place of a directory', async () => {
    await expect(
      unpack(await archive({ name: 'a', body: '1' }, { name: './a', body: '2' })),
    ).rejects.toMatchObject({ code: 'results.unsafe' })
    await rm(join(dir, 'out', 'a'))
    await expect(
      unpack(await archive({ name: 'a', body: '1' }, { name: 'a/b', body: '2' })),
    ).rejects.toMatchObject({ code: 'results.unsafe' })
  })

  it('does not write through a link that was there before', async () => {
    await symlink(tmpdir(), join(dir, 'out', 'a'))
    await expect(unpack(await archive({ name: 'a/weir-evil', body: '2' }))).rejects.toMatchObject({
      code: 'results.unsafe',
    })
  })

  it('stops at the limit of bytes, also for one highly compressed file and for entries that are not selected', async () => {
    const bomb = await archive({ name: 'bomb', body: '\0'.repeat(3_000_000) })
    expect(bomb.length).toBeLessThan(5000)
    await expect(unpack(bomb)).rejects.toMatchObject({ code: 'source.too_large' })
    await expect(unpack(bomb, { select: () => false })).rejects.toMatchObject({ code: 'source.too_large' })
  })

  it('stops when the archive is endless although it holds no files', async () => {
    const zeros = gzipSync(Buffer.alloc(40_000_000))
    await expect(unpack(zeros)).rejects.toMatchObject({ code: 'source.too_large' })
  })

  it('stops at the limit of entries, counting directories that are only implied', async () => {
    const many = Array.from({ length: 60 }, (_, i) => ({ name: `d${i}/f`, body: '' }))
    await expect(unpack(await archive(...many))).rejects.toMatchObject({ code: 'source.too_large' })
  })

  it('calls a cut or damaged archive damaged', async () => {
    const bytes = await archive({ name: 'a', body: 'x'.repeat(10_000) + Math.random() })
    await expect(unpack(bytes.subarray(0, bytes.length - 20))).rejects.toMatchObject({
      code: 'results.corrupt',
    })
    await rm(join(dir, 'out', 'a'), { force: true })
    await expect(unpack(Buffer.from('this is no gzip'))).rejects.toMatchObject({ code: 'results.corrupt' })
    await expect(unpack(gzipSync('this is no tar'.repeat(100)))).rejects.toMatchObject({
      code: 'results.corrupt',
    })
  })

  it('ends with the reason of the signal', async () => {
    const stop = AbortSignal.abort(new Error('enough'))
    await expect(unpack(await archive({ name: 'a', body: 'x' }), { signal: stop })).rejects.toThrow('enough')
  })

  it('never crashes, hangs or escapes on mutated archives', async () => {
    const good = gunzipSync(
      await archive({ name: 'a/b', body: 'hello' }, { name: 'c', body: 'x'.repeat(600) }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        async (changes) => {
          await rm(join(dir, 'out'), { recursive: true })
          await mkdir(join(dir, 'out'))
          const bytes = Buffer.from(good)
          for (const [at, value] of changes) bytes[at] = value
          await unpack(gzipSync(bytes)).catch((error: { code?: string }) => {
            expect(['results.unsafe', 'results.corrupt', 'source.too_large']).toContain(error.code)
          })
          expect(await readdir(dir)).toEqual(['out'])
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe('packing', () => {
  it('gives the same bytes for the same content, whatever the times and the order of creation', async () => {
    const hash = async (names: string[]) => {
      const source = join(dir, `in-${names.join('')}`)
      await mkdir(source)
      for (const name of names) await writeFile(join(source, name), name)
      return createHash('sha256')
        .update(await buffer(await pack(source)))
        .digest('hex')
    }
    expect(await hash(['a', 'b', 'c'])).toBe(await hash(['c', 'a', 'b']))
  })

  it('packs one file as the only entry', async () => {
    await writeFile(join(dir, 'main.wasm'), 'module')
    const result = await unpack(gzipSync(await buffer(await pack(join(dir, 'main.wasm')))))
    expect(result.files).toEqual(['main.wasm'])
  })

  it('refuses links and whatever is no file', async () => {
    await symlink('/etc/passwd', join(dir, 'link'))
    await expect(buffer(await pack(dir))).rejects.toMatchObject({
      code: 'publisher.failed',
      message: expect.stringContaining('"link"'),
    })
  })

  it('stops at its limits', async () => {
    await writeFile(join(dir, 'big'), 'x'.repeat(2000))
    await expect(buffer(await pack(dir, { bytesMax: 1000 }))).rejects.toMatchObject({
      code: 'publisher.quota',
    })
    await expect(buffer(await pack(dir, { entriesMax: 1 }))).rejects.toMatchObject({
      code: 'publisher.quota',
    })
  })
})
