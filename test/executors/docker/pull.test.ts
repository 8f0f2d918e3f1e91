import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createGzip } from 'node:zlib'
import { readFileSync } from 'node:fs'
import { pack } from 'tar-stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DockerExecutorOptions } from '../../../src/executors/docker/index.js'
import { docker, noDocker, removeImage, runScript, skipNote, testExecutor } from './with-docker.js'

/** A registry on loopback that has one image under several names; each name fails in its own way. */
class Registry {
  readonly requests: string[] = []
  readonly logins: string[] = []
  #blobs = new Map<string, Buffer>()
  #manifests = new Map<string, Buffer>()
  #server: Server | undefined
  #slowLayer = ''
  address = ''
  readonly #private: boolean

  /** A private one answers nobody without the login `robot` / `s3cret`. */
  constructor(options: { private: boolean }) {
    this.#private = options.private
  }

  async start(): Promise<void> {
    for (const [name, architecture] of [
      ['any', 'amd64'],
      ['foreign', 's390x'],
      ['slow', 'amd64'],
    ] as const) {
      const layerTar = await layer()
      const layerBlob = await gzip(layerTar)
      const diffId = `sha256:${hash(layerTar)}`
      if (name === 'slow') this.#slowLayer = `sha256:${hash(layerBlob)}`
      const config = Buffer.from(
        JSON.stringify({
          architecture,
          os: 'linux',
          config: { Cmd: ['/bin/busybox', 'echo', 'pulled'] },
          rootfs: { type: 'layers', diff_ids: [diffId] },
        }),
      )
      this.#blobs.set(`sha256:${hash(config)}`, config)
      this.#blobs.set(`sha256:${hash(layerBlob)}`, layerBlob)
      const manifest = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: MANIFEST,
          config: { mediaType: CONFIG, size: config.length, digest: `sha256:${hash(config)}` },
          layers: [{ mediaType: LAYER, size: layerBlob.length, digest: `sha256:${hash(layerBlob)}` }],
        }),
      )
      this.#manifests.set(name, manifest)
    }
    this.#server = createServer((request, response) => this.#answer(request, response))
    await new Promise<void>((resolve) => this.#server?.listen(0, '127.0.0.1', resolve))
    this.address = `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get digest(): string {
    return `sha256:${hash(this.#manifests.get('any') ?? Buffer.alloc(0))}`
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections()
    await new Promise((resolve) => this.#server?.close(resolve))
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? ''
    this.requests.push(`${request.method} ${url}`)
    if (request.headers.authorization !== undefined) this.logins.push(request.headers.authorization)
    response.setHeader('Docker-Distribution-Api-Version', 'registry/2.0')
    const [, name = '', kind = '', reference = ''] = /^\/v2\/(.+)\/(manifests|blobs)\/(.+)$/.exec(url) ?? []
    const login = `Basic ${Buffer.from('robot:s3cret').toString('base64')}`
    if (this.#private && request.headers.authorization !== login) {
      response.setHeader('WWW-Authenticate', 'Basic realm="test"')
      fail(response, 401, 'UNAUTHORIZED', 'authentication required')
      return
    }
    if (name === 'slow' && kind === 'blobs' && reference === this.#slowLayer) return
    if (url === '/v2/') {
      response.writeHead(200).end()
      return
    }
    if (kind === 'manifests' && name !== 'unknown') {
      const wanted = reference.startsWith('sha256:')
        ? [...this.#manifests.values()].find((bytes) => reference === `sha256:${hash(bytes)}`)
        : (this.#manifests.get(name) ?? this.#manifests.get('any'))
      if (wanted !== undefined && reference !== 'missing') {
        response.setHeader('Docker-Content-Digest', `sha256:${hash(wanted)}`)
        setTimeout(() => send(request, response, wanted, MANIFEST), name === 'shared' ? 500 : 0)
        return
      }
    }
    const blob = kind === 'blobs' ? this.#blobs.get(reference) : undefined
    if (blob === undefined) fail(response, 404, 'MANIFEST_UNKNOWN', 'manifest unknown')
    else send(request, response, blob, 'application/octet-stream')
  }
}

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
const CONFIG = 'application/vnd.docker.container.image.v1+json'
const LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip'

describe.skipIf(noDocker !== '')(`an image that is not on the node${skipNote(noDocker)}`, () => {
  const registry = new Registry({ private: false })
  const locked = new Registry({ private: true })
  const names = ['ok', 'shared', 'foreign', 'slow', 'digest']
  const image = (name: string, tag = '1') => `${registry.address}/${name}:${tag}`

  beforeAll(async () => {
    await registry.start()
    await locked.start()
  })
  afterAll(async () => {
    for (const name of names) await removeImage(image(name))
    await removeImage(`${registry.address}/digest@${registry.digest}`)
    await removeImage(`${locked.address}/ok:1`)
    await registry.stop()
    await locked.stop()
  })

  /** Runs an image with an executor that lists this registry. */
  async function run(name: string, options: Partial<DockerExecutorOptions> = {}) {
    const executor = testExecutor({
      registries: { allowPrivate: [registry.address, locked.address] },
      ...options,
    })
    try {
      return await runScript(executor, { image: name })
    } finally {
      await executor.close()
    }
  }

  it('is pulled, says so while it does, and its digest is recorded', async () => {
    const { stdout, exit, progress } = await run(image('ok'))
    expect(stdout).toBe('pulled\n')
    expect(exit.details.imageDigest).toBe(registry.digest)
    expect(progress[0]).toBe(`Pulling ${image('ok')}`)
    expect(progress.at(-1)).toBe(`Pulled ${image('ok')}`)
    const before = registry.requests.length
    expect((await run(image('ok'))).progress).toEqual([])
    expect(registry.requests).toHaveLength(before)
  })

  it('is pulled by digest', async () => {
    const { stdout } = await run(`${registry.address}/digest@${registry.digest}`)
    expect(stdout).toBe('pulled\n')
  })

  it('P-18 is not pulled from a private registry that the operator does not list: nobody even asks', async () => {
    const before = registry.requests.length
    await expect(run(image('other'), { registries: {} })).rejects.toMatchObject({
      code: 'image.unavailable',
      message: expect.stringContaining('not on the public internet') as string,
    })
    expect(registry.requests).toHaveLength(before)
  })

  it.each([
    ['unknown', '1', /has no such image or tag|does not know it/],
    ['ok', 'missing', /has no such image or tag/],
  ])('is refused with the reason: %s:%s', async (name, tag, expected) => {
    const refusal = await run(image(name, tag)).catch((error: unknown) => error)
    expect(refusal).toMatchObject({
      code: 'image.unavailable',
      message: expect.stringMatching(expected) as string,
    })
    expect((refusal as { hint: string }).hint).not.toBe('')
  })

  it('is refused without the login that its registry wants', async () => {
    await expect(run(`${locked.address}/ok:1`)).rejects.toMatchObject({
      code: 'image.unavailable',
      message: expect.stringContaining('refuses the login') as string,
      hint: expect.stringContaining('user name and password') as string,
    })
  })

  it('is pulled with the login of its registry, which nobody else sees', async () => {
    const lines: string[] = []
    const logger = {
      info: (...words: unknown[]) => lines.push(JSON.stringify(words)),
      warn: (...words: unknown[]) => lines.push(JSON.stringify(words)),
    }
    const { stdout, exit, progress } = await run(`${locked.address}/ok:1`, {
      registries: {
        allowPrivate: [locked.address],
        credentials: { [locked.address]: { username: 'robot', password: 's3cret' } },
      },
      logger,
    })
    expect(stdout).toBe('pulled\n')
    expect(locked.logins.length).toBeGreaterThan(0)
    expect(JSON.stringify([lines, exit, progress])).not.toContain('s3cret')
  })

  it('says that a login is wrong without repeating it', async () => {
    await removeImage(`${locked.address}/ok:1`)
    const refusal = (await run(`${locked.address}/ok:1`, {
      registries: {
        allowPrivate: [locked.address],
        credentials: { [locked.address]: { username: 'robot', password: 'wr0ng' } },
      },
    }).catch((error: unknown) => error)) as Error
    expect(refusal).toMatchObject({ code: 'image.unavailable' })
    expect(`${refusal.message} ${JSON.stringify(refusal)}`).not.toContain('wr0ng')
  })

  it('is refused when it is made for another platform', async () => {
    await expect(run(image('foreign'))).rejects.toMatchObject({
      code: 'image.unavailable',
      message: expect.stringMatching(/made for linux\/s390x, this node runs|platform/) as string,
    })
  })

  it('P-19 is refused when it is larger than the node takes', async () => {
    await removeImage(image('ok'))
    await expect(run(image('ok'), { limits: { imageBytesMax: 1000 } })).rejects.toMatchObject({
      code: 'image.unavailable',
      message: expect.stringContaining('takes at most 1000') as string,
    })
    await expect(docker.getImage(image('ok')).inspect()).rejects.toMatchObject({ statusCode: 404 })
  })

  it('P-19 is given up when the pull takes too long', async () => {
    const begin = Date.now()
    await expect(run(image('slow'), { limits: { pullTimeoutMs: 800 } })).rejects.toMatchObject({
      code: 'image.unavailable',
      message: expect.stringContaining('it took longer than') as string,
    })
    expect(Date.now() - begin).toBeLessThan(8000)
  })

  it('says that the node has no way to a registry', async () => {
    const dead = '127.0.0.1:9'
    await expect(run(`${dead}/x:1`, { registries: { allowPrivate: [dead] } })).rejects.toMatchObject({
      code: 'image.unavailable',
      message: expect.stringContaining('cannot reach') as string,
    })
  })

  it('is judged before the job is accepted: reference and registry, not the network', async () => {
    const executor = testExecutor()
    const admit = async (Image: string) =>
      executor.admit?.(
        { Engine: { Type: 'docker', Params: { Image } } } as unknown as Parameters<
          NonNullable<typeof executor.admit>
        >[0],
        AbortSignal.timeout(5000),
      )
    try {
      expect(await admit('evil/../x')).toMatchObject([{ code: 'image.unavailable' }])
      expect(await admit('169.254.169.254/x')).toMatchObject([{ code: 'image.unavailable' }])
      expect(await admit('sha256:'.padEnd(71, '0'))).toMatchObject([{ code: 'image.unavailable' }])
      expect(await admit('busybox:not-here')).toEqual([])
    } finally {
      await executor.close()
    }
  })

  it('is pulled once for everybody who asks at the same time', async () => {
    await removeImage(image('shared'))
    const before = registry.requests.length
    const executor = testExecutor({ registries: { allowPrivate: [registry.address] } })
    try {
      const runs = await Promise.all([1, 2, 3].map(() => runScript(executor, { image: image('shared') })))
      expect(runs.map(({ stdout }) => stdout)).toEqual(['pulled\n', 'pulled\n', 'pulled\n'])
      const pulls = registry.requests.slice(before).filter((line) => line.endsWith('manifests/1'))
      expect(pulls.length).toBeLessThanOrEqual(2)
      const said = runs.flatMap(({ progress }) => progress)
      expect(said.filter((line) => line.startsWith('Pulling'))).toHaveLength(1)
      expect(said.filter((line) => line.startsWith('Waiting')).length).toBeGreaterThanOrEqual(1)
    } finally {
      await executor.close()
    }
  })
})

describe('a machine without a Docker engine', () => {
  it('says that there is none and what to do', async () => {
    const executor = testExecutor({ socketPath: '/nonexistent/docker.sock' })
    expect(await executor.probe(AbortSignal.timeout(2000))).toMatchObject({
      available: false,
      message: expect.stringContaining('there is no socket "/nonexistent/docker.sock"') as string,
      hint: expect.stringContaining('Install') as string,
    })
    expect(await executor.network.modes()).toMatchObject({ http: false, full: false })
    await executor.close()
  })

  it('says that the engine is not running when its socket is dead', async () => {
    const path = `/tmp/weir-dead-${process.pid}.sock`
    const { createServer: listen } = await import('node:net')
    // Accepts, reads and never answers.
    const mute = listen((socket) => socket.resume())
    const begin = Date.now()
    await new Promise<void>((resolve) => mute.listen(path, resolve))
    const executor = testExecutor({ socketPath: path })
    const health = await executor.probe(AbortSignal.timeout(300))
    expect(health).toMatchObject({
      available: false,
      message: expect.stringContaining('does not answer') as string,
    })
    expect(Date.now() - begin).toBeLessThan(3000)
    await executor.close()
    // Closes only if the probe hung up.
    await new Promise((resolve) => mute.close(resolve))
  })
})

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex')
}

async function layer(): Promise<Buffer> {
  const archive = pack()
  // Unlike every layer an earlier run left in the engine.
  archive.entry({ name: 'stamp' }, `${Date.now()} ${Math.random()}`)
  archive.entry({ name: 'bin/busybox', mode: 0o755 }, readFileSync('/bin/busybox'))
  archive.finalize()
  return collect(archive)
}

async function gzip(bytes: Buffer): Promise<Buffer> {
  const stream = createGzip()
  stream.end(bytes)
  return collect(stream)
}

async function collect(stream: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function send(request: IncomingMessage, response: ServerResponse, bytes: Buffer, type: string): void {
  response.writeHead(200, { 'Content-Type': type, 'Content-Length': bytes.length })
  if (request.method === 'HEAD') response.end()
  else response.end(bytes)
}

function fail(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'Content-Type': 'application/json' })
  response.end(JSON.stringify({ errors: [{ code, message }] }))
}
