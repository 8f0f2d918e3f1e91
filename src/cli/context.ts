import { WeirError } from '../errors.js'
import type { Config, ConfigSources } from '../config/index.js'
import type { WeirClient } from '../client/index.js'
import type { Terminal } from './terminal.js'

/** Flags that every command takes. */
export interface GlobalFlags {
  config?: string[]
  apiHost?: string
  apiPort?: string
  dataDir?: string
  debug?: boolean
  /** False with `--no-color`. */
  color?: boolean
}

/** What a command works with. */
export interface CliContext {
  terminal: Terminal
  environment: Readonly<Record<string, string | undefined>>
  /** The directory that relative paths start from. */
  cwd: string
  readStandardInput: () => Promise<string>
  /** True when nothing is piped into standard input. */
  inputIsTerminal: boolean
  /** Asks a person; absent where there is none. */
  ask?: (question: string, options: { hidden: boolean }) => Promise<string>
}

/** Where the configuration comes from, given the flags. Throws `cli.usage` when two flags contradict each other. */
export function configSources(flags: GlobalFlags, context: Pick<CliContext, 'environment'>): ConfigSources {
  const settings = (flags.config ?? []).filter((value) => !/\.ya?ml$/i.test(value))
  for (const [key, flag, value] of [
    ['api.host', '--api-host', flags.apiHost],
    ['api.port', '--api-port', flags.apiPort],
  ] as const) {
    if (value !== undefined && settings.some((setting) => setting.toLowerCase().startsWith(`${key}=`))) {
      throw new WeirError('cli.usage', `Cannot use ${flag} and -c ${key}=… at once`, {
        hint: 'Leave one of them out',
      })
    }
  }
  return {
    dataDir: flags.dataDir,
    environment: context.environment,
    files: (flags.config ?? []).filter((value) => /\.ya?ml$/i.test(value)),
    settings,
    flags: {
      ...(flags.apiHost === undefined ? {} : { 'API.Host': flags.apiHost }),
      ...(flags.apiPort === undefined ? {} : { 'API.Port': flags.apiPort }),
    },
  }
}

export async function readConfig(flags: GlobalFlags, context: CliContext): Promise<Config> {
  const { loadConfig } = await import('../config/index.js')
  return loadConfig(configSources(flags, context))
}

/**
 * The same for commands that talk to a server: BACALHAU_API_HOST and BACALHAU_API_PORT say where it is when WEIR_API_HOST
 * and WEIR_API_PORT do not. A node never reads them: for it `API.Host` is where it listens.
 */
export function readClientConfig(flags: GlobalFlags, context: CliContext): Promise<Config> {
  return readConfig(flags, { ...context, environment: clientEnvironment(context.environment) })
}

/** Other variables of Bacalhau have no effect here: they are about its nodes, its state and its keys. */
function clientEnvironment(environment: CliContext['environment']): CliContext['environment'] {
  const set = (name: string): Record<string, string> => {
    const value = environment[`BACALHAU_${name}`] ?? ''
    return value === '' || environment[`WEIR_${name}`] !== undefined ? {} : { [`WEIR_${name}`]: value }
  }
  return { ...environment, ...set('API_HOST'), ...set('API_PORT') }
}

/** `API.Host` is a host, or a whole address with scheme (`https://…`, `unix:/path`). */
export function serverUrl(config: Pick<Config, 'values' | 'origin'>): string {
  const { 'API.Host': host, 'API.Port': port } = config.values
  if (host.startsWith('unix:')) return host
  if (/^https?:\/\//i.test(host)) {
    const hasPort = /:\d+\/?$/.test(host)
    return hasPort || config.origin('API.Port') === 'default' ? host : `${host.replace(/\/$/, '')}:${port}`
  }
  const scheme = speaksTls(config.values) ? 'https' : 'http'
  // Where a server listens on every address, its own machine is one of them.
  if (host === '0.0.0.0' || host === '::' || host === '[::]') return `${scheme}://127.0.0.1:${port}`
  return `${scheme}://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`
}

/** Said for the client, or seen from what the server of the same configuration does. */
function speaksTls(values: Config['values']): boolean {
  return values['API.TLS.UseTLS'] || values['API.TLS.SelfSigned'] || Boolean(values['API.TLS.CertFile'])
}

/** True when somebody said where the server is. */
export function isServerConfigured(config: Pick<Config, 'origin'>): boolean {
  return config.origin('API.Host') !== 'default' || config.origin('API.Port') !== 'default'
}

/** Runs `use` with a client of the configured server and closes it. */
export async function withClient<Result>(
  flags: GlobalFlags,
  context: CliContext,
  use: (client: WeirClient) => Promise<Result>,
): Promise<Result> {
  const config = await readClientConfig(flags, context)
  const { WeirClient: Client } = await import('../client/index.js')
  const { serverAccess } = await import('./client-options.js')
  const client = new Client((await serverAccess(config, context)).options)
  try {
    return await use(client)
  } finally {
    client.close()
  }
}

/** Suggests what to do next, on standard error. */
export function suggest(
  terminal: Terminal,
  lines: readonly (readonly [what: string, command: string])[],
): void {
  const width = Math.max(...lines.map(([what]) => what.length))
  for (const [what, command] of lines) {
    terminal.talk(terminal.talkStyle.dim(`${what.padEnd(width)}  ${command}`))
  }
}
