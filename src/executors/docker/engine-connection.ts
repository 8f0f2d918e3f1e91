import type Docker from 'dockerode'
import { WeirError, isWeirError } from '../../errors.js'
import type { EngineHealth } from '../../ports/index.js'
import { KEPT_DRIVER } from './kept-output.js'

/** What the executor has to know about the engine before it runs anything. */
export interface EngineFacts {
  version: string
  /** In Go's spelling: `linux`, `amd64`. */
  os: string
  architecture: string
  cpus: number
  /** True when the engine has an init program, which reaps zombies and passes signals on. */
  hasInit: boolean
  /** True when containers may get a GPU just by asking in their environment. */
  hasNvidiaRuntime: boolean
  /** True when it can keep a copy of output byte by byte. */
  keepsOutput: boolean
  /** Versions by component, for the record. */
  components: Record<string, string>
}

/** One Docker engine behind a Unix socket. The client library is loaded at the first use. */
export class EngineConnection {
  readonly socketPath: string
  readonly #timeoutMs: number
  #client: Promise<Docker> | undefined
  #facts: Promise<EngineFacts> | undefined

  constructor(socketPath: string | undefined, timeoutMs: number) {
    this.socketPath = socketPath ?? defaultSocketPath(process.env.DOCKER_HOST)
    this.#timeoutMs = timeoutMs
  }

  client(): Promise<Docker> {
    this.#client ??= import('dockerode').then(
      ({ default: Client }) => new Client({ socketPath: this.socketPath }),
    )
    return this.#client
  }

  /** Never rejects: says whether the engine answers, and if not what to do. */
  async probe(signal: AbortSignal): Promise<EngineHealth> {
    this.#facts = undefined
    try {
      const limit = AbortSignal.any([
        signal,
        AbortSignal.timeout(Math.min(this.#timeoutMs, PROBE_TIMEOUT_MS)),
      ])
      const facts = await this.#readFacts(limit)
      this.#facts = Promise.resolve(facts)
      return { available: true, details: { version: facts.version, ...facts.components } }
    } catch (error) {
      return { available: false, ...explain(error, this.socketPath) }
    }
  }

  /** Rejects with `engine.unavailable` when there is no engine. */
  facts(): Promise<EngineFacts> {
    this.#facts ??= this.#readFacts(AbortSignal.timeout(this.#timeoutMs)).catch((error: unknown) => {
      this.#facts = undefined
      const { message, hint } = explain(error, this.socketPath)
      throw new WeirError('engine.unavailable', message, { hint, retryable: true, cause: error })
    })
    return this.#facts
  }

  async #readFacts(abortSignal: AbortSignal): Promise<EngineFacts> {
    const docker = (await this.client()) as unknown as AbortableEngine
    const [version, info] = (await Promise.all([
      docker.version({ abortSignal }),
      docker.info({ abortSignal }),
    ]).catch((error: unknown) => {
      throw abortSignal.aborted ? (abortSignal.reason as Error) : error
    })) as [
      Docker.DockerVersion,
      { NCPU?: number; Runtimes?: Record<string, unknown>; Plugins?: { Log?: string[] | null } },
    ]
    const components: Record<string, string> = {}
    for (const { Name, Version } of version.Components ?? []) components[Name] = Version
    return {
      version: version.Version,
      os: version.Os,
      architecture: version.Arch,
      cpus: info.NCPU ?? 1,
      hasInit: !['', 'N/A', undefined].includes(components['docker-init']),
      keepsOutput: info.Plugins?.Log?.includes(KEPT_DRIVER) === true,
      hasNvidiaRuntime: info.Runtimes?.nvidia !== undefined,
      components,
    }
  }
}

const PROBE_TIMEOUT_MS = 5000

/** The client library takes a signal here, which its types do not say. */
interface AbortableEngine {
  version(options: { abortSignal: AbortSignal }): Promise<unknown>
  info(options: { abortSignal: AbortSignal }): Promise<unknown>
}

/** Status code of a refusal by the engine; undefined for anything else. */
export function engineStatus(error: unknown): number | undefined {
  const status = (error as { statusCode?: unknown } | null)?.statusCode
  return typeof status === 'number' ? status : undefined
}

/** The engine's own words, shortened. */
export function engineMessage(error: unknown): string {
  const { json, message } = (error ?? {}) as { json?: { message?: unknown }; message?: unknown }
  const text = typeof json?.message === 'string' ? json.message : message
  // What the client library puts before it says nothing to anybody.
  return (typeof text === 'string' ? text : String(error))
    .replace(/^\(HTTP code \d+\) [^-]{1,60} - /, '')
    .trim()
    .slice(0, 500)
}

/** Rejects with the signal's reason once it is aborted. */
export function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = () => reject(signal.reason as Error)
    if (signal.aborted) fail()
    else signal.addEventListener('abort', fail, { once: true })
  })
}

function defaultSocketPath(dockerHost = ''): string {
  return dockerHost.startsWith('unix://') ? dockerHost.slice('unix://'.length) : '/var/run/docker.sock'
}

function explain(error: unknown, socketPath: string): { message: string; hint: string } {
  if (isWeirError(error)) return { message: error.message, hint: error.hint ?? '' }
  const code = (error as { code?: unknown } | null)?.code
  if (code === 'ENOENT') {
    return {
      message: `Cannot reach a Docker engine: there is no socket "${socketPath}"`,
      hint: 'Install a Docker engine (Debian: apt-get install docker.io) or start it; set DOCKER_HOST=unix://… when its socket is elsewhere',
    }
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return {
      message: `Cannot reach the Docker engine: no permission to use "${socketPath}"`,
      hint: 'Run weir as root or add its user to the group that owns the socket (usually docker)',
    }
  }
  if (code === 'ECONNREFUSED' || code === 'ENOTSOCK') {
    return {
      message: `Cannot reach a Docker engine: nothing listens on "${socketPath}"`,
      hint: 'Start the Docker engine (systemctl start docker)',
    }
  }
  const timedOut = (error as { name?: unknown } | null)?.name === 'TimeoutError'
  return {
    message: `Cannot use the Docker engine at "${socketPath}": ${timedOut ? 'it does not answer' : engineMessage(error)}`,
    hint: 'Look at the log of the Docker engine (journalctl -u docker)',
  }
}
