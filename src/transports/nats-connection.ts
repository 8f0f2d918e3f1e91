import type { NatsConnection, TlsOptions } from '@nats-io/transport-node'
import { X509Certificate } from 'node:crypto'
import { checkServerIdentity, type PeerCertificate, rootCertificates } from 'node:tls'
import { WeirError } from '../errors.js'
import type { KeyPair } from '../model/key-pair.js'

/** How to reach and trust a message server. */
export interface NatsAddress {
  /** `nats://host:4222` or `tls://host:4222`; scheme and port may be left out. */
  url: string
  /** Refuse to talk without TLS. */
  isTlsRequired: boolean
  /** PEM file with the authorities to trust instead of the machine's own. */
  caFile?: string
  /** PEM texts: exactly this certificate is trusted, whatever names stand in it, below these or known authorities. */
  pinned?: { cert: string; authorities: readonly string[] }
}

export interface NatsConnectionOptions extends NatsAddress {
  key: KeyPair
  /** The owner of the connection: its name in the server's log, and the only inbox it may listen to. */
  identity: string
  /** Until the connection must stand. Default 5 s. */
  timeoutMs?: number
}

export const NATS_PORT = 4222

/**
 * Opens one connection, without any retry. Rejects with `transport.refused` when the server does not know the key,
 * otherwise with `transport.unreachable`.
 */
export async function openNats(options: NatsConnectionOptions): Promise<NatsConnection> {
  const { key, identity, url, timeoutMs = 5_000 } = options
  const { connect, errors } = await import('@nats-io/transport-node')
  let connection: NatsConnection
  try {
    const { host, port, scheme } = readNatsUrl(url)
    connection = await connect({
      servers: `${host}:${port}`,
      name: identity,
      inboxPrefix: inboxOf(identity),
      authenticator: (nonce = '') => ({ nkey: key.publicKey, sig: key.sign(nonce) }),
      ...tlsOf(options, { scheme, host }),
      timeout: timeoutMs,
      // What is lost is built anew, with who is allowed in asked anew.
      reconnect: false,
      ignoreClusterUpdates: true,
      noAsyncTraces: true,
      pingInterval: PING_MS,
      maxPingOut: 2,
    })
  } catch (error) {
    if (error instanceof errors.AuthorizationError) throw refused(url, error)
    throw error instanceof WeirError ? error : unreachable(url, error)
  }
  return checked(connection, url)
}

/** Where answers to `identity` arrive; nobody else may listen there. */
export function inboxOf(identity: string): string {
  return `_INBOX.${identity}`
}

/** Throws `config.invalid` for what is not `[nats://|tls://]host[:port]`. */
export function readNatsUrl(url: string): { scheme: 'nats' | 'tls'; host: string; port: number } {
  const match = NATS_URL.exec(url.trim())
  const { scheme = 'nats', host = '', port = String(NATS_PORT) } = match?.groups ?? {}
  if (match === null || Number(port) < 1 || Number(port) > 65_535) {
    throw new WeirError(
      'config.invalid',
      `Cannot use ${JSON.stringify(url)} as the address of an orchestrator`,
      {
        hint: 'Write nats://host:4222; scheme and port may be left out',
      },
    )
  }
  return { scheme: scheme.toLowerCase() as 'nats' | 'tls', host, port: Number(port) }
}

const NATS_URL =
  /^(?:(?<scheme>nats|tls):\/\/)?(?<host>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::(?<port>\d{1,5}))?\/?$/i
const PING_MS = 10_000

function tlsOf(
  { isTlsRequired, caFile, pinned }: NatsAddress,
  { scheme, host }: { scheme: 'nats' | 'tls'; host: string },
): { tls?: TlsOptions } {
  if (pinned !== undefined) return { tls: pinnedTls(pinned) }
  const hasAuthority = caFile !== undefined && caFile !== ''
  if (!hasAuthority && !isTlsRequired && scheme === 'nats') return {}
  return { tls: { ...(hasAuthority ? { caFile } : {}), ...namedTls(host) } }
}

/** Left alone, the library compares the names of the certificate with "localhost" where the address is a number. */
function namedTls(host: string): TlsOptions {
  const name = host.replace(/^\[|\]$/g, '')
  return {
    checkServerIdentity: (_host: string, peer: PeerCertificate) => checkServerIdentity(name, peer),
  } as unknown as TlsOptions
}

/** What the library hands on to Node's TLS. The chain ends in what is pinned, or in an authority of this machine. */
function pinnedTls({ cert, authorities }: NonNullable<NatsAddress['pinned']>): TlsOptions {
  const expected = new X509Certificate(cert).raw
  return {
    ca: [...rootCertificates, ...authorities, cert],
    checkServerIdentity: (_host: string, peer: { raw: Buffer }) =>
      peer.raw.equals(expected) ? undefined : new Error('the server shows another certificate than its own'),
  } as unknown as TlsOptions
}

async function checked(connection: NatsConnection, url: string): Promise<NatsConnection> {
  const [major = 0, minor = 0] = (connection.info?.version ?? '').split('.').map(Number)
  if (major > 2 || (major === 2 && minor >= 9)) return connection
  await connection.close()
  throw new WeirError('transport.unreachable', `Cannot use the message server at ${url}: it is too old`, {
    hint: 'Install nats-server 2.9 or newer there',
    details: { version: connection.info?.version },
  })
}

function refused(url: string, cause: unknown): WeirError {
  return new WeirError('transport.refused', `The message server at ${url} does not accept this key`, {
    hint: 'Join with a valid token: weir node token create',
    retryable: true,
    cause,
  })
}

function unreachable(url: string, cause: unknown): WeirError {
  const said = cause instanceof Error ? cause.message : String(cause)
  const reason = /ENOTFOUND|EAI_AGAIN/.test(said) ? 'the host name is unknown' : said
  return new WeirError('transport.unreachable', `Cannot reach the message server at ${url}: ${reason}`, {
    hint: hintFor(reason),
    retryable: true,
    cause,
  })
}

function hintFor(reason: string): string {
  if (/certificate|self.signed|altname|unable to verify|TLS|tls/.test(reason))
    return 'Name the authority of the server’s certificate in Compute.TLS.CACert, and use TLS on both sides'
  return 'Check the address and that the orchestrator runs there'
}
