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

/** `API.Host` is a host, or a whole address with scheme (`https://…`, `unix:/path`). */
export function serverUrl(config: Pick<Config, 'values' | 'origin'>): string {
  const { 'API.Host': host, 'API.Port': port } = config.values
  if (host.startsWith('unix:')) return host
  if (/^https?:\/\//i.test(host)) {
    const hasPort = /:\d+\/?$/.test(host)
    return hasPort || config.origin('API.Port') === 'default' ? host : `${host.replace(/\/$/, '')}:${port}`
  }
  return `http://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`
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
  const config = await readConfig(flags, context)
  const { WeirClient: Client } = await import('../client/index.js')
  const client = new Client({ baseUrl: serverUrl(config) })
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
