import { readFile, stat } from 'node:fs/promises'
import { hostname, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import type { ListenOptions } from '../../model/index.js'
import type { Config } from '../../config/index.js'
import { isWeirError, WeirError } from '../../errors.js'
import type { Clock } from '../../ports/index.js'
import type { NodeLogger } from '../logger.js'
import type { Door } from './door.js'
import { fingerprintOf, selfSignedCertificate, type CertifiedKey } from './self-signed.js'

const LOOK_EVERY_MS = 5_000
const RENEWAL_EVERY_MS = 6 * 60 * 60 * 1000

/** What the API shows its clients. */
export interface ServerCertificate extends CertifiedKey {
  /** `SHA256:…` of the public key. */
  fingerprint: string
  /** Calls back with each new certificate until the signal aborts: files that changed, a renewal. */
  watch(onChange: (certified: CertifiedKey) => void, signal: AbortSignal): void
}

export interface CertificateOptions {
  config: Config
  listen: ListenOptions
  door: Door
  clock: Clock
  logger: NodeLogger
}

/** Opens the certificate; undefined when the API speaks plain HTTP. Rejects with `tls.invalid`. */
export async function openCertificate(options: CertificateOptions): Promise<ServerCertificate | undefined> {
  const { config, door, clock, listen } = options
  if (door.tls === 'none') return undefined
  const isOwn = door.tls === 'self-signed'
  const { 'API.TLS.CertFile': certFile, 'API.TLS.KeyFile': keyFile } = config.values
  const read = (): Promise<CertifiedKey> =>
    isOwn
      ? selfSignedCertificate(join(config.dataDir, 'tls'), namesOf(listen, config), clock.now())
      : readFiles(certFile, keyFile)
  const first = await read()
  checkPair(first, isOwn ? join(config.dataDir, 'tls') : certFile)
  const everyMs = isOwn ? RENEWAL_EVERY_MS : LOOK_EVERY_MS
  // A renewal by files replaces both; the newest change of either counts.
  const mark = isOwn ? () => Promise.resolve('') : () => stampOf([certFile, keyFile])
  const stamp = await mark()
  return {
    ...first,
    fingerprint: fingerprintOf(first.cert),
    watch: (onChange, signal) => {
      void look({ ...options, read, mark, everyMs, onChange, signal, current: first, stamp })
    },
  }
}

interface Look extends CertificateOptions {
  read: () => Promise<CertifiedKey>
  mark: () => Promise<string>
  everyMs: number
  onChange: (certified: CertifiedKey) => void
  signal: AbortSignal
  current: CertifiedKey
  stamp: string
}

/** What cannot be used is said once per change, and the certificate before stays. */
async function look(options: Look): Promise<void> {
  const { clock, logger, read, mark, everyMs, onChange, signal } = options
  let { current, stamp } = options
  for (;;) {
    try {
      await clock.sleep(everyMs, signal)
    } catch {
      return // The server closes.
    }
    try {
      const seen = await mark()
      if (seen === stamp && stamp !== '') continue
      stamp = seen
      const next = await read()
      if (next.cert === current.cert && next.key === current.key) continue
      checkPair(next, 'the changed files')
      current = next
      onChange(next)
      logger.info({ fingerprint: fingerprintOf(next.cert) }, 'the API shows a new certificate')
    } catch (error) {
      logger.warn({ err: error }, 'the changed certificate cannot be used; the one before stays')
    }
  }
}

async function readFiles(certFile: string, keyFile: string): Promise<CertifiedKey> {
  const read = async (path: string, what: string): Promise<string> => {
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      throw new WeirError('tls.invalid', `Cannot read the ${what} "${path}": ${(error as Error).message}`, {
        hint: 'Check API.TLS.CertFile and API.TLS.KeyFile, and that this user may read both.',
        cause: error,
      })
    }
  }
  return { cert: await read(certFile, 'certificate'), key: await read(keyFile, 'key') }
}

function checkPair({ cert, key }: CertifiedKey, where: string): void {
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    if (isWeirError(error)) throw error
    throw new WeirError(
      'tls.invalid',
      `Cannot use the certificate of ${where}: ${(error as Error).message}`,
      {
        hint: 'The certificate must be PEM, with its chain, and the key must belong to it.',
        cause: error,
      },
    )
  }
}

async function stampOf(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(
    paths.map(async (path) => {
      const { mtimeMs, size, ino } = await stat(path)
      return `${mtimeMs}/${size}/${ino}`
    }),
  )
  return stamps.join(' ')
}

/** Names and addresses under which clients can mean this server. */
function namesOf(listen: ListenOptions, config: Config): string[] {
  const own = ['localhost', '127.0.0.1', '::1']
  if ('socketPath' in listen) return own
  const everywhere = listen.host === '0.0.0.0' || listen.host === '::'
  const addresses = everywhere
    ? Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address))
    : [listen.host]
  const names = [...own, hostname(), ...config.values['API.AllowedHosts'], ...addresses]
  // Addresses of a link only mean something together with the link.
  return [...new Set(names.map((name) => name.toLowerCase()))].filter(
    (name) => /^[a-z0-9.:-]{1,253}$/.test(name) && !name.startsWith('fe80:'),
  )
}
