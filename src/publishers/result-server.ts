import { Buffer } from 'node:buffer'
import { open, type FileHandle } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { WeirError } from '../errors.js'
import { readByteRange, type ByteRange } from './byte-range.js'
import type { Found, ShelfEntry } from './result-shelf.js'

export interface ResultServerOptions {
  find(executionId: string, token: string): Found
  listen: { host: string; port: number }
  /** The configuration keys of `listen`, for messages. */
  keys: { host: string; port: string }
  /** Downloads at the same time; more are asked to come back. Default 64. */
  transfersMax?: number
  /** A reader that takes nothing for so long is cut off; it can resume. Default 60 s. */
  idleTimeoutMs?: number
  /** A reader that takes less than this on the whole is cut off. Default 16 KiB. */
  bytesPerSecondMin?: number
}

const LINK = /^\/([A-Za-z0-9_-]{16,128})\/([A-Za-z0-9][A-Za-z0-9_-]{0,127})\.tar\.gz$/

/**
 * Serves archives at `/<token>/<execution>.tar.gz` and nothing else: no listing, no other methods than GET and HEAD.
 * Ranges, entity tags (the archive's SHA-256), `Repr-Digest` (RFC 9530). An expired link is 410, anything unknown 404.
 * Rejects with `port.in_use` or `config.invalid` when it cannot listen.
 */
export async function startResultServer(options: ResultServerOptions): Promise<Server> {
  const { listen } = options
  const transfers = { running: 0 }
  const server = createServer(
    {
      maxHeaderSize: 8192,
      connectionsCheckingInterval: 5000,
      headersTimeout: 10_000,
      requestTimeout: 20_000,
      keepAliveTimeout: 5000,
    },
    (request, response) => {
      answer(request, response, options, transfers).catch(() => response.destroy())
    },
  )
  server.maxConnections = 256
  server.maxRequestsPerSocket = 100
  server.setTimeout(options.idleTimeoutMs ?? 60_000)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, options)))
    server.listen(listen.port, listen.host, resolve)
  })
  server.on('error', () => undefined) // A connection that the kernel cannot hand over is no reason to die.
  return server
}

/** Where a server listens. */
export function listeningAddress(server: Server): { host: string; port: number } {
  const { address, port } = server.address() as AddressInfo
  return { host: address, port }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: ResultServerOptions,
  transfers: { running: number },
): Promise<void> {
  response.setHeader('X-Content-Type-Options', 'nosniff')
  response.setHeader('Cache-Control', 'private, no-store')
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD')
    return refuse(response, 405, 'only GET and HEAD')
  }
  const [path = ''] = (request.url ?? '').split('?', 1)
  const [, token, executionId] = LINK.exec(path) ?? []
  if (token === undefined || executionId === undefined) return refuse(response, 404, 'nothing here')
  const found = options.find(executionId, token)
  if (found.state === 'gone') return refuse(response, 410, 'this result has expired and was deleted')
  if (found.state === 'unknown') return refuse(response, 404, 'nothing here')
  if (transfers.running >= (options.transfersMax ?? 64)) {
    response.setHeader('Retry-After', '5')
    return refuse(response, 503, 'too many downloads at the moment')
  }
  transfers.running += 1
  try {
    await send(request, response, found, options)
  } finally {
    transfers.running -= 1
  }
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  { entry, path }: { entry: ShelfEntry; path: string },
  options: ResultServerOptions,
): Promise<void> {
  const tag = `"${entry.sha256}"`
  setHeaders(response, entry, tag)
  if (request.headers['if-none-match'] === tag) {
    response.writeHead(304).end()
    return
  }
  const range = ifRangeHolds(request, tag) ? readByteRange(request.headers.range, entry.bytes) : undefined
  if (range === 'unsatisfiable') {
    response.setHeader('Content-Range', `bytes */${entry.bytes}`)
    return refuse(response, 416, 'the range is outside the result')
  }
  // Open before the head is sent: what is open can be read to its end even when it expires meanwhile.
  const file = await open(path, 'r').catch(() => undefined)
  if (file === undefined) return refuse(response, 410, 'this result has expired and was deleted')
  try {
    writeHead(response, entry, range)
    if (request.method === 'HEAD') response.end()
    else await stream(file, response, range ?? { start: 0, end: entry.bytes - 1 }, options)
  } finally {
    await file.close().catch(() => undefined) // the stream may have closed it
  }
}

/** Bounded for a slow reader by its whole time, beside the idle limit of the socket. */
async function stream(
  file: FileHandle,
  response: ServerResponse,
  { start, end }: ByteRange,
  { idleTimeoutMs = 60_000, bytesPerSecondMin = 16 * 1024 }: ResultServerOptions,
): Promise<void> {
  const limitMs = idleTimeoutMs + ((end - start + 1) / bytesPerSecondMin) * 1000
  const late = setTimeout(() => response.destroy(), Math.min(limitMs, 2 ** 31 - 1))
  try {
    await pipeline(file.createReadStream({ start, end, autoClose: false }), response)
  } finally {
    clearTimeout(late)
  }
}

function setHeaders(
  response: ServerResponse,
  { sha256, executionId, createdMs }: ShelfEntry,
  tag: string,
): void {
  response.setHeader('ETag', tag)
  response.setHeader('Accept-Ranges', 'bytes')
  response.setHeader('Last-Modified', new Date(createdMs).toUTCString())
  response.setHeader('Repr-Digest', `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`)
  response.setHeader('X-Weir-SHA256', sha256)
  response.setHeader('Content-Disposition', `attachment; filename="${executionId}.tar.gz"`)
}

function writeHead(response: ServerResponse, { bytes }: ShelfEntry, range: ByteRange | undefined): void {
  response.setHeader('Content-Type', 'application/gzip')
  if (range === undefined) {
    response.writeHead(200, { 'Content-Length': bytes })
    return
  }
  response.writeHead(206, {
    'Content-Length': range.end - range.start + 1,
    'Content-Range': `bytes ${range.start}-${range.end}/${bytes}`,
  })
}

function ifRangeHolds({ headers }: IncomingMessage, tag: string): boolean {
  const condition = headers['if-range']
  return condition === undefined || condition === tag
}

function refuse(response: ServerResponse, status: number, why: string): void {
  const body = `${why}\n`
  response.removeHeader('Content-Disposition')
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}

function listenError(error: NodeJS.ErrnoException, { listen, keys }: ResultServerOptions): WeirError {
  const where = `${listen.host}:${listen.port}`
  if (error.code === 'EADDRINUSE')
    return new WeirError('port.in_use', `Cannot serve results on ${where}: another program uses the port`, {
      hint: `Stop the other program, or choose another port with ${keys.port}`,
      cause: error,
    })
  return new WeirError('config.invalid', `Cannot serve results on ${where}: ${error.code ?? error.message}`, {
    hint: `Set ${keys.host} to an address of this machine and ${keys.port} to a port this user may open`,
    cause: error,
  })
}
