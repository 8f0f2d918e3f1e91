import { join } from 'node:path'
import { writeWhole } from '../write-whole.js'

/** How a shell is told which server to talk to: lines for `eval` and for people. */
export function clientExports(apiUrl: string): string[] {
  if (apiUrl.startsWith('unix:')) return [`export WEIR_API_HOST=${apiUrl}`]
  const { protocol, hostname, port } = new URL(apiUrl)
  const isPlain = protocol === 'http:'
  // 0.0.0.0 and :: are where a server listens, not where a client connects.
  const host = hostname === '0.0.0.0' ? '127.0.0.1' : hostname === '[::]' ? '[::1]' : hostname
  return [
    `export WEIR_API_HOST=${isPlain ? host : `https://${host}`}`,
    `export WEIR_API_PORT=${port === '' ? (isPlain ? 80 : 443) : port}`,
  ]
}

/**
 * Writes those lines to `<data dir>/weir.run`, for scripts: `. ~/.weir/weir.run`. With the fingerprint of a key that nobody
 * vouches for: a client with the same data directory need not be told.
 */
export async function writeRunFile(dataDir: string, apiUrl: string, fingerprint?: string): Promise<void> {
  const key = fingerprint === undefined ? [] : [`# key: ${fingerprint}`]
  await writeWhole(join(dataDir, 'weir.run'), `${[...clientExports(apiUrl), ...key].join('\n')}\n`)
}
