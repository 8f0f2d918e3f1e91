import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { blobCid, isBlobCid } from '../../src/model/index.js'
import type { BlobStore } from '../../src/ports/index.js'
import { openBlobStore } from '../../src/stores/index.js'

let dir: string
let nowMs = 1_700_000_000_000
let needed: string[] = []
const damaged: string[] = []
const clock = { now: () => nowMs, sleep: async () => {} }

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-blobs-'))
  needed = []
  damaged.length = 0
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const open = (totalBytesMax = 10_000, holdingsMax = 1_000): Promise<BlobStore> =>
  openBlobStore({
    dir,
    clock,
    needed: async () => new Set(needed),
    limits: { blobBytesMax: 1_000, totalBytesMax, holdingsMax },
    onDamage: (cid) => damaged.push(cid),
  })
const cidOf = (content: Uint8Array): string => blobCid(createHash('sha256').update(content).digest())

async function* inPieces(content: Uint8Array, size = 100): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size)
}

async function put(store: BlobStore, content: Uint8Array, namespace = 'default'): Promise<string> {
  return (await store.put(namespace, cidOf(content), inPieces(content))).cid
}

describe('the CID of a blob', () => {
  it('is the one that IPFS gives the same bytes as a raw block', () => {
    expect(cidOf(Buffer.alloc(0))).toBe('bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku')
    expect(cidOf(Buffer.from('hello world'))).toBe(
      'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
    )
  })

  it('has one spelling: every other text is none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(58), (sha256, at) => {
        const cid = blobCid(sha256)
        expect(isBlobCid(cid)).toBe(true)
        expect(isBlobCid(cid.toUpperCase())).toBe(false)
        expect(isBlobCid(cid.slice(0, at))).toBe(false)
        // The two unused bits at the end would make four texts of one content.
        expect(isBlobCid(`${cid.slice(0, -1)}b`)).toBe(false)
      }),
      { numRuns: 50 },
    )
  })
})

describe('the store of blobs', () => {
  it('keeps what was uploaded, also over a restart', async () => {
    const content = randomBytes(777)
    const cid = await put(await open(), content)
    const store = await open()
    expect(await store.find('default', cid)).toMatchObject({ cid, bytes: 777 })
    const read = await store.open('default', cid)
    expect(await buffer(read?.stream as NodeJS.ReadableStream)).toEqual(content)
    expect((await store.readPiece(cid, 700, 500))?.data).toEqual(content.subarray(700))
    expect(await store.readPiece(cid, 900, 500)).toMatchObject({ data: Buffer.alloc(0), bytes: 777 })
  })

  it('shows a namespace nothing of another one, although the bytes are there once', async () => {
    const store = await open()
    const content = randomBytes(50)
    const cid = await put(store, content, 'theirs')
    expect(await store.find('mine', cid)).toBeUndefined()
    expect(await store.open('mine', cid)).toBeUndefined()
    expect(store.list('mine')).toEqual([])
    await put(store, content, 'mine')
    expect(await store.find('mine', cid)).toMatchObject({ cid })
    expect(await readdir(join(dir, 'content'))).toEqual([cid])
  })

  it('takes no content that is not what its CID names, and leaves nothing of it', async () => {
    const store = await open()
    const cid = cidOf(Buffer.from('one'))
    await expect(store.put('default', cid, inPieces(Buffer.from('two')))).rejects.toMatchObject({
      code: 'blob.mismatch',
    })
    await expect(store.put('default', cid, inPieces(randomBytes(1_001)))).rejects.toMatchObject({
      code: 'blob.too_large',
    })
    const broken = (async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('on')
      throw new Error('the connection was cut')
    })()
    await expect(store.put('default', cid, broken)).rejects.toThrow('Cannot store the upload')
    expect(await store.find('default', cid)).toBeUndefined()
    expect([await readdir(join(dir, 'content')), await readdir(join(dir, 'incoming'))]).toEqual([[], []])
  })

  it('removes what a crash left half-written or without an owner', async () => {
    const cid = await put(await open(), randomBytes(10))
    await writeFile(join(dir, 'incoming/half'), 'x')
    const orphan = cidOf(Buffer.from('orphan'))
    await writeFile(join(dir, 'content', orphan), 'orphan')
    await open()
    expect([await readdir(join(dir, 'content')), await readdir(join(dir, 'incoming'))]).toEqual([[cid], []])
  })

  it('forgets content that was damaged on the disk, so that it is uploaded again', async () => {
    const content = randomBytes(500)
    const cid = await put(await open(), content)
    await truncate(join(dir, 'content', cid), 499)
    const store = await open()
    expect(await store.find('default', cid)).toBeUndefined()
    expect(await store.readPiece(cid, 0, 10)).toBeUndefined()
    expect(damaged).toEqual([cid])
    await put(store, content)
    expect(await store.find('default', cid)).toMatchObject({ bytes: 500 })
  })

  it('makes room by what was not used for longest, and never by what jobs need', async () => {
    const store = await open(1_000)
    const first = await put(store, randomBytes(300))
    nowMs += 3_600_000
    const second = await put(store, randomBytes(300))
    nowMs += 3_600_000
    const third = await put(store, randomBytes(300))
    nowMs += 3_600_000
    needed = [first]
    const fourth = await put(store, randomBytes(300))
    expect(store.list('default').map(({ cid }) => cid)).toEqual([fourth, third, first])
    expect(await store.find('default', second)).toBeUndefined()
    needed = [first, third, fourth]
    nowMs += 3_600_000
    await expect(put(store, randomBytes(300))).rejects.toMatchObject({ code: 'blob.full', retryable: true })
    // Asked about a moment ago: a job that names it may be on its way.
    needed = [third, fourth]
    await store.find('default', first)
    await expect(put(store, randomBytes(300))).rejects.toMatchObject({ code: 'blob.full' })
  })

  it('makes room in the namespace that holds more than half before it takes from others', async () => {
    const store = await open(1_000)
    const small = await put(store, randomBytes(200), 'small')
    nowMs += 3_600_000
    const large = [await put(store, randomBytes(400), 'large'), await put(store, randomBytes(400), 'large')]
    nowMs += 3_600_000
    await put(store, randomBytes(300), 'large')
    expect(await store.find('small', small)).toMatchObject({ cid: small })
    expect(await store.find('large', large[0] ?? '')).toBeUndefined()
  })

  it('counts contents as it counts bytes: many small ones push out nobody else', async () => {
    const store = await open(10_000, 4)
    const other = await put(store, randomBytes(200), 'other')
    nowMs += 3_600_000
    const many = []
    for (let index = 0; index < 5; index++) {
      many.push(await put(store, randomBytes(8), 'many'))
      nowMs += 3_600_000
    }
    expect(await store.find('other', other)).toMatchObject({ cid: other })
    expect(store.list('many').map(({ cid }) => cid)).toEqual(many.slice(2).reverse())
  })

  it('takes a bounded number of uploads at a time, and not all of one namespace', async () => {
    const store = await open()
    let letGo = (): void => {}
    const waiting = new Promise<void>((resolve) => (letGo = resolve))
    const slow = async function* (content: Buffer): AsyncGenerator<Uint8Array> {
      await waiting
      yield content
    }
    const contents = Array.from({ length: 9 }, () => randomBytes(10))
    const uploads = contents.map((content) => store.put('greedy', cidOf(content), slow(content)))
    await expect(uploads[8]).rejects.toMatchObject({ code: 'api.overload' })
    await put(store, randomBytes(10), 'other')
    letGo()
    expect((await Promise.allSettled(uploads)).filter(({ status }) => status === 'fulfilled')).toHaveLength(8)
  })
})
