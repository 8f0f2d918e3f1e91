import { join } from 'node:path'
import { type Config, CONFIG_SCHEMA, type ConfigKey, type ConfigName, writeValue } from '../config/index.js'
import { WeirError } from '../errors.js'
import { BACALHAU_VERSION, createApiServer, isLoopback, type ListenOptions } from '../api/index.js'
import { NO_RESOURCES, type NodeInfo } from '../model/index.js'
import { createOrchestrator } from '../orchestrator/index.js'
import type { Chance, Clock, JobStore } from '../ports/index.js'
import { lockDataDir, openMemoryStore, openSqliteStore } from '../stores/index.js'
import { createInProcessTransport } from '../transports/index.js'
import { BUILD, VERSION } from '../version.js'
import { type ComputeParts, startCompute } from './compute-parts.js'
import { makeDataDir } from './data-dir.js'
import { loadIdentity } from './identity.js'
import { jobDefaults } from './job-defaults.js'
import { createLogger, type NodeLogger } from './logger.js'
import { REAL_CHANCE, REAL_CLOCK } from './real-time.js'
import { Teardown } from './teardown.js'

export interface StartNodeOptions {
  config: Config
  /** Both by default. A node without orchestrator cannot be started yet: it would have nobody to talk to. */
  roles?: { orchestrator: boolean; compute: boolean }
  /** Default: `API.Host` and `API.Port`. */
  listen?: ListenOptions
  /** `disk` keeps jobs in the data directory and locks it; `memory` forgets them. Default `disk`. */
  store?: 'disk' | 'memory'
  /** Default `Logging.Level`. */
  logLevel?: string
  clock?: Clock
  chance?: Chance
}

/** A node that runs. */
export interface RunningNode {
  readonly nodeId: string
  /** Base URL for clients: `http://127.0.0.1:1234` or `unix:/path`. */
  readonly apiUrl: string
  /** What the compute role offers; undefined without it. */
  nodeInfo(): NodeInfo
  /** Stops taking work, ends what runs, closes everything in reverse order. Idempotent. */
  close(): Promise<void>
}

/**
 * Starts the roles of one node in this process. When a part cannot be started, everything that was opened is closed and
 * the part's error is thrown (`store.locked`, `port.in_use`, `config.invalid`, …).
 */
export async function startNode(options: StartNodeOptions): Promise<RunningNode> {
  const { config } = options
  const logger = createLogger(options.logLevel ?? config.values['Logging.Level'])
  const teardown = new Teardown(logger)
  try {
    return await start(options, logger, teardown)
  } catch (error) {
    await teardown.run()
    throw error
  }
}

async function start(
  options: StartNodeOptions,
  logger: NodeLogger,
  teardown: Teardown,
): Promise<RunningNode> {
  const { config, clock = REAL_CLOCK, chance = REAL_CHANCE } = options
  const { values, dataDir } = config
  const roles = options.roles ?? { orchestrator: true, compute: true }
  if (!roles.orchestrator)
    throw new WeirError(
      'config.invalid',
      'Cannot start a compute node without an orchestrator in the same process',
      {
        hint: 'enable Orchestrator.Enabled as well, or neither role to run both',
      },
    )
  const listen = options.listen ?? { host: values['API.Host'], port: values['API.Port'] }
  refuseOpenDoor(listen, values['API.AllowInsecure'])

  await makeDataDir(dataDir)
  const store = await openStore(options.store ?? 'disk', dataDir, teardown)
  const identity = await loadIdentity(dataDir, chance)
  const { nodeId } = identity
  const transport = createInProcessTransport({ clock, chance })
  teardown.add('transport', () => transport.close())

  const orchestrator = createOrchestrator({
    store,
    transport,
    clock,
    chance,
    nodeId,
    limits: {
      triesMax: values['Orchestrator.Scheduler.TriesMax'],
      retryBackoffMs: values['Orchestrator.Scheduler.RetryBackoff'],
      queueRecheckMs: values['Orchestrator.Scheduler.QueueBackoff'],
      disconnectAfterMs: values['Orchestrator.NodeManager.DisconnectTimeout'],
      lostGraceMs: values['Orchestrator.Scheduler.LostGrace'],
      endedJobsKeptMs: values['Orchestrator.KeepEndedJobs'],
      endedJobsMax: values['Orchestrator.EndedJobsMax'],
    },
    logger,
  })
  await orchestrator.start()
  teardown.add('orchestrator', () => orchestrator.close())

  let compute: ComputeParts | undefined
  if (roles.compute) {
    compute = await startCompute({ config, identity, transport, clock, chance, roles, logger, teardown })
  }
  const nodeInfo = (): NodeInfo => compute?.node.info() ?? orchestratorOnly(nodeId, config)

  const api = await createApiServer({
    jobs: orchestrator,
    identity: { nodeId },
    nodeInfo,
    version: {
      weir: VERSION,
      bacalhau: BACALHAU_VERSION,
      ...(BUILD.date === '' ? {} : { gitCommit: BUILD.commit, buildDate: BUILD.date }),
    },
    config: () => shownConfig(config),
    jobDefaults: jobDefaults(values),
    allowedHosts: values['API.AllowedHosts'],
    allowedOrigins: values['API.AllowedOrigins'],
    logger,
  })
  // Answering stops first when the node goes; what clients asked for is still carried out or ended in order.
  teardown.add('API', () => api.close())
  const address = await api.listen(listen)
  logger.info({ nodeId, api: address.url, dataDir }, 'weir is ready')
  return { nodeId, apiUrl: address.url, nodeInfo, close: () => teardown.run() }
}

async function openStore(kind: 'disk' | 'memory', dataDir: string, teardown: Teardown): Promise<JobStore> {
  if (kind === 'memory') {
    const store = openMemoryStore()
    teardown.add('job store', () => store.close())
    return store
  }
  const lock = await lockDataDir(dataDir)
  teardown.add('lock of the data directory', () => {
    lock.release()
  })
  const store = await openSqliteStore(join(dataDir, 'jobs.db'))
  teardown.add('job store', () => store.close())
  return store
}

/** Nobody has to authenticate, so only this machine may reach the API unless the operator insists. */
function refuseOpenDoor(listen: ListenOptions, insecure: boolean): void {
  if (insecure || 'socketPath' in listen || isLoopback(listen)) return
  throw new WeirError(
    'config.invalid',
    `Cannot listen on ${listen.host}: anybody who reaches it could start jobs`,
    {
      hint: 'listen on 127.0.0.1, or say --insecure (API.AllowInsecure) when the network keeps others out',
    },
  )
}

function orchestratorOnly(nodeId: string, config: Config): NodeInfo {
  return {
    nodeId,
    roles: ['orchestrator'],
    labels: { ...config.values.Labels },
    version: VERSION,
    engines: [],
    sources: [],
    publishers: [],
    maxCapacity: NO_RESOURCES,
    maxJobRequirements: NO_RESOURCES,
    availableCapacity: NO_RESOURCES,
    queuedCapacity: NO_RESOURCES,
    runningExecutions: 0,
    queuedExecutions: 0,
    egress: {
      acceptsNetworkedJobs: false,
      httpEngines: [],
      fullEngines: [],
      allow: [],
      deny: [],
      problems: [],
    },
    engineProblems: {},
  }
}

/** The configuration as a tree of texts, without secrets, for `agent config`. */
function shownConfig(config: Config): Record<string, unknown> {
  const tree: Record<string, unknown> = { DataDir: config.dataDir }
  for (const [name, key] of Object.entries(CONFIG_SCHEMA) as [ConfigName, ConfigKey][]) {
    const value = config.values[name]
    const shown =
      key.secret === true ? '<redacted>' : key.kind === 'durationMs' ? writeValue(key, value) : value
    const parts = name.split('.')
    let branch = tree
    for (const part of parts.slice(0, -1)) branch = (branch[part] ??= {}) as Record<string, unknown>
    branch[parts.at(-1) ?? name] = shown
  }
  return tree
}
