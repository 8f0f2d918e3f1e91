import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import type { Config, ConfigValues } from '../config/index.js'
import { type ComputeNode, type ComputePolicy, createComputeNode } from '../compute/index.js'
import { createGuardedDialer, createResolver, type GatewayClient, startGateway } from '../egress/index.js'
import { createDockerExecutor } from '../executors/docker/index.js'
import { createWasmExecutor } from '../executors/wasm/index.js'
import { isFullId, type NodeInfo, PatternMemo } from '../model/index.js'
import { WeirError } from '../errors.js'
import { BLOB_SUBJECT } from '../ports/index.js'
import type {
  AuditLog,
  AuditSink,
  BlobReadRequest,
  BlobReadResponse,
  Chance,
  Clock,
  EgressGateway,
  Executor,
  GuardedDialer,
  NodeEgressPolicy,
  Publisher,
  StorageSource,
  Transport,
} from '../ports/index.js'
import { localPublisher, noopPublisher } from '../publishers/index.js'
import {
  blobSource,
  type BlobSourceOptions,
  inlineSource,
  localDirectorySource,
  urlSource,
} from '../sources/index.js'
import { createAuditFile } from '../stores/index.js'
import { keyPairOf } from '../transports/index.js'
import { VERSION } from '../version.js'
import { ownReachableAddresses } from './door/job-addresses.js'
import { EgressInForce, type EgressRulesInForce } from './egress-in-force.js'
import { NODE_ALLOW_FILE, readLearning, watchEgressLists } from './egress-policy.js'
import type { NodeIdentity } from './identity.js'
import type { NodeLogger } from './logger.js'
import { openNetworkEgress } from './network-egress.js'
import { orchestratorHosts } from './membership/link.js'
import { ownEgress } from './own-egress.js'
import { readAuthorities } from './authorities.js'
import { readRegistryCredentials } from './registry-credentials.js'
import type { Teardown } from './teardown.js'
import { trustedKeysFile } from './trusted-keys.js'

/** The compute role and what it is made of. */
export interface ComputeParts {
  node: ComputeNode
  gateway: EgressGateway | undefined
}

interface Context {
  config: Config
  identity: NodeIdentity
  transport: Transport
  clock: Clock
  chance: Chance
  roles: { orchestrator: boolean; compute: boolean }
  logger: NodeLogger
  teardown: Teardown
  /** False: nobody ever starts a node on this data again, so nothing is kept for it. */
  isLasting: boolean
}

/** Builds and starts everything that runs jobs on this node. What was opened is in the teardown, also after an error. */
export async function startCompute(context: Context): Promise<ComputeParts> {
  const { config, identity, logger, teardown } = context
  const { values, dataDir } = config
  // A node does not start with lists that it cannot read.
  const self = networkHosts(context)
  const standardFile = context.isLasting ? join(dataDir, NODE_ALLOW_FILE) : ''
  const reading = { memo: new PatternMemo(), standardFile }
  const warn = (error: WeirError): void => {
    logger.warn({ err: error }, error.message)
  }
  const rules = ownEgress({ config, self, reading, clock: context.clock, warn })
  const own = await rules.read()
  const networkEgress = await openNetworkEgress({
    file: join(dataDir, 'network-egress.json'),
    apply: async (network) => {
      await inForce.replace({ network })
      logger.info({ version: network.version }, 'the egress list of the network is in force')
    },
    warn,
  })
  const inForce = new EgressInForce(own, networkEgress.first)
  const policy = inForce.rules
  const audit = createAuditFile({ dir: join(dataDir, 'audit') })
  const gateway = values['JobAdmissionControl.AcceptNetworkedJobs']
    ? await openGateway(context, audit, policy)
    : undefined

  const executors = await buildExecutors(context, gateway)
  const dialer = createGuardedDialer({
    resolve: createResolver({
      servers: [...values['Egress.DnsServers']],
      hosts: { ...values['Egress.Hosts'] },
    }),
    policy,
  })
  const sources = buildSources(context, dialer)
  const publishers = await buildPublishers(context)
  const node = createComputeNode({
    nodeId: identity.nodeId,
    dataDir,
    transport: context.transport,
    clock: context.clock,
    chance: context.chance,
    executors,
    sources,
    publishers,
    ...(gateway === undefined ? {} : { gateway }),
    auditLog: audit,
    networkEgress,
    policy: computePolicy(values, policy),
    capacity: {
      cpu: values['Compute.AllocatedCapacity.CPU'],
      memory: values['Compute.AllocatedCapacity.Memory'],
      disk: values['Compute.AllocatedCapacity.Disk'],
      gpu: values['Compute.AllocatedCapacity.GPU'],
    },
    limits: {
      outputBytesMax: values['Compute.OutputBytesMax'],
      resultFilesMax: values['Compute.ResultFilesMax'],
      diskBytesDefault: values['Compute.ResultBytesMax'],
      keepFinishedMs: values['Compute.KeepFinished'],
      syncIntervalMs: values['Compute.Heartbeat.Interval'],
    },
    labels: { ...values.Labels },
    roles: nodeRoles(context.roles),
    version: VERSION,
    addresses: ownReachableAddresses,
    signer: keyPairOf(identity.keySeed),
    logger,
  })
  // The gateway first: a pattern that was taken away must not be offered one moment longer than it is enforced.
  if (gateway !== undefined) inForce.add((rules) => gateway.setNodePolicy(rules))
  inForce.add((rules) => dialer.setNodePolicy(rules))
  inForce.add((rules) => node.setPolicy(computePolicy(values, rules)))
  await node.start()
  teardown.add('compute node', () => node.close(stopOf(context)))

  const watching = new AbortController()
  // Waits for what is being applied: the gateway closes afterwards.
  teardown.add('watch of the egress lists', async () => {
    watching.abort()
    await Promise.all([watched, networkEgress.close()])
  })
  const watched = watchEgressLists({
    files: [values['Egress.AllowFile'] || standardFile, values['Egress.DenyFile'], trustedKeysFile(config)],
    read: () => rules.read(),
    isDue: () => rules.isDue(),
    apply: async (changed) => {
      await inForce.replace({ own: changed })
      const { allow, deny, keys = [] } = changed
      logger.info({ allow: allow.length, deny: deny.length, keys: keys.length }, 'egress lists read again')
    },
    warn,
    signal: watching.signal,
  })
  return { node, gateway }
}

/** The message server of the network is the network itself: jobs never reach it, whatever a list says. */
function networkHosts({ config, roles }: Context): string[] {
  return roles.orchestrator ? [] : orchestratorHosts(config)
}

/** What becomes of running jobs in a planned stop. */
function stopOf({ config: { values }, isLasting, roles }: Context): Parameters<ComputeNode['close']>[0] {
  if (!isLasting) return {}
  return {
    keep: values['Compute.OnStop'] === 'keep',
    drain: values['Compute.OnStop'] === 'drain',
    drainTimeoutMs: values['Compute.DrainTimeout'],
    farewell: !roles.orchestrator,
  }
}

/**
 * What a node's containers and sandboxes are labelled with. Names that people choose are unique in one network only: two
 * nodes of different networks on one machine must not take each other's containers for their own leftovers.
 */
function nameOnMachine({ nodeId, keySeed }: NodeIdentity): string {
  if (isFullId(nodeId)) return nodeId
  return `${nodeId}-${keyPairOf(keySeed).publicKey.slice(1, 13).toLowerCase()}`
}

function nodeRoles(roles: { orchestrator: boolean; compute: boolean }): NodeInfo['roles'] {
  return roles.orchestrator ? ['orchestrator', 'compute'] : ['compute']
}

function computePolicy(values: ConfigValues, policy: EgressRulesInForce): ComputePolicy {
  const { mode, allow, deny, keys = [], privateExceptions, network, networkDeny, networkVersion } = policy
  const probeExec = values['JobAdmissionControl.ProbeExec']
  const learning = readLearning(values)
  return {
    acceptNetworkedJobs: values['JobAdmissionControl.AcceptNetworkedJobs'],
    acceptFullNetwork: values['Egress.Full.Enabled'],
    ...(mode === undefined ? {} : { mode }),
    ...(learning === undefined ? {} : { learning }),
    allow,
    deny,
    keys,
    privateExceptions,
    ...(network === undefined ? {} : { network }),
    ...(networkDeny === undefined ? {} : { networkDeny }),
    ...(networkVersion === undefined ? {} : { networkVersion }),
    rejectStateless: values['JobAdmissionControl.RejectStatelessJobs'],
    // The operator's own command line, so the operator's shell.
    probeExec: probeExec === '' ? [] : ['/bin/sh', '-c', probeExec],
    probeHttp: values['JobAdmissionControl.ProbeHTTP'],
  }
}

async function openGateway(
  context: Context,
  audit: AuditSink & AuditLog,
  policy: NodeEgressPolicy,
): Promise<GatewayClient> {
  const { config, identity, logger, teardown } = context
  const { values, dataDir } = config
  const authorities = await readAuthorities(values['Egress.AuthoritiesFile'])
  const gateway = await startGateway({
    nodeId: identity.nodeId,
    auditDir: join(dataDir, 'audit'),
    audit,
    dnsServers: [...values['Egress.DnsServers']],
    hosts: { ...values['Egress.Hosts'] },
    allowEch: values['Egress.AllowECH'],
    ...(authorities === undefined ? {} : { authorities }),
    transparent: values['Egress.Transparent'],
    limits: {
      bitsPerSecondUp: values['Egress.BitsPerSecondUp'],
      bitsPerSecondDown: values['Egress.BitsPerSecondDown'],
      bytesUpMax: values['Egress.BytesUpMax'],
      bytesDownMax: values['Egress.BytesDownMax'],
      requestsPerSecond: values['Egress.RequestsPerSecond'],
      hostNamesMax: values['Egress.HostNamesMax'],
      hostConnectionsMax: values['Egress.HostConnectionsMax'],
      nodeBitsPerSecondUp: values['Egress.NodeBitsPerSecondUp'],
      nodeBitsPerSecondDown: values['Egress.NodeBitsPerSecondDown'],
      connectionsMax: values['Egress.ConnectionsMax'],
      idleTimeoutMs: values['Egress.IdleTimeout'],
    },
    onTrouble: (error) => {
      logger.error({ err: error }, error.message)
    },
  })
  teardown.add('egress gateway', () => gateway.close())
  await gateway.setNodePolicy(policy)
  return gateway
}

async function buildExecutors(context: Context, gateway: GatewayClient | undefined): Promise<Executor[]> {
  const { config, identity, logger, teardown } = context
  const { values } = config
  const executors: Executor[] = []
  const add = (executor: Executor): void => {
    executors.push(executor)
    teardown.add(`${executor.engine} engine`, () => executor.close())
  }
  if (!isDisabled(values['Engines.Disabled'], 'docker')) {
    add(
      createDockerExecutor({
        nodeId: nameOnMachine(identity),
        // Unless somebody chose a socket, DOCKER_HOST may name one.
        ...(config.origin('Engines.Types.Docker.Socket') === 'default'
          ? {}
          : { socketPath: values['Engines.Types.Docker.Socket'] }),
        ...(gateway === undefined
          ? {}
          : { attach: (path) => gateway.attach(path), detach: (attachment) => gateway.detach(attachment) }),
        ...(values['Egress.Full.Enabled'] && values['JobAdmissionControl.AcceptNetworkedJobs']
          ? {
              full: {
                exceptions: [...values['Egress.PrivateExceptions']],
                self: [...values['Egress.Self']],
                dnsServers: [...values['Egress.Full.DnsServers']],
              },
            }
          : {}),
        registries: {
          allowPrivate: [...values['Engines.Types.Docker.PrivateRegistries']],
          credentials: await readRegistryCredentials(
            values['Engines.Types.Docker.CredentialsFile'],
            process.env,
          ),
        },
        survivesRestart: context.isLasting,
        dropCapabilities: [...values['Engines.Types.Docker.DropCapabilities']],
        holderPoolSize: values['Engines.Types.Docker.HolderPoolSize'],
        limits: {
          pids: values['Engines.Types.Docker.PidsMax'],
          pullTimeoutMs: values['Engines.Types.Docker.PullTimeout'],
        },
        canary: {
          selfPorts: [
            values['API.Port'],
            values['Publishers.Types.Local.Port'],
            ...(context.roles.orchestrator ? [values['Orchestrator.Port']] : []),
          ].filter((port) => port > 0),
        },
        clock: context.clock,
        logger,
      }),
    )
  }
  if (!isDisabled(values['Engines.Disabled'], 'wasm')) {
    add(
      createWasmExecutor({
        nodeId: nameOnMachine(identity),
        dataDir: join(config.dataDir, 'wasm'),
        warmSlots: wasmPoolSize(values['Engines.Types.Wasm.PoolSize']),
        node: values['Engines.Types.Wasm.Node'],
        codeBytesMax: values['Engines.Types.Wasm.CodeCacheSize'],
        ...(gateway === undefined ? {} : { gateway }),
        logger,
      }),
    )
  }
  return executors
}

/** More than the processor can start at once would only hold memory. */
function wasmPoolSize(configured: number): number {
  return configured < 0 ? Math.min(16, availableParallelism() + 1) : configured
}

function buildSources(context: Context, dialer: GuardedDialer): StorageSource[] {
  const { values } = context.config
  const sources = [
    urlSource({
      dialer,
      clock: context.clock,
      chance: context.chance,
      limits: {
        bytesMax: values['InputSources.MaxBytes'],
        totalTimeoutMs: values['InputSources.ReadTimeout'],
      },
      retries: values['InputSources.MaxRetryCount'],
    }),
    inlineSource(),
    blobSource({
      cacheDir: join(context.config.dataDir, 'blob-cache'),
      // Nobody comes back to the cache of a node that is gone after its job.
      cacheBytesMax: context.isLasting ? values['InputSources.BlobCacheBytes'] : 0,
      readPiece: readPieces(context),
      clock: context.clock,
      onTrouble: (error) => context.logger.warn({ err: error }, 'the cache of blobs cannot be used'),
    }),
    // Without an allowed path the source is not offered at all.
    ...(values['Compute.AllowListedLocalPaths'].length === 0
      ? []
      : [
          localDirectorySource({
            allowed: [...values['Compute.AllowListedLocalPaths']],
            withheld: ownPlaces(context.config),
          }),
        ]),
  ]
  return sources.filter((source) => !isDisabled(values['InputSources.Disabled'], source.type))
}

const PIECE_TIMEOUT_MS = 20_000

/** Asks the orchestrator; its answer is not trusted. */
function readPieces({ transport, identity }: Context): BlobSourceOptions['readPiece'] {
  return async (cid, offset, bytesMax) => {
    const request: BlobReadRequest = { nodeId: identity.nodeId, cid, offset, bytesMax }
    const answer = (await transport.request(
      BLOB_SUBJECT,
      request,
      PIECE_TIMEOUT_MS,
    )) as Partial<BlobReadResponse>
    const { data, bytes } = answer
    if (typeof data === 'string' && Number.isSafeInteger(bytes) && Number(bytes) >= 0)
      return { data: Buffer.from(data, 'base64'), bytes: Number(bytes) }
    throw new WeirError('source.unavailable', `Cannot fetch the blob ${cid}: the answer cannot be read`)
  }
}

/** Keys and tokens are in the data directory; whoever writes the trusted keys opens hosts; whoever reaches an engine's socket starts programs, and is root. */
function ownPlaces({ dataDir, values }: Config): string[] {
  const [, fromHost] = /^unix:\/\/(\/.+)$/.exec(process.env.DOCKER_HOST ?? '') ?? []
  return [
    resolve(dataDir),
    values['Engines.Types.Docker.Socket'],
    ...(fromHost === undefined ? [] : [fromHost]),
    trustedKeysFile({ dataDir, values }),
    '/run/docker.sock',
    '/run/containerd/containerd.sock',
  ]
}

async function buildPublishers(context: Context): Promise<Publisher[]> {
  const { config, teardown } = context
  const { values } = config
  const publishers: Publisher[] = []
  if (!isDisabled(values['Publishers.Disabled'], 'noop')) publishers.push(noopPublisher())
  if (!isDisabled(values['Publishers.Disabled'], 'local')) {
    const local = await localPublisher({
      dir: join(config.dataDir, 'published'),
      listen: { host: values['Publishers.Types.Local.Host'], port: values['Publishers.Types.Local.Port'] },
      advertise: values['Publishers.Types.Local.Address'],
      retentionMs: values['Publishers.Types.Local.Retention'],
      quotaBytes: values['Publishers.Types.Local.Quota'],
      clock: context.clock,
    })
    teardown.add('local publisher', () => local.close())
    publishers.push(local)
  }
  return publishers
}

function isDisabled(disabled: readonly string[], type: string): boolean {
  return disabled.some((name) => name.toLowerCase() === type)
}
