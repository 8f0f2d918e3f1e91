import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { pack } from 'tar-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { inlineSource } from '../../src/sources/index.js'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-inline-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const never = new AbortController().signal
const source = inlineSource()
const input = (URL: unknown) => ({
  Source: { Type: 'inline', Params: { URL } },
  Alias: '',
  Target: '/inputs/x',
})
const fetchInline = (url: unknown, bytesMax = 1_000_000) => source.fetch(input(url), dir, { bytesMax }, never)

async function archive(entries: Parameters<ReturnType<typeof pack>['entry']>[0][], body = 'x') {
  const tar = pack()
  for (const entry of entries) {
    if (entry.type === 'symlink') tar.entry(entry).end(null)
    else tar.entry(entry, body)
  }
  tar.finalize()
  const bytes = gzipSync(await buffer(Readable.from(tar)))
  return `data:application/gzip;base64,${bytes.toString('base64')}`
}

describe('an inline input', () => {
  it.each([
    ['data:,hello%20there', 'hello there'],
    ['data:text/plain;charset=utf-8,gr%C3%BC%C3%9Fe', 'grüße'],
    ['data:;base64,aGVsbG8=', 'hello'],
    ['DATA:text/plain;BASE64,aGVsbG8', 'hello'],
    ['data:;base64,aGVsbG8%3D', 'hello'],
    ['data:,', ''],
  ])('%s becomes a read-only file at the target', async (url, content) => {
    const [volume] = await fetchInline(url)
    expect(volume).toMatchObject({ target: '/inputs/x', writable: false })
    expect(await readFile(volume?.hostPath ?? '', 'utf8')).toBe(content)
  })

  it('that is a gzipped tar becomes a directory at the target', async () => {
    const [volume] = await fetchInline(await archive([{ name: 'a/b.txt' }, { name: 'c' }]))
    expect(volume?.target).toBe('/inputs/x')
    expect(await readdir(volume?.hostPath ?? '')).toEqual(['a', 'c'])
    expect(await readFile(join(volume?.hostPath ?? '', 'a/b.txt'), 'utf8')).toBe('x')
  })

  it('with a link or a path upwards is refused', async () => {
    await expect(
      fetchInline(await archive([{ name: 'l', type: 'symlink', linkname: '/etc' }])),
    ).rejects.toMatchObject({ code: 'source.refused' })
    await rm(join(dir, 'unpacked'), { recursive: true })
    await expect(fetchInline(await archive([{ name: '../up' }]))).rejects.toMatchObject({
      code: 'source.refused',
    })
    expect(await readdir(join(dir, '..'))).not.toContain('up')
  })

  it('that is larger than the run allows is refused, packed or not', async () => {
    await expect(fetchInline(`data:,${'x'.repeat(101)}`, 100)).rejects.toMatchObject({
      code: 'source.too_large',
    })
    await expect(
      fetchInline(await archive([{ name: 'a' }], '\0'.repeat(2_000_000)), 1_000_000),
    ).rejects.toMatchObject({ code: 'source.too_large' })
  })

  it('that is damaged says so', async () => {
    await expect(fetchInline('data:application/gzip;base64,aGVsbG8=')).rejects.toMatchObject({
      code: 'source.unavailable',
    })
  })

  it.each([undefined, 7, '', 'hello', 'data:hello', 'data:;base64,a', 'data:;base64,a*b', 'data:,%zz'])(
    '%s is refused at admission and at the run',
    async (url) => {
      expect(await source.admit(input(url))).toHaveLength(1)
      await expect(fetchInline(url)).rejects.toMatchObject({ code: 'source.refused' })
    },
  )

  it('has a size before it is decoded', async () => {
    expect(await source.measure(input('data:;base64,aGVsbG8='), never)).toBe(5)
    expect(await source.measure(input(await archive([{ name: 'a' }])), never)).toBeUndefined()
  })

  it('round-trips any bytes in both encodings', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const escaped = Array.from(bytes, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
        for (const url of [`data:,${escaped}`, `data:;base64,${Buffer.from(bytes).toString('base64')}`]) {
          const [volume] = await fetchInline(url)
          const path = volume?.hostPath ?? ''
          expect((await readFile(path)).equals(Buffer.from(bytes))).toBe(true)
          await rm(path)
        }
      }),
      { numRuns: 30 },
    )
  })
})
