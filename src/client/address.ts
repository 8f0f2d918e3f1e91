import { WeirError } from '../errors.js'

/** Where a server is. */
export type ServerAddress =
  | { kind: 'tcp'; scheme: 'http' | 'https'; host: string; port: number }
  | { kind: 'unix'; socketPath: string }

/**
 * Reads `http://host:port`, `https://host:port` or `unix:/path/of/socket`. Without a port: 1234, or 443 for https.
 * `0.0.0.0` and `[::]` mean this machine. Throws `cli.usage`.
 */
export function parseServerAddress(text: string): ServerAddress {
  if (text.startsWith('unix:')) {
    const socketPath = text.slice('unix:'.length).replace(/^\/\/(?=\/)/, '')
    if (socketPath.startsWith('/') && !socketPath.includes('\0')) return { kind: 'unix', socketPath }
    throw invalid(text)
  }
  const match = /^(https?):\/\/(\[[0-9A-Fa-f:.]+\]|[^/:?#@[\]\s]+)(?::(\d{1,5}))?\/?$/.exec(text)
  if (match === null) throw invalid(text)
  const scheme = match[1] as 'http' | 'https'
  const port = match[3] === undefined ? (scheme === 'https' ? 443 : 1234) : Number(match[3])
  if (port < 1 || port > 65_535) throw invalid(text)
  return { kind: 'tcp', scheme, host: reachableHost((match[2] ?? '').replace(/^\[|\]$/g, '')), port }
}

/** For messages: how a person would write it. */
export function formatServerAddress(address: ServerAddress): string {
  if (address.kind === 'unix') return `unix:${address.socketPath}`
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${address.scheme}://${host}:${address.port}`
}

function reachableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  return host === '::' ? '::1' : host
}

function invalid(text: string): WeirError {
  return new WeirError('cli.usage', `Cannot read the server address ${JSON.stringify(text.slice(0, 200))}`, {
    hint: 'Write http://host:port, https://host:port or unix:/path/of/socket.',
  })
}
