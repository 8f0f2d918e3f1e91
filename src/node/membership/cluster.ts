import { join } from 'node:path'
import { readFile } from 'node:fs/promises'
import { isLoopback } from '../../model/index.js'
import type { Config, ConfigName } from '../../config/index.js'
import { WeirError } from '../../errors.js'
import { makeDirectory } from '../../make-directory.js'
import {
  type Chance,
  type Clock,
  JOIN_SUBJECT,
  type NodeTokenService,
  type Transport,
} from '../../ports/index.js'
import {
  createNatsTransport,
  keyPairOf,
  type MessageServer,
  type NatsAddress,
  type NatsListener,
  openNats,
  ORCHESTRATOR,
  readNatsUrl,
  startNatsServer,
  useOutsideServer,
} from '../../transports/index.js'
import type { Orchestrator, OrchestratorOptions } from '../../orchestrator/index.js'
import type { NodeIdentity } from '../identity.js'
import type { NodeLogger } from '../logger.js'
import type { Teardown } from '../teardown.js'
import { autoApproval } from './auto-approval.js'
import { Gatekeeper, membershipOf } from './gatekeeper.js'
import { createJoinDesk } from './join-desk.js'
import { openRoster, type Roster } from './roster.js'
import { guardSync } from './sync-guard.js'

/** The orchestrator's side of a network of several machines. */
export interface Cluster {
  readonly transport: Transport
  readonly tokens: NodeTokenService
  /** What a node is told to join: `nats://10.0.0.5:4222`. */
  readonly joinUrl: string
  readonly approveNodes: NonNullable<OrchestratorOptions['approveNodes']>
  readonly onNodeDecision: NonNullable<OrchestratorOptions['onNodeDecision']>
  /** Lets nodes in; call when the orchestrator runs. */
  open(orchestrator: Orchestrator): Promise<void>
}

export interface ClusterParts {
  config: Config
  identity: NodeIdentity
  clock: Clock
  chance: Chance
  logger: NodeLogger
  teardown: Teardown
}

/** True when the orchestrator is to take nodes from other processes: it was told where, or it is alone. */
export function wantsCluster(config: Config, roles: { compute: boolean }): boolean {
  return !roles.compute || CLUSTER_KEYS.some((name) => config.origin(name) !== 'default')
}

const CLUSTER_KEYS: readonly ConfigName[] = [
  'Orchestrator.Host',
  'Orchestrator.Port',
  'Orchestrator.Advertise',
  'Orchestrator.Auth.Token',
  'Orchestrator.TLS.ServerCert',
  'Orchestrator.NATS.URL',
  'Orchestrator.NodeManager.ManualApproval',
]

/**
 * Starts the message server and connects to it. Rejects with `config.invalid`, `transport.unavailable`, `port.in_use` or
 * `store.unavailable`. What was opened is in the teardown.
 */
export async function startCluster(parts: ClusterParts): Promise<Cluster> {
  const { config, identity, clock, chance, logger, teardown } = parts
  const { values, dataDir } = config
  checkSharedToken(values['Orchestrator.Auth.Token'])
  const dir = join(dataDir, 'orchestrator')
  await makeDirectory(dir, 0o700)
  const key = keyPairOf(identity.keySeed)
  const roster = await openRoster({
    file: join(dir, 'members.json'),
    clock,
    chance,
    sharedSecret: values['Orchestrator.Auth.Token'],
    publicKey: key.publicKey,
  })
  const listener = readListener(config)
  const server = await openServer(dir, listener, roster, parts)
  teardown.add('message server', () => server.close())
  roster.onChange((users) => server.setUsers(users))

  const gatekeeper = new Gatekeeper({ roster, clock, logger })
  const network = createNatsTransport({
    identity: ORCHESTRATOR,
    connect: async () =>
      openNats({ url: server.url, key, identity: ORCHESTRATOR, ...(await ownTrust(listener)) }),
    clock,
    chance,
    logger,
    onFlood: (sender) => gatekeeper.cutOff(sender),
  })
  teardown.add('connection to the message server', () => network.close())
  await network.connected(CONNECT_MS)
  teardown.add('gatekeeper for nodes', () => gatekeeper.close())
  return {
    transport: guardSync(network, (nodeId) => roster.member(nodeId)?.publicKey),
    tokens: roster,
    joinUrl: joinUrl(values['Orchestrator.Advertise'], listener, server.port),
    approveNodes: autoApproval({
      ownId: identity.nodeId,
      isManual: values['Orchestrator.NodeManager.ManualApproval'],
      listed: values['Orchestrator.NodeManager.AutoApprove'],
    }),
    onNodeDecision: (id, action, decide) => gatekeeper.decided(id, action, decide),
    open: async (orchestrator) => {
      await gatekeeper.open(orchestrator)
      await network.serve(
        JOIN_SUBJECT,
        createJoinDesk({
          roster,
          ownId: identity.nodeId,
          membershipOf: (id) => membershipOf(orchestrator, id),
          newcomer: values['Orchestrator.NodeManager.ManualApproval'] ? 'PENDING' : 'APPROVED',
          clock,
          logger,
        }),
      )
    },
  }
}

const CONNECT_MS = 10_000
const SHARED_TOKEN_LENGTH_MIN = 16

function openServer(
  dir: string,
  listener: NatsListener,
  roster: Roster,
  { config, clock, logger }: ClusterParts,
): Promise<MessageServer> {
  const url = config.values['Orchestrator.NATS.URL']
  const users = roster.users()
  if (url === '') return startNatsServer({ dir, listener, users, clock, logger })
  const { host, port } = readNatsUrl(url)
  if (!isLoopback({ host, port })) {
    throw new WeirError(
      'config.invalid',
      `Cannot use the message server at ${url}: it is on another machine`,
      {
        hint: 'weir writes the users of the server into a file, so it has to run here; or leave Orchestrator.NATS.URL out',
      },
    )
  }
  return useOutsideServer({
    dir,
    url,
    port,
    users,
    logger,
    pidFile: config.values['Orchestrator.NATS.PidFile'],
  })
}

function readListener({ values }: Config): NatsListener {
  const host = values['Orchestrator.Host'] === 'localhost' ? '127.0.0.1' : values['Orchestrator.Host']
  const listener = { host, port: values['Orchestrator.Port'] }
  const { 'Orchestrator.TLS.ServerCert': certFile, 'Orchestrator.TLS.ServerKey': keyFile } = values
  if ((certFile === '') !== (keyFile === '')) {
    throw new WeirError('config.invalid', 'Cannot use half of a certificate', {
      hint: 'Set both Orchestrator.TLS.ServerCert and Orchestrator.TLS.ServerKey',
    })
  }
  if (certFile !== '') {
    const timeoutMs = values['Orchestrator.TLS.ServerTimeout']
    const caFile = values['Orchestrator.TLS.CACert']
    return { ...listener, tls: { certFile, keyFile, timeoutMs, ...(caFile === '' ? {} : { caFile }) } }
  }
  if (
    !isLoopback(listener) &&
    !values['Orchestrator.TLS.AllowInsecure'] &&
    values['Orchestrator.NATS.URL'] === ''
  ) {
    throw new WeirError(
      'config.invalid',
      `Cannot take nodes on ${host} without TLS: others could read and change jobs`,
      {
        hint: 'Set Orchestrator.TLS.ServerCert and ServerKey, or Orchestrator.TLS.AllowInsecure when the network is trusted',
      },
    )
  }
  return listener
}

/** The orchestrator trusts exactly the certificate that it was told to show, whatever names stand in it. */
async function ownTrust({ tls }: NatsListener): Promise<Pick<NatsAddress, 'isTlsRequired' | 'pinned'>> {
  if (tls === undefined) return { isTlsRequired: false }
  const cert = await readFile(tls.certFile, 'utf8')
  const authorities = tls.caFile === undefined ? [] : [await readFile(tls.caFile, 'utf8')]
  return { isTlsRequired: true, pinned: { cert, authorities } }
}

function joinUrl(advertised: string, { host, tls }: NatsListener, port: number): string {
  if (advertised !== '') return /^[a-z]+:\/\//i.test(advertised) ? advertised : `nats://${advertised}`
  return `${tls === undefined ? 'nats' : 'tls'}://${host.includes(':') ? `[${host}]` : host}:${port}`
}

function checkSharedToken(token: string): void {
  if (token === '' || token.length >= SHARED_TOKEN_LENGTH_MIN) return
  throw new WeirError(
    'config.invalid',
    'Cannot use Orchestrator.Auth.Token: it is too short and could be guessed',
    {
      hint: `Use at least ${SHARED_TOKEN_LENGTH_MIN} characters, or leave it out and run: weir node token create`,
    },
  )
}
