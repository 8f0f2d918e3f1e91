import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApiServer, type ApiServerOptions } from '../../../src/api/index.js'
import { createComputeNode, type ComputeNode } from '../../../src/compute/index.js'
import type { Transport } from '../../../src/ports/index.js'
import { createOrchestrator, type Orchestrator } from '../../../src/orchestrator/index.js'
import { localPublisher, noopPublisher } from '../../../src/publishers/index.js'
import { inlineSource } from '../../../src/sources/index.js'
import { openMemoryStore, openSqliteStore } from '../../../src/stores/index.js'
import { createInProcessTransport } from '../../../src/transports/index.js'
import { CHANCE, CLOCK } from '../../compute/node-fixture.js'
import { HostExecutor } from './host-executor.js'

/** Ids of the nodes that {@link startNetwork} brings into all states. */
export const NODES = {
  orchestrator: 'n-0a000000-0000-4000-8000-000000000001',
  worker: 'n-0b000000-0000-4000-8000-000000000002',
  pending: 'n-0c000000-0000-4000-8000-000000000003',
  rejected: 'n-0d000000-0000-4000-8000-000000000004',
  gone: 'n-0e000000-0000-4000-8000-000000000005',
} as const

export interface Network {
  /** For example `http://127.0.0.1:40001`. */
  url: string
  port: number
  orchestrator: Orchestrator
  /** A node that was closed, with what it kept on disk. */
  restartWorker(nodeId: string): Promise<ComputeNode>
  /** One more approved compute node, until the network closes or the node is closed. */
  addWorker(nodeId: string, labels?: Record<string, string>): Promise<ComputeNode>
  close(): Promise<void>
}

export interface NetworkOptions {
  /** Also nodes that are pending, rejected and disconnected. Default true. */
  allStates?: boolean
  api?: Partial<ApiServerOptions>
}

/**
 * The API over a real socket, in front of the real orchestrator, a real database on disk, the real publisher and real
 * compute nodes. Only the engine is simple: jobs are processes of this machine.
 */
export async function startNetwork(options: NetworkOptions = {}): Promise<Network> {
  const dataDir = await mkdtemp(join(tmpdir(), 'weir-contract-'))
  const closers: (() => unknown)[] = [() => rm(dataDir, { recursive: true, force: true })]
  const clock = CLOCK
  const store = await openSqliteStore(join(dataDir, 'jobs.db')).catch(() => openMemoryStore())
  closers.push(() => store.close())
  const transport = createInProcessTransport({ clock, chance: CHANCE })
  closers.push(() => transport.close())
  const orchestrator = createOrchestrator({
    store,
    transport,
    clock,
    chance: CHANCE,
    nodeId: NODES.orchestrator,
    approveNodes: false,
    limits: { retryBackoffMs: 10, retryBackoffMsMax: 20 },
  })
  await orchestrator.start()
  closers.push(() => orchestrator.close())

  const addNode = async (nodeId: string, labels: Record<string, string> = {}) => {
    const node = await startWorker(nodeId, join(dataDir, nodeId), transport, labels, closers)
    return node
  }
  const addWorker = async (nodeId: string, labels: Record<string, string> = {}) => {
    const node = await addNode(nodeId, labels)
    await orchestrator.updateNode(nodeId, 'approve', '')
    return node
  }
  const worker = await addWorker(NODES.worker, { region: 'eu' })
  if (options.allStates !== false) {
    await addNode(NODES.pending)
    await addNode(NODES.rejected)
    await orchestrator.updateNode(NODES.rejected, 'reject', 'not ours')
    const gone = await addWorker(NODES.gone)
    await gone.close()
  }
  const api = await createApiServer({
    jobs: orchestrator,
    identity: { nodeId: NODES.orchestrator },
    nodeInfo: () => worker.info(),
    version: { weir: '0.1.0', gitCommit: '0a1b2c3', buildDate: '2024-11-29T10:11:12Z' },
    config: () => ({ API: { Host: '127.0.0.1', Port: 1234 }, Labels: {} }),
    ...options.api,
  })
  closers.push(() => api.close())
  const { url, port } = await api.listen({ host: '127.0.0.1', port: 0 })
  return {
    url,
    port,
    orchestrator,
    addWorker,
    restartWorker: addNode,
    async close() {
      for (const close of closers.splice(0).reverse()) await close()
    },
  }
}

async function startWorker(
  nodeId: string,
  dataDir: string,
  transport: Transport,
  labels: Record<string, string>,
  closers: (() => unknown)[],
): Promise<ComputeNode> {
  const publisher = await localPublisher({
    dir: join(dataDir, 'published'),
    listen: { host: '127.0.0.1', port: 0 },
    retentionMs: 3_600_000,
    quotaBytes: 1e9,
    clock: CLOCK,
  })
  closers.push(() => publisher.close())
  const executor = new HostExecutor()
  closers.push(() => executor.close())
  const node = createComputeNode({
    nodeId,
    dataDir,
    transport,
    clock: CLOCK,
    chance: CHANCE,
    executors: [executor],
    sources: [inlineSource()],
    publishers: [publisher, noopPublisher()],
    version: '0.1.0',
    labels,
    capacity: { cpu: '8', memory: '8gb', disk: '8gb', gpu: '0' },
    limits: { syncIntervalMs: 200, stopGraceMs: 300 },
  })
  await node.start()
  closers.push(() => node.close())
  return node
}
