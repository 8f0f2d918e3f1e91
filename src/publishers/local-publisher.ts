import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { packTar } from '../archive/index.js'
import { toWeirError } from '../errors.js'
import type { Clock } from '../ports/clock.js'
import type { Publisher } from '../ports/data.js'
import { listeningAddress, startResultServer } from './result-server.js'
import { ResultShelf } from './result-shelf.js'

export interface LocalPublisherOptions {
  /** For the archives and what is known of them; belongs to this publisher alone. */
  dir: string
  /** Port 0 takes any free one. */
  listen: { host: string; port: number }
  /** Name or address in links, optionally with port. Absent or empty: the listening address, or, when that is "all
   * addresses", the machine's first one that is not loopback. */
  advertise?: string
  /** Links work for so long; then the archive is deleted. */
  retentionMs: number
  /** For all archives together. */
  quotaBytes: number
  clock: Clock
  /** Downloads at the same time. Default 64. */
  transfersMax?: number
  /** For readers that take nothing. Default 60 s. */
  idleTimeoutMs?: number
  /** Slower readers are cut off; they can resume. Default 16 KiB. */
  bytesPerSecondMin?: number
}

export interface LocalPublisher extends Publisher {
  /** Links begin with it, without a slash at the end. */
  readonly baseUrl: string
  close(): Promise<void>
}

/** Expired archives go at once from the outside, and from the disk after so long. */
const SWEEP_MS = 60_000
const ENTRIES_MAX = 10_000_000

/**
 * Keeps results on the node and serves them over HTTP (`local`): `<execution>.tar.gz` holding `stdout`, `stderr`,
 * `exitCode` and one directory per result path, at a link that nobody can guess (192 bits) and that expires. The published
 * result is `urlDownload` with `URL`, `SHA256` and `Bytes`. `publish` rejects with `publisher.quota` or `publisher.failed`;
 * starting rejects with `port.in_use`, `config.invalid` or `store.unavailable`.
 */
export async function localPublisher(options: LocalPublisherOptions): Promise<LocalPublisher> {
  const shelf = await ResultShelf.open(options)
  const server = await startResultServer({
    ...options,
    find: (executionId, token) => shelf.find(executionId, token),
    keys: { host: 'Publishers.Types.Local.Host', port: 'Publishers.Types.Local.Port' },
  })
  await shelf.sweep()
  const sweeping = setInterval(() => void shelf.sweep().catch(() => undefined), SWEEP_MS) // tried again next time
  sweeping.unref()
  const baseUrl = `http://${advertised(options.advertise, listeningAddress(server))}`
  return {
    type: 'local',
    baseUrl,
    async admit() {
      if (await shelf.hasRoom()) return []
      return [
        {
          message: `The local publisher is full: ${shelf.usedBytes} of ${options.quotaBytes} bytes are used`,
          hint: 'Wait until older results expire, or raise Publishers.Types.Local.Quota',
        },
      ]
    },
    async publish({ executionId, dir }, _spec, signal) {
      try {
        signal.throwIfAborted()
        const tar = await packTar({
          path: dir,
          bytesMax: Number.MAX_SAFE_INTEGER,
          entriesMax: ENTRIES_MAX,
          what: `the results of ${executionId}`,
          codes: { failed: 'publisher.failed', tooLarge: 'publisher.quota' },
          signal,
        })
        const { entry, token } = await shelf.put(executionId, tar, signal)
        const URL = `${baseUrl}/${token}/${executionId}.tar.gz`
        return { Type: 'urlDownload', Params: { URL, SHA256: entry.sha256, Bytes: entry.bytes } }
      } catch (error) {
        if (signal.aborted) throw signal.reason
        throw toWeirError(error, 'publisher.failed', `Cannot publish the results of ${executionId}`)
      }
    },
    async close() {
      clearInterval(sweeping)
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections() // downloads resume after a restart
      await closed
    },
  }
}

function advertised(advertise: string | undefined, { host, port }: { host: string; port: number }): string {
  const name = advertise === undefined || advertise === '' ? reachableHost(host) : advertise
  if (isIP(name) === 6) return `[${name}]:${port}`
  return /:\d+$/.test(name) ? name : `${name}:${port}`
}

function reachableHost(host: string): string {
  if (host !== '0.0.0.0' && host !== '::') return host
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return addresses.find(({ internal, family }) => !internal && family === 'IPv4')?.address ?? '127.0.0.1'
}
