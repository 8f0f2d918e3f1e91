import { createHash } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { urlSource, type UrlSourceOptions } from '../../src/sources/index.js'
import { chance, LocalInternet, PatientClock } from './local-internet.js'

let dir = ''
let internet: LocalInternet
let clock: PatientClock
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-url-'))
  internet = new LocalInternet()
  clock = new PatientClock()
})
afterEach(async () => {
  await internet.close()
  await rm(dir, { recursive: true, force: true })
})

const never = new AbortController().signal
const input = (url: string, params: Record<string, unknown> = {}) => ({
  Source: { Type: 'urlDownload', Params: { URL: url, ...params } },
  Alias: '',
  Target: '/inputs',
})

function fetchUrl(
  url: string,
  {
    params = {},
    bytesMax = 10_000_000,
    progress,
    signal = never,
    ...options
  }: Partial<UrlSourceOptions> & {
    params?: Record<string, unknown>
    bytesMax?: number
    progress?: (bytes: number, total: number | undefined) => void
    signal?: AbortSignal
  } = {},
) {
  const source = urlSource({ dialer: internet, clock, chance, ...options })
  return source.fetch(
    input(url, params),
    dir,
    { bytesMax, ...(progress === undefined ? {} : { progress }) },
    signal,
  )
}

describe('a plain fetch', () => {
  it('lands read-only at Target/<name> with exactly the bytes the server sent', async () => {
    await internet.serve('data.test', (_, answer) => answer.end('hello'))
    const volumes = await fetchUrl('http://data.test/sets/a%20b.csv?key=1#part')
    expect(volumes).toEqual([{ hostPath: join(dir, 'a b.csv'), target: '/inputs/a b.csv', writable: false }])
    expect(await readFile(join(dir, 'a b.csv'), 'utf8')).toBe('hello')
    expect((await stat(join(dir, 'a b.csv'))).mode & 0o444).toBe(0o444)
    expect(await readdir(dir)).toEqual(['a b.csv'])
  })

  it('needs neither HEAD nor Content-Length, and reports progress', async () => {
    const seen: string[] = []
    await internet.serve('data.test', (request, answer) => {
      seen.push(request.method ?? '')
      answer.write('one')
      setImmediate(() => answer.end('two'))
    })
    const progress: [number, number | undefined][] = []
    await fetchUrl('http://data.test/f', { progress: (bytes, total) => progress.push([bytes, total]) })
    expect(seen).toEqual(['GET'])
    expect(progress.at(-1)).toEqual([6, undefined])
  })

  it('sends minimal headers and never decodes content', async () => {
    let headers: IncomingMessage['headers'] = {}
    await internet.serve('data.test', (request, answer) => {
      headers = request.headers
      answer.setHeader('Content-Encoding', 'gzip')
      answer.end('not really gzip')
    })
    await fetchUrl('http://data.test/f.gz')
    expect(Object.keys(headers).toSorted()).toEqual([
      'accept',
      'accept-encoding',
      'connection',
      'host',
      'user-agent',
    ])
    expect(headers).toMatchObject({ host: 'data.test', 'accept-encoding': 'identity' })
    expect(await readFile(join(dir, 'f.gz'), 'utf8')).toBe('not really gzip')
  })

  it('ignores the proxy variables of the environment', async () => {
    await internet.serve('data.test', (_, answer) => answer.end('direct'))
    process.env.http_proxy = 'http://127.0.0.1:9'
    try {
      await fetchUrl('http://data.test/f')
    } finally {
      delete process.env.http_proxy
    }
    expect(internet.dialled).toEqual(['data.test:80'])
  })

  it('sends credentials of the URL to its own origin only', async () => {
    const seen: (string | undefined)[] = []
    await internet.serve('data.test', (request, answer) => {
      seen.push(request.headers.authorization)
      answer.writeHead(302, { Location: 'http://other.test/f' }).end()
    })
    await internet.serve('other.test', (request, answer) => {
      seen.push(request.headers.authorization)
      answer.end('x')
    })
    await fetchUrl('http://me:pass%20word@data.test/f')
    expect(seen).toEqual([`Basic ${Buffer.from('me:pass word').toString('base64')}`, undefined])
  })
})

describe('TLS', () => {
  const key = join(tmpdir(), `weir-test-key-${process.pid}.pem`)
  const cert = join(tmpdir(), `weir-test-cert-${process.pid}.pem`)
  const made = spawnSync('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=data.test',
    '-addext',
    'subjectAltName=DNS:data.test',
    '-keyout',
    key,
    '-out',
    cert,
  ]) // prettier-ignore
  const title = made.status === 0 ? 'https' : 'https (skipped: needs openssl)'
  afterAll(async () => {
    await rm(key, { force: true })
    await rm(cert, { force: true })
  })
  const pems = async () => ({ key: await readFile(key, 'utf8'), cert: await readFile(cert, 'utf8') })

  describe.skipIf(made.status !== 0)(title, () => {
    it('fetches when the certificate is valid for the name', async () => {
      const tls = await pems()
      await internet.serve('data.test', (_, answer) => answer.end('secret'), tls)
      await fetchUrl('https://data.test/f', { ca: [tls.cert] })
      expect(await readFile(join(dir, 'f'), 'utf8')).toBe('secret')
    })

    it('refuses a certificate that nobody vouches for, without retries', async () => {
      await internet.serve('data.test', (_, answer) => answer.end('secret'), await pems())
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
      try {
        await expect(fetchUrl('https://data.test/f')).rejects.toMatchObject({
          code: 'source.unavailable',
          retryable: false,
          message: expect.stringContaining('self-signed certificate'),
        })
      } finally {
        delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
      }
      expect(clock.waits).toEqual([])
    })

    it('refuses a redirect from https to http, unless the content has a checksum', async () => {
      const tls = await pems()
      await internet.serve(
        'data.test',
        (_, answer) => answer.writeHead(302, { Location: 'http://plain.test/f' }).end(),
        tls,
      )
      await internet.serve('plain.test', (_, answer) => answer.end('hello'))
      await expect(fetchUrl('https://data.test/f', { ca: [tls.cert] })).rejects.toMatchObject({
        code: 'source.refused',
      })
      await rm(join(dir, '.part'), { force: true })
      const SHA256 = createHash('sha256').update('hello').digest('hex')
      await fetchUrl('https://data.test/f', { ca: [tls.cert], params: { SHA256 } })
      expect(await readFile(join(dir, 'f'), 'utf8')).toBe('hello')
    })

    it('refuses a certificate for an other name', async () => {
      const tls = await pems()
      await internet.serve('evil.test', (_, answer) => answer.end('secret'), tls)
      await expect(fetchUrl('https://evil.test/f', { ca: [tls.cert] })).rejects.toMatchObject({
        code: 'source.unavailable',
      })
    })
  })
})

describe('redirects', () => {
  const to =
    (location: string, status = 302) =>
    (_: IncomingMessage, answer: ServerResponse) =>
      answer.writeHead(status, { Location: location }).end('moved')

  it('are followed, each hop through the guard, and the name stays that of the job', async () => {
    await internet.serve('a.test', to('//b.test/x/', 307))
    await internet.serve('b.test', (_, answer) => {
      answer.setHeader('Content-Disposition', 'attachment; filename="server-says.bin"')
      answer.end('there')
    })
    const [volume] = await fetchUrl('http://a.test/data.csv')
    expect(volume?.target).toBe('/inputs/data.csv')
    expect(internet.dialled).toEqual(['a.test:80', 'b.test:80'])
  })

  it.each([
    'http://169.254.169.254/latest/meta-data/',
    'http://127.0.0.1:1234/api/v1/orchestrator/jobs',
    'http://[::1]:1234/',
    'http://0x7f.1/',
    'http://orchestrator.test:1234/',
  ])('to %s are refused at the hop', async (target) => {
    await internet.serve('a.test', to(target))
    await expect(fetchUrl('http://a.test/f')).rejects.toMatchObject({
      code: 'source.refused',
      retryable: false,
      details: { reason: 'egress.private_address' },
    })
    expect(clock.waits).toEqual([])
  })

  it('to another scheme are refused', async () => {
    await internet.serve('a.test', to('file:///etc/passwd'))
    await expect(fetchUrl('http://a.test/f')).rejects.toMatchObject({ code: 'source.refused' })
  })

  it('in a circle end after ten', async () => {
    await internet.serve('a.test', to('/again'))
    await expect(fetchUrl('http://a.test/f')).rejects.toMatchObject({
      code: 'source.unavailable',
      message: expect.stringContaining('more than 10 redirects'),
    })
    expect(internet.dialled.length).toBe(11)
  })
})

describe('failures', () => {
  it('shows what a server says in an error without its control characters', async () => {
    const server = await internet.serve('rude.test', () => undefined)
    server.on('connection', (socket) => {
      socket.end('HTTP/1.1 404 Not\u001b[31m here\r\nContent-Length: 0\r\n\r\n')
    })
    const error = await fetchUrl('http://rude.test/a', { retries: 0 }).catch((caught: Error) => caught)
    expect(error).toMatchObject({ code: 'source.unavailable' })
    expect((error as Error).message).not.toContain('\u001b')
  })

  it('ends at its total time also when that is longer than a timer can be', async () => {
    await internet.serve('fine.test', (_request, response) => response.end('x'))
    const volumes = await fetchUrl('http://fine.test/a', { limits: { totalTimeoutMs: 90 * 86_400_000 } })
    expect(volumes).toHaveLength(1)
  })

  it('quotes the URL without credentials and query', async () => {
    await internet.serve('data.test', (_, answer) => answer.writeHead(404).end())
    const error = await fetchUrl('http://user:hunter2@data.test/f?token=hunter2').catch((e: Error) => e)
    expect(error).toMatchObject({
      code: 'source.unavailable',
      retryable: false,
      message: 'Cannot fetch "http://data.test/f?…": the server answered 404 Not Found',
    })
    expect(JSON.stringify(error)).not.toContain('hunter2')
    expect(clock.waits).toEqual([])
  })

  it('retries 503 with growing waits, honours Retry-After, and gives up after the retries', async () => {
    let requests = 0
    await internet.serve('data.test', (_, answer) => {
      requests += 1
      answer.writeHead(503, requests === 2 ? { 'Retry-After': '7' } : {}).end()
    })
    await expect(fetchUrl('http://data.test/f')).rejects.toMatchObject({
      code: 'source.unavailable',
      message: expect.stringContaining('503'),
    })
    expect(requests).toBe(4)
    expect(clock.waits).toEqual([375, 7000, 1500])
  })

  it('retries a connection that cannot be made', async () => {
    internet.deadEnd('data.test')
    await expect(fetchUrl('http://data.test/f', { retries: 2 })).rejects.toMatchObject({
      code: 'source.unavailable',
    })
    expect(clock.waits.length).toBe(2)
  })

  it('resumes a broken transfer with Range and If-Range', async () => {
    const body = Buffer.alloc(300_000, 'abcdefghij')
    const ranges: (string | undefined)[] = []
    await internet.serve('data.test', (request, answer) => {
      ranges.push(request.headers.range)
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      const headers = { ETag: '"v1"', 'Content-Length': body.length - from }
      if (from === 0) answer.writeHead(200, headers)
      else {
        expect(request.headers['if-range']).toBe('"v1"')
        answer.writeHead(206, {
          ...headers,
          'Content-Range': `bytes ${from}-${body.length - 1}/${body.length}`,
        })
      }
      if (ranges.length < 3) answer.write(body.subarray(from, from + 100_000), () => answer.socket?.end())
      else answer.end(body.subarray(from))
    })
    const SHA256 = createHash('sha256').update(body).digest('base64')
    await fetchUrl('http://data.test/big.bin', { params: { SHA256 } })
    expect(ranges[0]).toBeUndefined()
    expect(ranges.slice(1).every((range) => range?.startsWith('bytes='))).toBe(true)
    expect((await readFile(join(dir, 'big.bin'))).equals(body)).toBe(true)
  })

  it('starts anew when the content changed meanwhile or the server cannot resume', async () => {
    let requests = 0
    await internet.serve('data.test', (_, answer) => {
      requests += 1
      answer.writeHead(200, { ETag: `"v${requests}"`, 'Content-Length': 8 })
      if (requests === 1) answer.write('old ', () => answer.socket?.end())
      else answer.end('new text')
    })
    await fetchUrl('http://data.test/f')
    expect(await readFile(join(dir, 'f'), 'utf8')).toBe('new text')
  })

  it('does not append a part that begins elsewhere', async () => {
    const ranges: (string | undefined)[] = []
    let breakOff: (() => void) | undefined
    await internet.serve('data.test', (request, answer) => {
      ranges.push(request.headers.range)
      if (request.headers.range !== undefined)
        return answer.writeHead(206, { ETag: '"v1"', 'Content-Range': 'bytes 2-7/8' }).end('XXXXXX')
      answer.writeHead(200, { ETag: '"v1"', 'Content-Length': 8 })
      if (ranges.length > 1) return answer.end('whole123')
      answer.write('half')
      breakOff = () => answer.destroy()
    })
    await fetchUrl('http://data.test/f', { progress: () => breakOff?.() })
    expect(ranges).toEqual([undefined, 'bytes=4-', undefined])
    expect(await readFile(join(dir, 'f'), 'utf8')).toBe('whole123')
  })

  it('gives up on a server that goes silent', async () => {
    await internet.serve('data.test', (_, answer) => {
      answer.writeHead(200, { 'Content-Length': 10 })
      answer.write('abc')
    })
    await expect(
      fetchUrl('http://data.test/f', { retries: 0, limits: { idleTimeoutMs: 100 } }),
    ).rejects.toMatchObject({
      code: 'source.unavailable',
      message: expect.stringContaining('nothing arrived'),
    })
  })

  it('gives up on a server that never answers the request', async () => {
    await internet.serve('data.test', () => undefined)
    await expect(
      fetchUrl('http://data.test/f', { retries: 0, limits: { idleTimeoutMs: 100 } }),
    ).rejects.toMatchObject({
      code: 'source.unavailable',
      message: expect.stringContaining('nothing arrived'),
    })
  })

  it('ends a drip that would never end, at the total time', async () => {
    await internet.serve('data.test', (_, answer) => {
      const timer = setInterval(() => answer.write('x'), 20)
      answer.on('close', () => clearInterval(timer))
    })
    await expect(fetchUrl('http://data.test/f', { limits: { totalTimeoutMs: 300 } })).rejects.toMatchObject({
      code: 'source.unavailable',
      message: expect.stringContaining('within 0.3 s'),
    })
  })

  it('ends with the reason of the signal', async () => {
    await internet.serve('data.test', () => undefined)
    const stop = new AbortController()
    setTimeout(() => stop.abort(new Error('job stopped')), 50)
    await expect(fetchUrl('http://data.test/f', { signal: stop.signal })).rejects.toThrow('job stopped')
  })
})

describe('limits and checksums', () => {
  it('refuses what announces too much before reading it', async () => {
    await internet.serve('data.test', (_, answer) => {
      answer.writeHead(200, { 'Content-Length': 1001 })
      answer.write('x')
    })
    await expect(fetchUrl('http://data.test/f', { bytesMax: 1000 })).rejects.toMatchObject({
      code: 'source.too_large',
      message: expect.stringContaining('1001'),
    })
  })

  it('refuses what is larger than the job expects', async () => {
    await internet.serve('data.test', (_, answer) => answer.end('x'.repeat(11)))
    await expect(fetchUrl('http://data.test/f', { params: { MaxBytes: 10 } })).rejects.toMatchObject({
      code: 'source.too_large',
    })
  })

  it('stops an endless body at the limit', async () => {
    await internet.serve('data.test', (_, answer) => {
      const more = (): void => {
        while (!answer.destroyed && answer.write(Buffer.alloc(65_536)));
        answer.once('drain', more)
      }
      more()
    })
    await expect(fetchUrl('http://data.test/f', { bytesMax: 500_000 })).rejects.toMatchObject({
      code: 'source.too_large',
    })
    expect((await stat(join(dir, '.part'))).size).toBeLessThanOrEqual(500_000)
  })

  it('refuses content with another checksum', async () => {
    await internet.serve('data.test', (_, answer) => answer.end('tampered'))
    await expect(
      fetchUrl('http://data.test/f', { params: { Checksum: `sha256:${'0'.repeat(64)}` } }),
    ).rejects.toMatchObject({ code: 'source.checksum' })
    expect(await readdir(dir)).toEqual(['.part'])
  })

  it('measures by HEAD when the server answers it, and knows nothing otherwise', async () => {
    await internet.serve('data.test', (request, answer) => {
      if (request.method === 'HEAD' && request.url === '/yes') answer.setHeader('Content-Length', 77)
      else answer.statusCode = 405
      answer.end()
    })
    const source = urlSource({ dialer: internet, clock, chance })
    expect(await source.measure(input('http://data.test/yes'), never)).toBe(77)
    expect(await source.measure(input('http://data.test/no'), never)).toBeUndefined()
    expect(await source.measure(input('http://10.0.0.1/'), never)).toBeUndefined()
  })
})

describe('admission', () => {
  it.each([
    ['', /missing or malformed/],
    ['not a url', /missing or malformed/],
    ['ftp://data.test/f', /"ftp" is not fetched/],
    ['file:///etc/passwd', /"file" is not fetched/],
  ])('refuses the URL "%s"', async (url, message) => {
    const source = urlSource({ dialer: internet, clock, chance })
    const [problem] = await source.admit(input(url))
    expect(problem?.message).toMatch(message)
    await expect(fetchUrl(url)).rejects.toMatchObject({ code: 'source.refused' })
  })

  it('refuses a malformed checksum and accepts a good one', async () => {
    const source = urlSource({ dialer: internet, clock, chance })
    expect(await source.admit(input('http://a.test/', { SHA256: 'abc' }))).toHaveLength(1)
    expect(await source.admit(input('http://a.test/', { SHA256: 'A'.repeat(64) }))).toEqual([])
  })
})
