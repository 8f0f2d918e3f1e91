import { createHash, randomBytes } from 'node:crypto'
import { appendFile, mkdtemp, readdir, readFile, rm, utimes } from 'node:fs/promises'
import { mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import { blobCid } from '../../src/model/index.js'
import { blobSource, type BlobSourceOptions } from '../../src/sources/index.js'

let dir: string
let asked: number[]
let runs = 0
const never = new AbortController().signal
const clock = { now: () => Date.now(), sleep: async () => {} }

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-blob-source-'))
  asked = []
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const cidOf = (content: Uint8Array): string => blobCid(createHash('sha256').update(content).digest())
const inputOf = (cid: string) => ({
  Source: { Type: 'blob', Params: { CID: cid } },
  Alias: '',
  Target: '/wasm/main.wasm',
})

function sourceOf(content: Uint8Array, more: Partial<BlobSourceOptions> = {}) {
  return blobSource({
    cacheDir: join(dir, 'cache'),
    cacheBytesMax: 4_000_000,
    clock,
    readPiece: async (_cid, offset, bytesMax) => {
      asked.push(offset)
      return { data: content.subarray(offset, offset + bytesMax), bytes: content.length }
    },
    ...more,
  })
}

async function fetchBlob(source: ReturnType<typeof sourceOf>, cid: string, bytesMax = 1e9): Promise<Buffer> {
  const into = join(dir, `run-${runs++}`)
  mkdirSync(into)
  const [volume] = await source.fetch(inputOf(cid), into, { bytesMax }, never)
  expect(volume).toMatchObject({
    hostPath: join(into, 'main.wasm'),
    target: '/wasm/main.wasm',
    writable: false,
  })
  return readFile(volume?.hostPath ?? '')
}

describe('a blob input', () => {
  it('is fetched piece by piece, and from the cache of the node the next time', async () => {
    const content = randomBytes(1_300_000)
    const source = sourceOf(content)
    // Not toEqual: it looks at every byte by itself.
    expect(content.equals(await fetchBlob(source, cidOf(content)))).toBe(true)
    expect(asked).toEqual([0, 524_288, 1_048_576])
    expect(content.equals(await fetchBlob(source, cidOf(content)))).toBe(true)
    expect(await source.measure(inputOf(cidOf(content)), never)).toBe(1_300_000)
    expect(asked).toHaveLength(3)
  })

  it('that was damaged in the cache is fetched again', async () => {
    const content = randomBytes(1_000)
    const source = sourceOf(content)
    await fetchBlob(source, cidOf(content))
    await appendFile(join(dir, 'cache', cidOf(content)), 'x')
    expect(await fetchBlob(source, cidOf(content))).toEqual(content)
    expect(await fetchBlob(source, cidOf(content))).toEqual(content)
    expect(asked).toHaveLength(2)
  })

  it('is refused when the network hands out other content', async () => {
    const source = sourceOf(Buffer.from('something else'))
    await expect(fetchBlob(source, cidOf(Buffer.from('asked for')))).rejects.toMatchObject({
      code: 'source.checksum',
    })
    expect(await readdir(join(dir, `run-${runs - 1}`))).toEqual([])
  })

  it('larger than the run may have is refused', async () => {
    const content = randomBytes(1_000)
    await expect(fetchBlob(sourceOf(content), cidOf(content), 999)).rejects.toMatchObject({
      code: 'source.too_large',
    })
  })

  it('is asked for again when the orchestrator does not answer, but not for ever', async () => {
    const content = randomBytes(10)
    let failures = 0
    const away = new WeirError('transport.timeout', 'no answer', { retryable: true })
    const shaky = sourceOf(content, {
      readPiece: async () => {
        if (failures++ < 3) throw away
        return { data: content, bytes: content.length }
      },
    })
    expect(await fetchBlob(shaky, cidOf(content))).toEqual(content)
    const dead = sourceOf(content, { cacheDir: join(dir, 'other'), readPiece: () => Promise.reject(away) })
    await expect(fetchBlob(dead, cidOf(content))).rejects.toBe(away)
  })

  it('makes room in the cache by what was not used for longest', async () => {
    const contents = [randomBytes(400), randomBytes(400), randomBytes(400)]
    const byCid = new Map(contents.map((content) => [cidOf(content), content]))
    const source = sourceOf(Buffer.alloc(0), {
      cacheBytesMax: 1_000,
      readPiece: async (cid) => ({ data: byCid.get(cid) ?? Buffer.alloc(0), bytes: 400 }),
    })
    const [first = '', second = '', third = ''] = byCid.keys()
    await fetchBlob(source, first)
    await fetchBlob(source, second)
    await utimes(join(dir, 'cache', first), 1_000, 1_000)
    await utimes(join(dir, 'cache', second), 2_000, 2_000)
    await fetchBlob(source, first)
    await fetchBlob(source, third)
    expect(new Set(await readdir(join(dir, 'cache')))).toEqual(new Set([first, third]))
  })

  it.each(['', 'Qmajb9T3jBdMSp7xh2JruNrqg3hniCnM6EUVsBocARPJRQ', '../../etc/passwd'])(
    'with the CID %j is not admitted',
    async (cid) => {
      expect(await sourceOf(Buffer.alloc(0)).admit(inputOf(cid))).toHaveLength(1)
      await expect(fetchBlob(sourceOf(Buffer.alloc(0)), cid)).rejects.toMatchObject({
        code: 'source.refused',
      })
    },
  )
})
