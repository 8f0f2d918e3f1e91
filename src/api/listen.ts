import { chmod, lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { toWeirError, WeirError } from '../errors.js'
import type { ListenOptions } from '../model/listen-address.js'

/** Where it listens. */
export interface ListenAddress {
  /** Base URL for clients: `http://127.0.0.1:1234`, `unix:/run/weir.sock`. */
  url: string
  /** The port that was taken; 0 for a Unix socket. */
  port: number
}

/**
 * Opens the socket. Port 0 takes a free one. Rejects with `port.in_use` when somebody else listens there, and with
 * `config.invalid` when the address cannot be used.
 */
export async function listen(
  app: FastifyInstance,
  where: ListenOptions,
  scheme: 'http' | 'https',
): Promise<ListenAddress> {
  if ('socketPath' in where) return listenOnSocket(app, where.socketPath)
  const host = where.host === 'localhost' ? '127.0.0.1' : where.host
  await open(app, { host, port: where.port }, `${where.host}:${where.port}`)
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : where.port
  return { url: `${scheme}://${clientHost(host)}:${port}`, port }
}

async function listenOnSocket(app: FastifyInstance, path: string): Promise<ListenAddress> {
  await removeDeadSocket(path)
  // The socket must never be open to others, not even for a moment.
  const previous = process.umask(0o177)
  try {
    await open(app, { path }, path)
  } finally {
    process.umask(previous)
  }
  await chmod(path, 0o600)
  return { url: `unix:${path}`, port: 0 }
}

async function open(
  app: FastifyInstance,
  where: { host: string; port: number } | { path: string },
  shown: string,
): Promise<void> {
  try {
    await app.listen(where)
  } catch (error) {
    throw listenError(error, shown)
  }
}

function listenError(error: unknown, shown: string): WeirError {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  if (code === 'EADDRINUSE') {
    return new WeirError('port.in_use', `Cannot listen on ${shown}: another program listens there`, {
      hint: 'Stop that program, or choose another port with API.Port (0 takes a free one).',
      cause: error,
    })
  }
  if (code === 'EACCES' || code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'ENOENT') {
    return new WeirError('config.invalid', `Cannot listen on ${shown}: ${code}`, {
      hint: 'Choose an address of this machine with API.Host and a port above 1023 with API.Port.',
      cause: error,
    })
  }
  return toWeirError(error, 'internal', `Cannot listen on ${shown}`)
}

/** A socket file that nobody listens on any more is in the way; anything else there is left alone. */
async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined || !found.isSocket() || (await isAnswered(path))) return
  await unlink(path)
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function clientHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}
