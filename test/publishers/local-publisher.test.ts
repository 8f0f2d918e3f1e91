import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gunzipSync } from 'node:zlib'
import { extract } from 'tar-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  localPublisher,
  noopPublisher,
  type LocalPublisher,
  type LocalPublisherOptions,
} from '../../src/publishers/index.js' // prettier-ignore

let dir = ''
let now = 0
let publishers: LocalPublisher[] = []
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-publisher-'))
  now = 1_700_000_000_000
  publishers = []
  await mkdir(join(dir, 'result', 'outputs', 'deep'), { recursive: true })
  await writeFile(join(dir, 'result', 'stdout'), 'hello\n')
  await writeFile(join(dir, 'result', 'stderr'), '')
  await writeFile(join(dir, 'result', 'exitCode'), '0')
  await writeFile(join(dir, 'result', 'outputs', 'deep', 'a\nb'), 'x'.repeat(5000))
})
afterEach(async () => {
  for (const publisher of publishers) await publisher.close()
  await rm(dir, { recursive: true, force: true })
})

const never = new AbortController().signal

async function start(more: Partial<LocalPublisherOptions> = {}): Promise<LocalPublisher> {
  const publisher = await localPublisher({
    dir: join(dir, 'shelf'),
    listen: { host: '127.0.0.1', port: 0 },
    retentionMs: 60_000,
    quotaBytes: 1_000_000,
    clock: { now: () => now, sleep: async () => undefined },
    ...more,
  })
  publishers.push(publisher)
  return publisher
}

async function stop(publisher: LocalPublisher): Promise<void> {
  publishers = publishers.filter((other) => other !== publisher)
  await publisher.close()
}

async function publish(publisher: LocalPublisher, executionId = 'e-1', from = join(dir, 'result')) {
  const result = { nodeId: 'n-1', jobId: 'j-1', executionId, dir: from }
  const published = await publisher.publish(result, { Type: 'local' }, never)
  return published.Params as { URL: string; SHA256: string; Bytes: number }
}

async function unpacked(bytes: Uint8Array): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  const tar = extract()
  Readable.from([gunzipSync(bytes)]).pipe(tar as unknown as NodeJS.WritableStream)
  for await (const entry of tar) {
    const chunks: Uint8Array[] = []
    for await (const chunk of entry as AsyncIterable<Uint8Array>) chunks.push(chunk)
    files[entry.header.name] = Buffer.concat(chunks).toString()
  }
  return files
}

describe('the local publisher', () => {
  it('serves the result directory as one archive whose checksum and size it told', async () => {
    const publisher = await start()
    const { URL, SHA256, Bytes } = await publish(publisher)
    expect(URL).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/[A-Za-z0-9_-]{32}\/e-1\.tar\.gz$/)
    const response = await fetch(URL)
    const body = Buffer.from(await response.arrayBuffer())
    const sha = createHash('sha256').update(body)
    expect(body.length).toBe(Bytes)
    expect(response.headers.get('x-weir-sha256')).toBe(SHA256)
    expect(response.headers.get('content-length')).toBe(String(Bytes))
    expect(response.headers.get('repr-digest')).toBe(`sha-256=:${sha.copy().digest('base64')}:`)
    expect(sha.digest('hex')).toBe(SHA256)
    expect(await unpacked(body)).toEqual({
      exitCode: '0',
      'outputs/': '',
      'outputs/deep/': '',
      'outputs/deep/a\nb': 'x'.repeat(5000),
      stderr: '',
      stdout: 'hello\n',
    })
  })

  it('gives the same bytes for the same result', async () => {
    const publisher = await start()
    const first = await publish(publisher, 'e-1')
    await writeFile(join(dir, 'result', 'exitCode'), '0')
    const second = await publish(publisher, 'e-2')
    expect(second.SHA256).toBe(first.SHA256)
    expect(second.URL).not.toBe(first.URL)
  })

  it('answers HEAD, ranges and conditions', async () => {
    const { URL, SHA256, Bytes } = await publish(await start())
    const whole = Buffer.from(await (await fetch(URL)).arrayBuffer())
    const get = (headers: Record<string, string>) => fetch(URL, { headers })
    const head = await fetch(URL, { method: 'HEAD' })
    expect(head.headers.get('content-length')).toBe(String(Bytes))
    const rest = await get({ range: 'bytes=10-', 'if-range': `"${SHA256}"` })
    expect(rest.status).toBe(206)
    expect(rest.headers.get('content-range')).toBe(`bytes 10-${Bytes - 1}/${Bytes}`)
    expect(Buffer.from(await rest.arrayBuffer()).equals(whole.subarray(10))).toBe(true)
    const tail = await get({ range: 'bytes=-5' })
    expect(Buffer.from(await tail.arrayBuffer()).equals(whole.subarray(-5))).toBe(true)
    expect((await get({ range: 'bytes=10-', 'if-range': '"other"' })).status).toBe(200)
    expect((await get({ range: 'bytes=1-2,4-5' })).status).toBe(200)
    const outside = await get({ range: `bytes=${Bytes}-` })
    expect(outside.status).toBe(416)
    expect(outside.headers.get('content-range')).toBe(`bytes */${Bytes}`)
    expect((await get({ 'if-none-match': `"${SHA256}"` })).status).toBe(304)
  })

  it('shows nothing without the right link', async () => {
    const publisher = await start()
    const { URL: link } = await publish(publisher)
    const [, , , token = ''] = link.split('/')
    const wrong = [
      '/',
      '/index.html',
      `/${token}/`,
      `/${token}`,
      '/e-1.tar.gz',
      `/${token}/e-2.tar.gz`,
      `/${token.slice(0, -1)}/e-1.tar.gz`,
      `/${token}/../${token}x/e-1.tar.gz`,
      '/%2e%2e/e-1.json',
      `//${token}/e-1.tar.gz`,
      `/${'A'.repeat(32)}/e-1.tar.gz`,
    ] // prettier-ignore
    for (const path of wrong) {
      const response = await fetch(publisher.baseUrl + path)
      expect([path, response.status, await response.text()]).toEqual([path, 404, 'nothing here\n'])
    }
    expect((await fetch(link, { method: 'PUT', body: 'x' })).status).toBe(405)
    expect((await fetch(link, { method: 'DELETE' })).headers.get('allow')).toBe('GET, HEAD')
    const stored = await readdir(join(dir, 'shelf'))
    expect(stored.join(' ')).not.toContain(token)
  })

  it('lets a link expire: gone for a while, then unknown, and the disk is free again', async () => {
    const publisher = await start()
    const { URL } = await publish(publisher)
    now += 59_999
    expect((await fetch(URL)).status).toBe(200)
    now += 1
    expect((await fetch(URL)).status).toBe(410)
    await publish(publisher, 'e-2')
    expect((await readdir(join(dir, 'shelf'))).filter((name) => name.startsWith('e-1.'))).toEqual([
      'e-1.json',
    ])
    expect((await fetch(URL)).status).toBe(410)
    now += 8 * 24 * 3600 * 1000
    await publish(publisher, 'e-3')
    expect((await fetch(URL)).status).toBe(404)
  })

  it('survives a restart and removes what a crash left', async () => {
    const first = await start()
    const { URL } = await publish(first)
    const expired = await publish(first, 'e-old')
    await stop(first)
    for (const name of ['e-9.abc.tmp', 'e-9.0123456789abcdef.tar.gz', 'torn.json'])
      await writeFile(join(dir, 'shelf', name), '{"executionId":')
    const second = await start({ listen: { host: '127.0.0.1', port: Number(new globalThis.URL(URL).port) } })
    expect((await fetch(URL)).status).toBe(200)
    expect((await readdir(join(dir, 'shelf'))).filter((name) => !/^e-(1|old)\./.test(name))).toEqual([])
    now += 60_000
    await stop(second)
    await start({ listen: { host: '127.0.0.1', port: Number(new globalThis.URL(URL).port) } })
    expect((await fetch(expired.URL)).status).toBe(410)
  })

  it('refuses what goes beyond the quota, keeps nothing of it, and has room again after expiry', async () => {
    const publisher = await start({ quotaBytes: 3000 })
    await mkdir(join(dir, 'big'))
    await writeFile(join(dir, 'big', 'noise'), randomBytes(2500))
    await publish(publisher, 'e-1', join(dir, 'big'))
    await expect(publish(publisher, 'e-2', join(dir, 'big'))).rejects.toMatchObject({
      code: 'publisher.quota',
      retryable: true,
      hint: expect.stringContaining('Publishers.Types.Local.Quota'),
    })
    expect((await readdir(join(dir, 'shelf'))).every((name) => name.startsWith('e-1.'))).toBe(true)
    now += 60_000
    await publish(publisher, 'e-2', join(dir, 'big'))
  })

  it('says at admission that it is full', async () => {
    const publisher = await start({ quotaBytes: 100 })
    expect(await publisher.admit({ Type: 'local' })).toEqual([])
    await expect(publish(publisher)).rejects.toMatchObject({ code: 'publisher.quota' })
    const full = await start({ dir: join(dir, 'full'), quotaBytes: 0 })
    expect((await full.admit({ Type: 'local' }))[0]?.message).toMatch(/is full: 0 of 0 bytes/)
  })

  it('refuses a result with a link in it, and a missing one', async () => {
    const publisher = await start()
    await symlink('/etc/passwd', join(dir, 'result', 'outputs', 'link'))
    await expect(publish(publisher)).rejects.toMatchObject({ code: 'publisher.failed' })
    await expect(publish(publisher, 'e-1', join(dir, 'absent'))).rejects.toMatchObject({
      code: 'publisher.failed',
    })
    await expect(publish(publisher, '../../evil')).rejects.toMatchObject({ code: 'publisher.failed' })
    expect(await readdir(join(dir, 'shelf'))).toEqual([])
  })

  it('ends with the reason of the signal and keeps nothing', async () => {
    const publisher = await start()
    const result = { nodeId: 'n', jobId: 'j', executionId: 'e-1', dir: join(dir, 'result') }
    const stopped = AbortSignal.abort(new Error('job stopped'))
    await expect(publisher.publish(result, { Type: 'local' }, stopped)).rejects.toThrow('job stopped')
    expect(await readdir(join(dir, 'shelf'))).toEqual([])
  })

  it('says which key changes a port that is in use, and an address that is not of this machine', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as AddressInfo
    await expect(start({ listen: { host: '127.0.0.1', port } })).rejects.toMatchObject({
      code: 'port.in_use',
      message: expect.stringContaining(`127.0.0.1:${port}`),
      hint: expect.stringContaining('Publishers.Types.Local.Port'),
    })
    await new Promise((resolve) => other.close(resolve))
    await expect(start({ listen: { host: '203.0.113.7', port: 0 } })).rejects.toMatchObject({
      code: 'config.invalid',
    })
  })

  it.each([
    ['results.example.com', /^http:\/\/results\.example\.com:\d+$/],
    ['results.example.com:80', /^http:\/\/results\.example\.com:80$/],
    ['2001:db8::1', /^http:\/\/\[2001:db8::1\]:\d+$/],
    ['', /^http:\/\/127\.0\.0\.1:\d+$/],
  ])('puts the advertised address "%s" into links', async (advertise, base) => {
    expect((await start({ advertise })).baseUrl).toMatch(base)
  })

  it('cuts off a reader that takes nothing, and serves others meanwhile', async () => {
    const publisher = await start({ idleTimeoutMs: 200, quotaBytes: 100_000_000 })
    await writeFile(join(dir, 'result', 'noise'), randomBytes(20_000_000))
    const { URL: link, Bytes } = await publish(publisher)
    const { port, pathname } = new URL(link)
    const lazy = connect(Number(port), '127.0.0.1')
    lazy.write(`GET ${pathname} HTTP/1.1\r\nHost: x\r\n\r\n`)
    lazy.pause()
    const other = await fetch(link, { method: 'HEAD' })
    expect(other.status).toBe(200)
    await new Promise((resolve) => setTimeout(resolve, 600))
    let received = 0
    lazy.on('data', (chunk) => (received += chunk.length))
    lazy.on('error', () => undefined)
    lazy.resume()
    await new Promise((resolve) => lazy.on('close', resolve))
    expect(received).toBeLessThan(Bytes)
  })

  it('asks downloads beyond the bound to come back', async () => {
    const publisher = await start({ transfersMax: 1, quotaBytes: 100_000_000 })
    await writeFile(join(dir, 'result', 'noise'), randomBytes(20_000_000))
    const { URL: link } = await publish(publisher)
    const first = request(link)
    const response = await new Promise<NodeJS.ReadableStream>((resolve) => {
      first.on('response', resolve).end()
    })
    const second = await fetch(link)
    expect([second.status, second.headers.get('retry-after')]).toEqual([503, '5'])
    response.on('error', () => undefined)
    first.destroy()
  })
})

describe('the noop publisher', () => {
  it('publishes nothing', async () => {
    const publisher = noopPublisher()
    expect(await publisher.admit({ Type: 'noop' })).toEqual([])
    const result = { nodeId: 'n', jobId: 'j', executionId: 'e', dir: '/nowhere' }
    expect(await publisher.publish(result, { Type: 'noop' }, never)).toEqual({ Type: '' })
  })
})
