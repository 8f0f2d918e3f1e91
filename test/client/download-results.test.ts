import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { pack, type Header } from 'tar-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  downloadResults,
  type DownloadOptions,
  type DownloadProgress,
} from '../../src/client/download/download-results.js'
import { localPublisher } from '../../src/publishers/index.js'

let dir = ''
let out = ''
let base = ''
let handler: (request: IncomingMessage, response: ServerResponse) => void = () => undefined
const server = createServer((request, response) => handler(request, response))
const served = new Map<string, Buffer>()
let requests: { path: string; range: string | undefined }[] = []

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-download-'))
  out = join(dir, 'job-1')
  served.clear()
  requests = []
  handler = (request, response) => {
    requests.push({ path: request.url ?? '', range: request.headers.range })
    const body = served.get(request.url ?? '')
    if (body === undefined) return response.writeHead(404).end()
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const range = { 'Content-Range': `bytes ${from}-${body.length - 1}/${body.length}` }
    response.writeHead(from === 0 ? 200 : 206, from === 0 ? {} : range).end(body.subarray(from))
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterEach(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await rm(dir, { recursive: true, force: true })
})

type Entries = Record<string, string> | (Partial<Header> & { name: string })[]

async function archive(entries: Entries): Promise<Buffer> {
  const tar = pack()
  if (Array.isArray(entries)) for (const header of entries) tar.entry(header).end(null)
  else for (const [name, body] of Object.entries(entries)) tar.entry({ name }, body)
  tar.finalize()
  return gzipSync(await buffer(Readable.from(tar)))
}

/** Serves a result and returns what the API would list for it. */
async function result(name: string, entries: Entries | Uint8Array, verified = true) {
  const body = entries instanceof Uint8Array ? Buffer.from(entries) : await archive(entries)
  served.set(`/secret/${name}`, body)
  const SHA256 = createHash('sha256').update(body).digest('hex')
  const URL = `${base}/secret/${name}`
  return { Type: 'urlDownload', Params: verified ? { URL, SHA256, Bytes: body.length } : { URL } }
}

const get = (items: Parameters<typeof downloadResults>[0], more: Partial<DownloadOptions> = {}) =>
  downloadResults(items, {
    outputDir: out,
    raw: false,
    signal: new AbortController().signal,
    ...more,
    limits: { backoffMs: 1, ...more.limits },
  })
const text = (...path: string[]) => readFile(join(out, ...path), 'utf8')
const logs = { stdout: 'out\n', stderr: '', exitCode: '0' }

describe('one result', () => {
  it('of the local publisher arrives whole and verified', async () => {
    await mkdir(join(dir, 'result', 'outputs'), { recursive: true })
    await writeFile(join(dir, 'result', 'stdout'), 'hello')
    await writeFile(join(dir, 'result', 'outputs', 'model.bin'), randomBytes(500_000))
    const publisher = await localPublisher({
      dir: join(dir, 'shelf'),
      listen: { host: '127.0.0.1', port: 0 },
      retentionMs: 60_000,
      quotaBytes: 10_000_000,
      clock: { now: () => Date.now(), sleep: async () => undefined },
    })
    try {
      const from = { nodeId: 'n', jobId: 'j', executionId: 'e-1', dir: join(dir, 'result') }
      const item = await publisher.publish(from, { Type: 'local' }, new AbortController().signal)
      const progress: DownloadProgress[] = []
      const { files } = await get([item, { Type: '' }], { onProgress: (report) => progress.push(report) })
      expect(files).toEqual(['outputs/model.bin', 'stdout'])
      expect(await text('stdout')).toBe('hello')
      expect((await readFile(join(out, 'outputs', 'model.bin'))).length).toBe(500_000)
      const bytes = item.Params?.Bytes
      expect(progress.at(-1)).toEqual({ results: 1, finished: 1, receivedBytes: bytes, totalBytes: bytes })
      expect((await readdir(out)).toSorted()).toEqual(['outputs', 'stdout'])
    } finally {
      await publisher.close()
    }
  })

  it('without checksum, size and Content-Length arrives as well, as from other servers', async () => {
    const item = await result('e-1.tgz', logs, false)
    expect((await get([item])).files).toEqual(['exitCode', 'stderr', 'stdout'])
  })

  it('that is no archive is kept as a file', async () => {
    await get([await result('data.csv', Buffer.from('a,b'), false)])
    expect(await text('data.csv')).toBe('a,b')
  })

  it('is fetched from a pre-signed link', async () => {
    const { Params } = await result('e-1.tar.gz', logs)
    const sum = Buffer.from(String(Params.SHA256), 'hex').toString('base64')
    const signed = { PreSignedURL: `${Params.URL}`, SourceSpec: { ChecksumSHA256: sum } }
    expect((await get([{ Type: 's3PreSigned', Params: signed }])).files.length).toBe(3)
  })

  it('can be got twice, and is not overwritten when something else is there', async () => {
    const item = await result('e-1.tar.gz', { ...logs, 'outputs/a': 'x' })
    await get([item])
    expect((await get([item])).files).toEqual(['exitCode', 'outputs/a', 'stderr', 'stdout'])
    await writeFile(join(out, 'outputs', 'a'), 'mine')
    await expect(get([item])).rejects.toMatchObject({
      code: 'results.conflict',
      message: expect.stringContaining('outputs/a'),
    })
    expect(await text('outputs', 'a')).toBe('mine')
  })

  it('does not write through a link that is in the way', async () => {
    const item = await result('e-1.tar.gz', { 'outputs/a': 'x' })
    await mkdir(out)
    await mkdir(join(dir, 'elsewhere'))
    await symlink(join(dir, 'elsewhere'), join(out, 'outputs'))
    await expect(get([item])).rejects.toMatchObject({ code: 'results.conflict' })
    expect(await readdir(join(dir, 'elsewhere'))).toEqual([])
  })
})

describe('a path', () => {
  it.each([
    ['outputs/deep', ['outputs/deep/b', 'outputs/deep/c']],
    ['./outputs/a', ['outputs/a']],
    ['/outputs/', ['outputs/a', 'outputs/deep/b', 'outputs/deep/c']],
    ['stdout', ['stdout']],
  ])('%s selects a file or directory', async (path, files) => {
    const item = await result('e-1.tar.gz', {
      ...logs,
      'outputs/a': '1',
      'outputs/ab': '',
      'outputs/deep/b': '2',
      'outputs/deep/c': '3',
    })
    const got = (await get([item], { path })).files
    expect(got.filter((file) => file !== 'outputs/ab')).toEqual(files)
    expect(got.includes('outputs/ab')).toBe(path === '/outputs/')
  })

  it('that no result has is an error which says what there is, and nothing is written', async () => {
    const item = await result('e-1.tar.gz', { ...logs, 'outputs/a': '1' })
    await expect(get([item], { path: 'outputs/missing' })).rejects.toMatchObject({
      code: 'results.unavailable',
      hint: 'The results hold: exitCode, outputs, stderr, stdout',
    })
    expect((await readdir(out)).filter((name) => !name.endsWith('.part'))).toEqual([])
  })

  it('that leads upwards is refused', async () => {
    const item = await result('e-1.tar.gz', logs)
    await expect(get([item], { path: '../x' })).rejects.toMatchObject({ code: 'cli.usage' })
  })
})

describe('several results', () => {
  const two = async () => [
    await result('e-1.tar.gz', { stdout: 'one\n', stderr: '', exitCode: '0', 'outputs/a': '1', same: 's' }),
    await result('e-2.tar.gz', { stdout: 'two\n', stderr: 'e', exitCode: '3', 'outputs/b': '2', same: 's' }),
  ]

  it('are merged: output and exit codes appended in order, other files side by side', async () => {
    const { files, results } = await get(await two())
    expect(files).toEqual(['exitCode', 'outputs/a', 'same', 'stderr', 'stdout', 'outputs/b'])
    expect(results).toBe(2)
    expect(await text('stdout')).toBe('one\ntwo\n')
    expect(await text('exitCode')).toBe('03')
    expect(await text('outputs', 'b')).toBe('2')
  })

  it('have their receipts in one file, to which those of later downloads are added', async () => {
    const receipt = (id: string) =>
      result(`${id}.tar.gz`, { 'egress-receipt.json': `{"executionId":"${id}"}\n` })
    const [first, second, third] = [await receipt('e-1'), await receipt('e-2'), await receipt('e-3')]
    await get([first, second])
    await get([third, second])
    const lines = (await text('egress-receipt.json')).split('\n').filter((line) => line !== '')
    expect(lines.map((line) => (JSON.parse(line) as { executionId: string }).executionId)).toEqual([
      'e-1',
      'e-2',
      'e-3',
    ])
    await rm(join(out, 'egress-receipt.json'))
    await symlink(join(dir, 'elsewhere'), join(out, 'egress-receipt.json'))
    await expect(get([first])).rejects.toMatchObject({ code: 'results.conflict' })
  })

  it('stay apart with raw', async () => {
    const { files } = await get(await two(), { raw: true })
    expect(files).toContain('e-1/outputs/a')
    expect(await text('e-2', 'stdout')).toBe('two\n')
    expect((await readdir(out)).toSorted()).toEqual(['e-1', 'e-2'])
  })

  it('stay apart with raw also when their links end alike', async () => {
    served.set('/x/r.tar.gz', await archive({ a: '1' }))
    served.set('/y/r.tar.gz', await archive({ a: '2' }))
    const items = ['x', 'y'].map((part) => ({
      Type: 'urlDownload',
      Params: { URL: `${base}/${part}/r.tar.gz` },
    }))
    await get(items, { raw: true })
    expect([await text('r', 'a'), await text('r-2', 'a')]).toEqual(['1', '2'])
  })

  it('that disagree on a file are not merged; the error names --raw and nothing is written', async () => {
    const items = [
      await result('e-1.tar.gz', { 'outputs/a': 'one' }),
      await result('e-2.tar.gz', { 'outputs/a': 'two' }),
    ]
    await expect(get(items)).rejects.toMatchObject({
      code: 'results.conflict',
      message: 'Cannot merge the results: "outputs/a" differs between results',
      hint: expect.stringContaining('--raw'),
    })
    expect((await readdir(out)).every((name) => name.endsWith('.part'))).toBe(true)
    await expect(
      get([await result('e-1.tar.gz', { x: '' }), await result('e-2.tar.gz', { 'x/y': '' })]),
    ).rejects.toMatchObject({ code: 'results.conflict' })
  })

  it('end together when one is gone', async () => {
    const gone = { Type: 'urlDownload', Params: { URL: `${base}/gone.tar.gz` } }
    await expect(get([await result('e-1.tar.gz', logs), gone])).rejects.toMatchObject({
      code: 'results.unavailable',
      hint: expect.stringContaining('limited time'),
    })
  })
})

describe('a broken download', () => {
  it('keeps its part and is continued by the next call', async () => {
    const item = await result('e-1.tar.gz', { 'outputs/noise': randomBytes(200_000).toString('hex') })
    const whole = served.get('/secret/e-1.tar.gz') ?? Buffer.alloc(0)
    const serve = handler
    let breakOff: (() => void) | undefined
    handler = (_, response) => {
      response.writeHead(200, { 'Content-Length': whole.length }).write(whole.subarray(0, 100_000))
      breakOff = () => response.destroy()
    }
    const onProgress = ({ receivedBytes }: DownloadProgress) => {
      if (receivedBytes >= 100_000) breakOff?.()
    }
    await expect(get([item], { onProgress, limits: { retries: 0 } })).rejects.toMatchObject({
      code: 'results.unavailable',
      retryable: true,
    })
    const [part = ''] = await readdir(out)
    expect(part).toMatch(/^e-1\.[0-9a-f]{12}\.part$/)
    expect((await stat(join(out, part))).size).toBe(100_000)
    handler = serve
    await get([item])
    expect(requests).toEqual([{ path: '/secret/e-1.tar.gz', range: 'bytes=100000-' }])
    expect((await text('outputs', 'noise')).length).toBe(400_000)
    expect(await readdir(out)).toEqual(['outputs'])
  })

  it('is tried again, and gives up with the reason', async () => {
    const item = await result('e-1.tar.gz', logs)
    const serve = handler
    let failures = 2
    handler = (request, response) => {
      failures -= 1
      if (failures >= 0) response.writeHead(503).end()
      else serve(request, response)
    }
    await get([item])
    failures = 100
    await expect(get([item], { outputDir: join(dir, 'again') })).rejects.toMatchObject({
      code: 'results.unavailable',
      message: expect.stringContaining('503'),
    })
    expect(failures).toBe(95)
  })

  it('is given up when the server goes silent or is away', async () => {
    const item = await result('e-1.tar.gz', logs)
    handler = () => undefined
    await expect(get([item], { limits: { retries: 0, idleTimeoutMs: 50 } })).rejects.toMatchObject({
      message: expect.stringContaining('nothing arrived for 0.05 s'),
    })
    const nowhere = { Type: 'urlDownload', Params: { URL: 'http://127.0.0.1:1/secret/e.tar.gz' } }
    const error = await get([nowhere], { limits: { retries: 1 } }).catch((caught: Error) => caught)
    expect(error).toMatchObject({ code: 'results.unavailable' })
    expect((error as Error).message).not.toContain('secret')
  })

  it('that is longer than what was published is given up at once and not kept', async () => {
    const item = await result('e-1.tar.gz', logs)
    const bytes = Number(item.Params.Bytes)
    let sent = 0
    handler = (_request, response) => {
      response.writeHead(200)
      const more = (): void => {
        sent += 65_536
        if (!response.destroyed) response.write(Buffer.alloc(65_536), () => setImmediate(more))
      }
      more()
    }
    await expect(get([item])).rejects.toMatchObject({
      code: 'results.corrupt',
      message: expect.stringContaining(`more than the ${bytes} bytes that were published`) as unknown,
    })
    expect(sent).toBeLessThan(50_000_000)
    expect(await readdir(out).catch(() => [])).toEqual([])
    handler = (_request, response) => response.writeHead(200, { 'Content-Length': bytes + 1 }).flushHeaders()
    await expect(get([item])).rejects.toMatchObject({ code: 'results.corrupt' })
  })

  it('starts anew when its part turns out to be of something else', async () => {
    const item = await result('e-1.tar.gz', logs)
    await expect(get([item], { limits: { bytesMax: 1 } })).rejects.toMatchObject({
      code: 'results.unavailable',
    })
    const [part = ''] = await readdir(out)
    await writeFile(join(out, part), 'garbage')
    expect((await get([item])).files.length).toBe(3)
  })

  it('says that its folder cannot be made, instead of trying for ever', async () => {
    const item = await result('e-1.tar.gz', logs)
    await expect(get([item], { outputDir: '/proc/weir/results' })).rejects.toMatchObject({
      code: 'results.unavailable',
      message: expect.stringContaining('Cannot make the folder "/proc/weir/results"') as unknown,
    })
  })

  it('ends with the reason of the signal', async () => {
    const item = await result('e-1.tar.gz', logs)
    handler = () => undefined
    const stop = new AbortController()
    setTimeout(() => stop.abort(new Error('Ctrl-C')), 30)
    await expect(get([item], { signal: stop.signal })).rejects.toThrow('Ctrl-C')
    expect((await readdir(out)).filter((name) => !name.endsWith('.part'))).toEqual([])
  })
})

describe('a damaged or hostile result', () => {
  it('with another checksum is refused and not kept', async () => {
    const item = await result('e-1.tar.gz', logs)
    served.set('/secret/e-1.tar.gz', await archive({ stdout: 'tampered' }))
    await expect(get([{ ...item, Params: { ...item.Params, Bytes: undefined } }])).rejects.toMatchObject({
      code: 'results.corrupt',
    })
    expect(await readdir(dir)).toEqual([])
  })

  it('that is cut is refused', async () => {
    const whole = await archive({ stdout: randomBytes(5000).toString('hex') })
    const item = await result('e-1.tar.gz', whole.subarray(0, 3000))
    await expect(get([item])).rejects.toMatchObject({ code: 'results.corrupt' })
    expect(await readdir(dir)).toEqual([])
  })

  it.each([
    ['a path upwards', [{ name: '../../evil', type: 'file' as const }]],
    ['an absolute path', [{ name: '/tmp/weir-evil', type: 'file' as const }]],
    ['a link', [{ name: 'l', type: 'symlink' as const, linkname: '/etc' }]],
    [
      'a link and a file through it',
      [
        { name: 'l', type: 'symlink' as const, linkname: '/tmp' },
        { name: 'l/weir-evil', type: 'file' as const },
      ],
    ],
    ['a device', [{ name: 'd', type: 'block-device' as const, devmajor: 8, devminor: 0 }]],
  ])('with %s is refused and nothing is written', async (_, entries) => {
    await expect(get([await result('e-1.tar.gz', entries)])).rejects.toMatchObject({ code: 'results.unsafe' })
    expect(await readdir(dir)).toEqual([])
  })

  it('that unpacks to more than the limits is refused', async () => {
    const bomb = await result('e-1.tar.gz', { bomb: '\0'.repeat(2_000_000) })
    await expect(get([bomb], { limits: { unpackedBytesMax: 1_000_000 } })).rejects.toMatchObject({
      code: 'results.unsafe',
    })
    const many = await result(
      'e-2.tar.gz',
      Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`f${i}`, ''])),
    )
    await expect(get([many], { limits: { entriesMax: 20 } })).rejects.toMatchObject({
      code: 'results.unsafe',
    })
    expect(await readdir(dir)).toEqual([])
  })

  it('cannot name the files beside it', async () => {
    served.set('/secret/..%2f..%2fevil.tar.gz', await archive(logs))
    const item = { Type: 'urlDownload', Params: { URL: `${base}/secret/..%2f..%2fevil.tar.gz` } }
    await get([item], { raw: true })
    expect(await readdir(dir)).toEqual(['job-1'])
    expect(await readdir(out)).toEqual(['_2f.._2fevil'])
  })
})

describe('nothing to download', () => {
  it('is an error that says how to get something', async () => {
    await expect(get([])).rejects.toMatchObject({
      code: 'results.unavailable',
      hint: expect.stringContaining('weir job logs'),
    })
    await expect(get([{ Type: '' }, { Type: 'noop' }])).rejects.toMatchObject({ code: 'results.unavailable' })
    expect(await readdir(dir)).toEqual([])
  })

  it('is said of kinds that are not downloaded here, and of URLs that are none', async () => {
    await expect(get([{ Type: 'ipfs', Params: { CID: 'Qm' } }])).rejects.toMatchObject({
      code: 'results.unavailable',
      message: expect.stringContaining('"ipfs"'),
    })
    for (const URL of [undefined, 7, 'x', 'file:///etc/passwd'])
      await expect(get([{ Type: 'urlDownload', Params: { URL } }])).rejects.toMatchObject({
        code: 'results.unavailable',
      })
  })
})
