import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { EgressDesk } from '../api/index.js'
import { type Config, CONFIG_SCHEMA, type ConfigKey, type ConfigName, writeValue } from '../config/index.js'
import { isWeirError, toWeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import {
  type ListenOptions,
  NO_RESOURCES,
  type NodeInfo,
  type NodeRecord,
  readPresets,
} from '../model/index.js'
import {
  createAccessRequests,
  createOrchestrator,
  neededBlobs,
  type Orchestrator,
} from '../orchestrator/index.js'
import type {
  AccessRequestDesk,
  BlobStore,
  Chance,
  TimerClock,
  JobService,
  JobStore,
  NodeTokenService,
  Transport,
} from '../ports/index.js'
import { lockDataDir, openBlobStore, openMemoryStore, openSqliteStore } from '../stores/index.js'
import { combineTransports, createInProcessTransport } from '../transports/index.js'
import { BUILD, VERSION } from '../version.js'
import { writeWhole } from '../write-whole.js'
import { type ComputeParts, startCompute } from './compute-parts.js'
import { makeDataDir } from './data-dir.js'
import { openKeepers } from './door/access.js'
import { openCertificate } from './door/certificate.js'
import { type Door, doorOf } from './door/door.js'
import { jobAddresses } from './door/job-addresses.js'
import { loadIdentity, type NodeIdentity } from './identity.js'
import { jobDefaults } from './job-defaults.js'
import { NETWORK_ALLOW_FILE } from './egress-policy.js'
import { createLogger, type NodeLogger } from './logger.js'
import { type Cluster, startCluster, wantsCluster } from './membership/cluster.js'
import { type NetworkStatus, openNodeLink, refuseVisibleSecrets } from './membership/link.js'
import { type NetworkList, openNetworkList } from './network-list.js'
import { REAL_CHANCE, REAL_CLOCK } from './real-time.js'
import { contentReader } from './read-content.js'
import { writeRunFile } from './run-file.js'
import { measuredStore, type StoreCounters } from './metrics/measured-store.js'
import { Teardown } from './teardown.js'

export interface StartNodeOptions {
  config: Config
  /**
   * Both by default, in one process and with nobody else, unless the configuration opens the network to other machines.
   * An orchestrator alone is always open to them; a compute node alone belongs to the network of `Compute.Orchestrators`.
   */
  roles?: { orchestrator: boolean; compute: boolean }
  /** Becomes the node's id at its first start. */
  name?: string
  /** For a compute node alone: the token to join with. Default `Compute.Auth.Token`. */
  joinSecret?: string
  /** Default: `API.Host` and `API.Port`. */
  listen?: ListenOptions
  /** `disk` keeps jobs in the data directory and locks it; `memory` forgets them. Default `disk`. */
  store?: 'disk' | 'memory'
  /** Default `Logging.Level`. */
  logLevel?: string
  /** Where the lines of the log go; default standard error. */
  logTo?: (line: string) => void
  clock?: TimerClock
  chance?: Chance
}

/** A node that runs. */
export interface RunningNode {
  readonly nodeId: string
  /** Base URL for clients: `http://127.0.0.1:1234` or `unix:/path`. */
  readonly apiUrl: string
  /** Callers of the API have to authenticate. */
  readonly asks: boolean
  /** Of the API's key, where it speaks TLS: what clients pin. */
  readonly fingerprint?: string
  /** Where the first token of the server is, while it still is. */
  readonly rootTokenFile?: string
  /** What the node says about itself. */
  nodeInfo(): NodeInfo
  /** For an orchestrator that other machines can join: where, and with what. */
  readonly network?: { joinUrl: string; tokens: NodeTokenService }
  /** For a compute node alone: how it stands with its network. */
  networkStatus?(): NetworkStatus
  /** For an orchestrator: everything the API asks of it. */
  readonly jobs?: JobService
  /** Stops taking work, ends what runs, closes everything in reverse order. Idempotent. */
  close(): Promise<void>
}

/**
 * Starts the roles of one node in this process. When a part cannot be started, everything that was opened is closed and
 * the part's error is thrown (`store.locked`, `port.in_use`, `config.invalid`, …).
 */
export async function startNode(options: StartNodeOptions): Promise<RunningNode> {
  const { config } = options
  const logger = createLogger(options.logLevel ?? config.values['Logging.Level'], options.logTo)
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
  const listen = options.listen ?? { host: values['API.Host'], port: values['API.Port'] }
  const door = doorOf(listen, values)
  refuseVisibleSecrets(config)

  await makeDataDir(dataDir)
  const isOnDisk = (options.store ?? 'disk') === 'disk'
  if (isOnDisk) await lock(dataDir, teardown)
  const certificate = await openCertificate({ config, listen, door, clock, logger })
  const keepers = await openKeepers({ config, door, isOnDisk, clock, logger, teardown })
  const identity = await loadIdentity(dataDir, chance, options.name)
  const { nodeId } = identity
  const parts = { config, identity, clock, chance, roles, logger, teardown }
  const brain = roles.orchestrator ? await startOrchestrator(parts, isOnDisk) : undefined
  const link = brain === undefined ? openNodeLink({ ...parts, joinSecret: options.joinSecret }) : undefined
  if (link !== undefined) teardown.add('connection to the network', () => link.transport.close())
  const transport = brain?.transport ?? link?.transport

  // Much to load, and the engines take their time to answer: both at once.
  const loadingApi = import('../api/index.js')
  loadingApi.catch(() => undefined)
  let compute: ComputeParts | undefined
  if (roles.compute && transport !== undefined)
    compute = await startCompute({ ...parts, transport, isLasting: isOnDisk })
  const nodeInfo = (): NodeInfo => compute?.node.info() ?? orchestratorOnly(nodeId, config)

  const { BACALHAU_VERSION, createApiServer } = await loadingApi
  const api = await createApiServer({
    ...(brain === undefined
      ? {}
      : { jobs: brain.orchestrator, blobs: brain.blobs, egressDesk: brain.egressDesk }),
    ...(brain?.cluster === undefined
      ? {}
      : { nodeTokens: brain.cluster.tokens, joinUrl: brain.cluster.joinUrl }),
    ...(link === undefined ? {} : { standing: () => standingOf(link.status()) }),
    identity: { nodeId },
    nodeInfo,
    version: {
      weir: VERSION,
      bacalhau: BACALHAU_VERSION,
      ...(BUILD.date === '' ? {} : { gitCommit: BUILD.commit, buildDate: BUILD.date }),
    },
    config: () => shownConfig(config),
    ...(values['API.Metrics']
      ? {
          metrics: async () => {
            const { collectMetrics } = await import('./metrics/collect.js')
            return collectMetrics({
              nodeInfo,
              ...(compute?.gateway !== undefined && { gateway: compute.gateway }),
              ...(brain !== undefined && { orchestrator: brain.measured }),
            })
          },
        }
      : {}),
    jobDefaults: jobDefaults(values),
    presets: readPresets(values['Egress.Presets']),
    allowedHosts: values['API.AllowedHosts'],
    allowedOrigins: values['API.AllowedOrigins'],
    logger,
    ...keepers,
    ...(certificate === undefined ? {} : { tls: { cert: certificate.cert, key: certificate.key } }),
    isJobAddress: jobAddresses({ nodes: async () => brain?.orchestrator.nodes({}) ?? [] }),
  })
  // Answering stops first when the node goes; what clients asked for is still carried out or ended in order.
  teardown.add('API', () => api.close())
  const address = await api.listen(listen).catch((error: unknown) => {
    // Several compute nodes on one machine are common, and nobody chose this port for them.
    const isFree = brain === undefined && options.listen === undefined && isDefaultPort(config)
    if (isFree && isWeirError(error, 'port.in_use')) return api.listen({ host: values['API.Host'], port: 0 })
    throw error
  })
  const closing = new AbortController()
  teardown.add('watch of the certificate', () => closing.abort())
  certificate?.watch((renewed) => api.renewCertificate(renewed), closing.signal)
  if (!door.isLocal) warnAboutDoor(door, values['API.TLS.BehindProxy'], logger)
  if (isOnDisk)
    await writeRunFile(
      dataDir,
      address.url,
      door.tls === 'self-signed' ? certificate?.fingerprint : undefined,
    )
  logger.info({ nodeId, api: address.url, dataDir }, 'weir is ready')
  return {
    nodeId,
    apiUrl: address.url,
    nodeInfo,
    asks: door.asks,
    ...(certificate === undefined ? {} : { fingerprint: certificate.fingerprint }),
    ...(keepers.rootTokenFile === undefined ? {} : { rootTokenFile: keepers.rootTokenFile }),
    close: () => teardown.run(),
    ...(brain === undefined ? {} : { jobs: brain.orchestrator }),
    ...(brain?.cluster === undefined ? {} : { network: brain.cluster }),
    ...(link === undefined ? {} : { networkStatus: () => link.status() }),
  }
}

function isDefaultPort(config: Config): boolean {
  return config.origin('API.Port') === 'default'
}

/** Nobody has said anything yet: the node waits. */
function standingOf({ state, membership }: NetworkStatus): Pick<NodeRecord, 'membership' | 'connection'> {
  return {
    membership: membership ?? 'PENDING',
    connection: state === 'connected' ? 'CONNECTED' : 'DISCONNECTED',
  }
}

interface Parts {
  config: Config
  identity: NodeIdentity
  clock: TimerClock
  chance: Chance
  roles: { orchestrator: boolean; compute: boolean }
  logger: NodeLogger
  teardown: Teardown
}

/** The orchestrator role, with the way on which nodes talk to it. */
interface Brain {
  orchestrator: Orchestrator
  /** Its store, and what passed through it. */
  measured: { store: JobStore; counters: StoreCounters }
  blobs: BlobStore
  transport: Transport
  cluster: Cluster | undefined
  egressDesk: EgressDesk
}

async function startOrchestrator(parts: Parts, isOnDisk: boolean): Promise<Brain> {
  const { config, identity, clock, chance, roles, logger, teardown } = parts
  const { values, dataDir } = config
  const kept = isOnDisk ? await openSqliteStore(join(dataDir, 'jobs.db')) : openMemoryStore()
  teardown.add('job store', () => kept.close())
  const measured = await measuredStore(kept)
  const { store } = measured
  const blobs = await openBlobStore({
    dir: join(dataDir, 'blobs'),
    clock,
    needed: async () => neededBlobs(await store.snapshot()),
    limits: {
      blobBytesMax: values['Orchestrator.Blobs.BytesMax'],
      totalBytesMax: values['Orchestrator.Blobs.TotalBytesMax'],
    },
    onDamage: (cid) => logger.warn({ cid }, 'an uploaded blob is damaged on the disk and was forgotten'),
  })
  const local = createInProcessTransport({ clock, chance })
  teardown.add('transport', () => local.close())
  const cluster = wantsCluster(config, roles) ? await startCluster(parts) : undefined
  const transport = cluster === undefined ? local : combineTransports(local, cluster.transport)

  const list = await openNetworkList({
    config,
    ...(isOnDisk
      ? {
          file: join(dataDir, 'orchestrator', 'network-egress.json'),
          standardFile: join(dataDir, NETWORK_ALLOW_FILE),
        }
      : {}),
  })
  const orchestrator = createOrchestrator({
    networkEgress: list.policy,
    store,
    transport,
    clock,
    chance,
    nodeId: identity.nodeId,
    blobs,
    readContent: contentReader(blobs),
    ...(cluster === undefined
      ? {}
      : { approveNodes: cluster.approveNodes, onNodeDecision: cluster.onNodeDecision }),
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
  followList(list, orchestrator, { logger, teardown })
  await cluster?.open(orchestrator)
  const requests = await openAccessRequests(parts, isOnDisk)
  return { orchestrator, measured, blobs, transport, cluster, egressDesk: { list, requests } }
}

/** Requests for access live as long as the job store does. */
async function openAccessRequests(
  { config, clock, chance }: Parts,
  isOnDisk: boolean,
): Promise<AccessRequestDesk> {
  if (!isOnDisk) return createAccessRequests({ clock, chance, save: async () => {} })
  const file = join(config.dataDir, 'orchestrator', 'egress-requests.json')
  const kept = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw toWeirError(error, 'store.unavailable', `Cannot read the requests for access (${file})`)
  })
  const save = async (text: string): Promise<void> => {
    await makeDirectory(dirname(file))
    await writeWhole(file, text)
  }
  return createAccessRequests({ clock, chance, kept, save })
}

/** Changes of the network's list reach the nodes while the orchestrator runs. */
function followList(
  list: NetworkList,
  orchestrator: Orchestrator,
  { logger, teardown }: Pick<Parts, 'logger' | 'teardown'>,
): void {
  const watching = new AbortController()
  const watched = list.watch({
    apply: async (policy) => {
      await orchestrator.setNetworkEgress(policy)
      logger.info({ version: policy.version }, 'the egress list of the network changed')
    },
    warn: (error) => {
      logger.warn({ err: error }, error.message)
    },
    signal: watching.signal,
  })
  teardown.add('watch of the egress list of the network', async () => {
    watching.abort()
    await watched
  })
}

async function lock(dataDir: string, teardown: Teardown): Promise<void> {
  const held = await lockDataDir(dataDir)
  teardown.add('lock of the data directory', () => {
    held.release()
  })
}

function warnAboutDoor(door: Door, behindProxy: boolean, logger: NodeLogger): void {
  if (!door.asks) logger.warn({}, 'anybody who reaches the API may do everything: API.AllowInsecure is set')
  if (door.tls === 'none' && !behindProxy)
    logger.warn({}, 'the API speaks plain HTTP beyond this machine: tokens and jobs can be read on the way')
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
    const isHidden = key.secret === true && config.origin(name) !== 'default'
    const shown = isHidden ? '<redacted>' : key.kind === 'durationMs' ? writeValue(key, value) : value
    const parts = name.split('.')
    let branch = tree
    for (const part of parts.slice(0, -1)) branch = (branch[part] ??= {}) as Record<string, unknown>
    branch[parts.at(-1) ?? name] = shown
  }
  return tree
}
