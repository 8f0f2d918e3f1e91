import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import {
  forgetCredential,
  formatServerAddress,
  parseServerAddress,
  readCredential,
  readFingerprint,
  saveCredential,
  seenFingerprint,
  WeirClient,
  type ClientOptions,
  type ServerAddress,
  type WireWhoAmI,
} from '../../client/index.js'
import { isWeirError, WeirError } from '../../errors.js'
import { printable } from '../../model/printable.js'
import { fingerprintHere, serverAccess } from '../client-options.js'
import { readClientConfig, serverUrl, suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import type { Config } from '../../config/index.js'
import type { CliContext, GlobalFlags } from '../context.js'

export interface LoginFlags {
  tokenFile?: string
  fingerprint?: string
}

type Trust = Pick<ClientOptions, 'tls'>

/**
 * `weir auth login [URL]`: finds out whether the server is the right one, takes the token from a file, standard input or a
 * person, asks the server whose it is, and keeps it. Nothing is kept when anything of this fails.
 */
export async function authLogin(
  url: string | undefined,
  flags: GlobalFlags & LoginFlags,
  context: CliContext,
): Promise<number> {
  const config = await readClientConfig(flags, context)
  const address = parseServerAddress(url ?? serverUrl(config))
  const server = formatServerAddress(address)
  const { terminal } = context
  warnAboutPlainText(address, context)
  const tls = await findTrust(address, server, flags, config, context)
  const token = await obtainToken(server, flags, context)
  const who = await check({ baseUrl: server, token, ...tls })
  const fingerprint = tls.tls?.fingerprint
  const path = await saveCredential(config.dataDir, server, {
    token,
    ...(fingerprint === undefined ? {} : { fingerprint }),
  })
  terminal.talk(`${server} knows you as ${describe(who)}; the token is kept in ${printable(path)}`)
  if (context.environment.WEIR_API_KEY !== undefined)
    terminal.talk(`${terminal.talkStyle.yellow('Warning:')} WEIR_API_KEY is set, and wins over what is kept`)
  if (server !== formatServerAddress(parseServerAddress(serverUrl(config))))
    suggest(terminal, [
      ['Use it now:', `weir --api-host ${server} job list`],
      ['Use it always:', `weir config set API.Host=${server}`],
    ])
  return EXIT.ok
}

/** `weir auth logout [URL]`: forgets the token; the pin of the server stays, so that nobody can pose as it later. */
export async function authLogout(
  url: string | undefined,
  flags: GlobalFlags & { forgetServer?: boolean },
  context: CliContext,
): Promise<number> {
  const config = await readClientConfig(flags, context)
  const server = formatServerAddress(parseServerAddress(url ?? serverUrl(config)))
  const wasThere = await forgetCredential(config.dataDir, server, flags.forgetServer ?? false)
  context.terminal.talk(
    wasThere
      ? `The token for ${server} is forgotten here; it can still be used until it is revoked`
      : `No token for ${server} was kept here`,
  )
  return EXIT.ok
}

/** `weir auth whoami`. */
export async function authWhoAmI(
  flags: GlobalFlags & { output?: string; pretty?: boolean },
  context: CliContext,
): Promise<number> {
  const config = await readClientConfig(flags, context)
  const { options, server, tokenFrom } = await serverAccess(config, context)
  const client = new WeirClient(options)
  try {
    const who = await client.whoAmI()
    if (flags.output !== undefined) {
      const { printObject, OBJECT_FORMATS } = await import('../output-format.js')
      const { readChoice } = await import('../read-choice.js')
      const format = readChoice('--output', flags.output, OBJECT_FORMATS)
      await printObject(context.terminal, who, format, flags.pretty ?? context.terminal.outIsTerminal)
      return EXIT.ok
    }
    const from = { variable: 'from a variable', file: 'from weir auth login', nowhere: 'none is sent' }[
      tokenFrom
    ]
    const lines = [
      `Server       ${server}`,
      `You are      ${who.Authenticated ? describe(who) : 'anybody: this server asks nobody who they are'}`,
      ...(who.Authenticated ? [`Your id      ${printable(who.ID)}`] : []),
      `Namespaces   ${who.Namespaces.includes('*') ? 'all' : who.Namespaces.join(', ')}`,
      `You may      ${who.Permissions.join(', ')}`,
      ...(who.ExpiresAt === undefined ? [] : [`Until        ${who.ExpiresAt}`]),
      `Credential   ${from}`,
    ]
    await context.terminal.data(lines.map((line) => `${printable(line)}\n`).join(''))
    return EXIT.ok
  } finally {
    client.close()
  }
}

function describe({ Name: name, Role: role, Kind: kind }: WireWhoAmI): string {
  return printable(`${kind} "${name}"${role === '' ? '' : ` (${role})`}`)
}

function warnAboutPlainText(address: ServerAddress, { terminal }: CliContext): void {
  if (address.kind !== 'tcp' || address.scheme === 'https' || isLoopback(address.host)) return
  terminal.talk(
    `${terminal.talkStyle.yellow('Warning:')} ${formatServerAddress(address)} speaks plain HTTP: whoever is on the way can read your token`,
  )
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

/** A fingerprint that was said, the one that was accepted before, an authority, or a person who compares. */
async function findTrust(
  address: ServerAddress,
  server: string,
  flags: LoginFlags,
  config: Config,
  context: CliContext,
): Promise<Trust> {
  if (address.kind !== 'tcp' || address.scheme === 'http') {
    if (flags.fingerprint === undefined) return {}
    throw new WeirError('cli.usage', `Cannot compare a fingerprint: ${server} does not speak TLS`, {
      hint: 'Write https://host:port',
    })
  }
  if (flags.fingerprint !== undefined) return { tls: { fingerprint: readFlag(flags.fingerprint) } }
  const kept = (await readCredential(config.dataDir, server))?.fingerprint
  const pin = kept ?? fingerprintHere(config.dataDir, server)
  if (pin !== undefined) return { tls: { fingerprint: pin } }
  const { 'API.TLS.CAFile': authority, 'API.TLS.Insecure': isCareless } = config.values
  if (authority !== '' || isCareless) {
    const named = { ...config, values: { ...config.values, 'API.Host': server } }
    return { tls: (await serverAccess(named, context)).options.tls }
  }
  return (await isTrustedAnyway(server))
    ? {}
    : { tls: { fingerprint: await acceptByHand(address, server, context) } }
}

function readFlag(text: string): string {
  const fingerprint = readFingerprint(text)
  if (fingerprint !== undefined) return fingerprint
  throw new WeirError('cli.usage', `Cannot read the fingerprint ${JSON.stringify(text.slice(0, 100))}`, {
    hint: 'Write SHA256: and 43 characters, as the server says it at its start',
  })
}

/** True when an authority that this machine trusts vouches for the server. Sends no token. */
async function isTrustedAnyway(server: string): Promise<boolean> {
  const client = new WeirClient({ baseUrl: server })
  try {
    await client.alive()
    return true
  } catch (error) {
    const reason = isWeirError(error, 'api.unreachable') ? String(error.details.reason) : ''
    if (/CERT|SELF_SIGNED|UNABLE_TO|ALTNAME/.test(reason)) return false
    throw error
  } finally {
    client.close()
  }
}

/** Trust on first use, by a person who compares. */
async function acceptByHand(
  address: ServerAddress & { kind: 'tcp' },
  server: string,
  { ask, terminal }: CliContext,
): Promise<string> {
  const { host, port } = address
  const found = await seenFingerprint({ host, port, timeoutMs: 5_000 })
  if (ask === undefined)
    throw new WeirError(
      'tls.untrusted',
      `Cannot trust ${server}: nobody known here vouches for its key ${found}`,
      {
        hint: `Compare with what the server said at its start, then run weir auth login ${server} --fingerprint ${found}`,
        details: { found },
      },
    )
  terminal.talk(`Nobody known here vouches for ${server}. The fingerprint of its key is`)
  terminal.talk(`  ${found}`)
  terminal.talk('The server says its own at its start; weir can only tell you what it sees.')
  const answer = await ask('Are they the same? [y/N] ', { hidden: false })
  if (/^y(es)?$/i.test(answer)) return found
  throw new WeirError('tls.untrusted', `Cannot trust ${server}: its key was not accepted`, {
    hint: 'Ask the operator of the server for the fingerprint',
  })
}

async function obtainToken(server: string, flags: LoginFlags, context: CliContext): Promise<string> {
  const text = await readToken(server, flags, context)
  const token = text.trim()
  if (/^[\x21-\x7e]{10,4096}$/.test(token)) return token
  throw new WeirError('cli.usage', 'Cannot use what was given as a token: it is empty or no token', {
    hint: 'A token is one line without spaces, such as weir_…',
  })
}

async function readToken(server: string, flags: LoginFlags, context: CliContext): Promise<string> {
  if (flags.tokenFile === '-') return context.readStandardInput()
  if (flags.tokenFile !== undefined) {
    try {
      return await readFile(resolve(context.cwd, flags.tokenFile), 'utf8')
    } catch (error) {
      throw new WeirError(
        'cli.usage',
        `Cannot read the token from ${JSON.stringify(flags.tokenFile)}: ${(error as Error).message}`,
        {
          cause: error,
        },
      )
    }
  }
  if (context.ask !== undefined) return context.ask(`Token for ${server} (not shown): `, { hidden: true })
  throw new WeirError('cli.usage', 'Cannot ask for the token: there is no terminal', {
    hint: 'Give it with --token-file FILE, or on standard input with --token-file -',
  })
}

async function check(options: ClientOptions): Promise<WireWhoAmI> {
  const client = new WeirClient(options)
  try {
    const who = await client.whoAmI()
    if (who.Authenticated) return who
    throw new WeirError('access.off', `Cannot log in: ${options.baseUrl ?? ''} asks nobody who they are`, {
      hint: 'Use it without logging in',
    })
  } finally {
    client.close()
  }
}
