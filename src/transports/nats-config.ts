import { MESSAGE_BYTES_MAX } from './message.js'
import { ORCHESTRATOR } from './nats.js'
import { inboxOf } from './nats-connection.js'

/** Somebody whom the message server lets in, by public key. */
export type NatsUser =
  | { kind: 'orchestrator'; publicKey: string }
  | { kind: 'node'; publicKey: string; nodeId: string }
  | { kind: 'joiner'; publicKey: string }

/** Where the message server listens. */
export interface NatsListener {
  host: string
  /** 0 takes a free port. */
  port: number
  /** PEM files; absent: no TLS. */
  tls?: { certFile: string; keyFile: string; caFile?: string; timeoutMs: number }
}

/** What a joiner is called on the wire: no node can have this id. */
export function joinerName(publicKey: string): string {
  return `_${publicKey}`
}

/** The configuration file of a nats-server that weir runs. Plain text without secrets: public keys only. */
export function natsConfig(listener: NatsListener, users: readonly NatsUser[]): string {
  const { host, port, tls } = listener
  return [
    '# Written by weir, and written again with each change.',
    `listen: ${quote(`${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port === 0 ? -1 : port}`)}`,
    `max_payload: ${MESSAGE_BYTES_MAX}`,
    'max_connections: 20000',
    'max_subscriptions: 1000',
    'max_pending: 268435456',
    'write_deadline: "10s"',
    'ping_interval: "20s"',
    'ping_max: 2',
    ...(tls === undefined ? [] : tlsLines(tls)),
    natsUsers(users),
  ].join('\n')
}

/**
 * The `authorization` block: each node may speak and listen under its own name only, a joiner may do nothing but ask to
 * join. Answering is allowed once for each request that arrived.
 */
export function natsUsers(users: readonly NatsUser[]): string {
  return [
    'authorization {',
    '  timeout: 5',
    '  users: [',
    ...users.map((user) => `    ${userLine(user)}`),
    '  ]',
    '}',
    '',
  ].join('\n')
}

function userLine(user: NatsUser): string {
  const { publish, subscribe, answers } = rightsOf(user)
  const lists = `publish: ${list(publish)}, subscribe: ${list(subscribe)}`
  const allowed = answers ? ', allow_responses: { max: 1, expires: "1m" }' : ''
  return `{ nkey: ${user.publicKey}, permissions: { ${lists}${allowed} } }`
}

function rightsOf(user: NatsUser): { publish: string[]; subscribe: string[]; answers: boolean } {
  switch (user.kind) {
    case 'orchestrator':
      return {
        publish: ['weir.node.>', '_INBOX.>'],
        subscribe: ['weir.>', `${inboxOf(ORCHESTRATOR)}.>`],
        answers: false,
      }
    case 'node':
      return {
        publish: [`weir.orchestrator.sync.${user.nodeId}`, `weir.orchestrator.blob.${user.nodeId}`],
        subscribe: [`weir.node.${user.nodeId}.*`, `${inboxOf(user.nodeId)}.>`],
        answers: true,
      }
    case 'joiner': {
      const name = joinerName(user.publicKey)
      return {
        publish: [`weir.orchestrator.join.${name}`],
        subscribe: [`${inboxOf(name)}.>`],
        answers: false,
      }
    }
  }
}

function tlsLines({ certFile, keyFile, caFile, timeoutMs }: NonNullable<NatsListener['tls']>): string[] {
  return [
    'tls {',
    `  cert_file: ${quote(certFile)}`,
    `  key_file: ${quote(keyFile)}`,
    ...(caFile === undefined ? [] : [`  ca_file: ${quote(caFile)}`]),
    `  timeout: ${Math.max(1, Math.round(timeoutMs / 1000))}`,
    '}',
  ]
}

function list(subjects: readonly string[]): string {
  return `[${subjects.map(quote).join(', ')}]`
}

/** Strings of the configuration language know the escapes of JSON that paths and subjects can need. */
function quote(text: string): string {
  return JSON.stringify(text)
}
