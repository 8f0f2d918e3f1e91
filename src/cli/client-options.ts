import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatServerAddress, parseServerAddress, readCredential } from '../client/index.js'
import { WeirError } from '../errors.js'
import { serverUrl } from './context.js'
import type { ClientOptions } from '../client/index.js'
import type { Config } from '../config/index.js'
import type { CliContext } from './context.js'

/** How the configured server is reached and trusted, and what it is told about who is calling. */
export interface ServerAccess {
  options: ClientOptions
  /** As it stands in messages and in the file of credentials. */
  server: string
  /** Where the token comes from. */
  tokenFrom: 'variable' | 'file' | 'nowhere'
}

/** Variables that hold a token, the first one that is filled counts. */
const TOKEN_VARIABLES = ['WEIR_API_KEY', 'BACALHAU_API_KEY'] as const

/**
 * Everything that a client of the configured server needs. Rejects with `credentials.unsafe` when the file with the tokens
 * cannot be trusted, and with `config.invalid` when the authority cannot be read.
 */
export async function serverAccess(
  config: Pick<Config, 'values' | 'origin' | 'dataDir'>,
  context: Pick<CliContext, 'environment' | 'terminal'>,
): Promise<ServerAccess> {
  const baseUrl = serverUrl(config)
  const server = formatServerAddress(parseServerAddress(baseUrl))
  const kept = await readCredential(config.dataDir, server)
  const variable = TOKEN_VARIABLES.map((name) => context.environment[name]?.trim()).find(
    (value) => value !== undefined && value !== '',
  )
  const token = variable ?? kept?.token
  const tls = await trust(config, server, kept?.fingerprint, context)
  return {
    options: { baseUrl, ...(token === undefined ? {} : { token: usable(token) }), ...tls },
    server,
    tokenFrom: variable !== undefined ? 'variable' : kept?.token !== undefined ? 'file' : 'nowhere',
  }
}

async function trust(
  config: Pick<Config, 'values' | 'dataDir'>,
  server: string,
  pin: string | undefined,
  { terminal }: Pick<CliContext, 'terminal'>,
): Promise<Pick<ClientOptions, 'tls'>> {
  if (!server.startsWith('https:')) return {}
  const { values, dataDir } = config
  const fingerprint =
    pin ??
    fingerprintHere(dataDir, server) ??
    (values['API.TLS.SelfSigned'] ? await ownFingerprint(dataDir) : undefined)
  if (values['API.TLS.Insecure']) {
    terminal.talk(
      `${terminal.talkStyle.yellow('Warning:')} API.TLS.Insecure is set: anybody could pose as ${server} and read your token`,
    )
    return { tls: { insecure: true } }
  }
  if (fingerprint !== undefined) return { tls: { fingerprint } }
  const file = values['API.TLS.CAFile']
  return file ? { tls: { ca: readAuthority(file) } } : {}
}

/** What the server of this data directory has left there for clients, if it is this server. */
export function fingerprintHere(dataDir: string, server: string): string | undefined {
  try {
    const text = readFileSync(join(dataDir, 'weir.run'), 'utf8')
    const [, host] = /^export WEIR_API_HOST=(https:\/\/\S+)$/m.exec(text) ?? []
    const [, port] = /^export WEIR_API_PORT=(\d+)$/m.exec(text) ?? []
    const isThis = formatServerAddress(parseServerAddress(`${host}:${port}`)) === server
    return isThis ? /^# key: (SHA256:\S+)$/m.exec(text)?.[1] : undefined
  } catch {
    return undefined
  }
}

/** The server of this very data directory needs nobody to vouch for it. */
async function ownFingerprint(dataDir: string): Promise<string | undefined> {
  const { createHash, X509Certificate } = await import('node:crypto')
  try {
    const certificate = new X509Certificate(readFileSync(join(dataDir, 'tls', 'cert.pem')))
    const key = certificate.publicKey.export({ type: 'spki', format: 'der' })
    return `SHA256:${createHash('sha256').update(key).digest('base64')}`
  } catch {
    return undefined // There is none here: the usual authorities decide.
  }
}

function readAuthority(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new WeirError(
      'config.invalid',
      `Cannot read the authority in API.TLS.CAFile: ${(error as Error).message}`,
      {
        hint: 'Name a PEM file that this user may read.',
        cause: error,
      },
    )
  }
}

/** What cannot stand in a header is never sent, and never quoted. */
function usable(token: string): string {
  if (/^[\x21-\x7e]{1,4096}$/.test(token)) return token
  throw new WeirError('cli.usage', 'Cannot use the token: it holds characters that no token has', {
    hint: 'Put the token into the variable or file as it was shown, on one line.',
  })
}
