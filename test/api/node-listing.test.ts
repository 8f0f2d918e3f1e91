import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createApiServer, type ApiServer } from '../../src/api/index.js'
import type { NodeInfo, SyncRequest } from '../../src/model/index.js'
import { createOrchestrator, type Orchestrator } from '../../src/orchestrator/index.js'
import { SYNC_SUBJECT, type Transport } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { CHANCE, CLOCK } from '../compute/node-fixture.js'
import { exchange } from './contract/go-cli.js'
import { goDecode } from './contract/go-decode.js'
import { goStructs } from './contract/go-structs.js'
import { nodeInfo } from './memory-job-service.js'

/** A thousand nodes that reported to a real orchestrator. */
const COUNT = 1000
let orchestrator: Orchestrator
let transport: Transport
let api: ApiServer
let url: URL

beforeAll(async () => {
  const store = openMemoryStore()
  transport = createInProcessTransport({ clock: CLOCK, chance: CHANCE })
  orchestrator = createOrchestrator({
    store,
    transport,
    clock: CLOCK,
    chance: CHANCE,
    nodeId: 'n-self',
    approveNodes: false,
  })
  await orchestrator.start()
  for (let index = 0; index < COUNT; index++) await report(index, false)
  for (let index = 0; index < COUNT; index++) {
    if (index % 4 === 0) await orchestrator.updateNode(idOf(index), 'approve', '')
    if (index % 10 === 5) await orchestrator.updateNode(idOf(index), 'reject', '')
  }
  for (let index = 0; index < COUNT; index += 8) await report(index, true)
  api = await createApiServer({
    jobs: orchestrator,
    identity: { nodeId: 'n-self' },
    nodeInfo: () => nodeInfo('n-self'),
    version: { weir: '0.1.0' },
    limits: { requestsPerSecond: 100_000 },
  })
  url = new URL((await api.listen({ host: '127.0.0.1', port: 0 })).url)
})
afterAll(async () => {
  await api.close()
  await orchestrator.close()
  await transport.close()
})

describe('the list of a thousand nodes', () => {
  it('has every node once, by id', async () => {
    const ids = await idsOf('')
    expect(ids).toEqual(Array.from({ length: COUNT }, (_, index) => idOf(index)))
  })

  it('is truncated by limit, and never has a token', async () => {
    for (const [query, count] of [
      ['limit=1', 1],
      ['limit=0', COUNT],
      ['limit=', COUNT],
      ['limit=4294967295', COUNT],
      ['limit=7&next_token=anything', 7],
    ] as const) {
      const answer = await list(query)
      expect([answer.Nodes.length, answer.NextToken], query).toEqual([count, ''])
    }
  })

  it.each([
    ['filter-approval=approved', 250],
    ['filter-approval=PENDING', 650],
    ['filter_approval=Rejected', 100],
    ['filter-status=disconnected', 125],
    ['filter-status=Connected&filter-approval=approved', 125],
    ['labels=zone%3Da', 334],
    ['labels=zone%20in%20(a,b)&labels=rack', 667],
    ['labels=%21rack', 0],
    ['labels=rack%3E497', 2],
    ['labels=zone%21%3Da&filter-approval=approved&filter-status=connected', 83],
  ])('filters by %s', async (query, count) => {
    expect((await idsOf(query)).length).toBe(count)
  })

  it.each([
    ['available_cpu', (node: Node) => -(node.Info.ComputeNodeInfo.AvailableCapacity.CPU ?? 0)],
    ['available_memory', (node: Node) => -(node.Info.ComputeNodeInfo.AvailableCapacity.Memory ?? 0)],
    ['available_disk', (node: Node) => -(node.Info.ComputeNodeInfo.AvailableCapacity.Disk ?? 0)],
    ['available_gpu', (node: Node) => -(node.Info.ComputeNodeInfo.AvailableCapacity.GPU ?? 0)],
    ['approval', (node: Node) => ['APPROVED', 'PENDING', 'REJECTED'].indexOf(node.Membership)],
    ['status', (node: Node) => ['APPROVED', 'PENDING', 'REJECTED'].indexOf(node.Membership)],
    ['type', (node: Node) => ['Compute', 'Requester'].indexOf(node.Info.NodeType)],
  ] as const)('is ordered by %s, then by id; reverse inverts it', async (order, rank) => {
    const nodes = (await list(`order_by=${order}`)).Nodes
    for (const [index, node] of nodes.entries()) {
      const before = nodes[index - 1]
      if (before === undefined) continue
      const difference = rank(before) - rank(node)
      expect(
        difference < 0 || (difference === 0 && before.Info.NodeID < node.Info.NodeID),
        node.Info.NodeID,
      ).toBe(true)
    }
    const reversed = (await list(`order_by=${order}&reverse=true`)).Nodes
    expect(reversed.map((node) => node.Info.NodeID)).toEqual(
      nodes.map((node) => node.Info.NodeID).toReversed(),
    )
    const first = (await list(`order_by=${order}&limit=3`)).Nodes
    expect(first).toEqual(nodes.slice(0, 3))
  })

  it('is found by a unique beginning, and says when several fit', async () => {
    expect((await get('/api/v1/orchestrator/nodes/n-00000123')).status).toBe(200)
    const several = await get('/api/v1/orchestrator/nodes/n-000001')
    expect([several.status, JSON.parse(several.text).Code]).toEqual([409, 'MultipleNodesFound'])
    expect((await get('/api/v1/orchestrator/nodes/n-1')).status).toBe(404)
  })
})

interface Node {
  Membership: string
  Connection: string
  Info: {
    NodeID: string
    NodeType: string
    ComputeNodeInfo: { AvailableCapacity: { CPU?: number; Memory?: number; Disk?: number; GPU?: number } }
  }
}

function idOf(index: number): string {
  return `n-${String(index).padStart(8, '0')}-0000-4000-8000-000000000000`
}

/** What node number `index` reports: amounts that repeat, so that ties are broken by id. */
function infoOf(index: number): NodeInfo {
  return nodeInfo(idOf(index), {
    roles: index % 5 === 0 ? ['orchestrator', 'compute'] : ['compute'],
    labels: { zone: ['a', 'b', 'c'][index % 3] ?? '', rack: String(index % 499) },
    availableCapacity: {
      cpu: (index % 17) / 2,
      memoryBytes: (index % 13) * 1e9,
      diskBytes: (index % 11) * 1e10,
      gpu: index % 3,
    },
  })
}

async function report(index: number, leaving: boolean): Promise<void> {
  const request: SyncRequest = {
    nodeId: idOf(index),
    incarnation: 'one',
    info: infoOf(index),
    knownRevision: 0,
    observed: [],
    leaving,
  }
  await transport.request(SYNC_SUBJECT, request, 5000)
}

function get(path: string): Promise<{ status: number; text: string }> {
  return exchange(url, 'GET', path, { 'x-bacalhau-git-version': 'v1.5.2' })
}

async function list(query: string): Promise<{ NextToken: string; Nodes: Node[] }> {
  const { status, text } = await get(`/api/v1/orchestrator/nodes?${query}`)
  expect(status, text.slice(0, 300)).toBe(200)
  return goDecode(text, goStructs('v1.5.2').listNodes) as { NextToken: string; Nodes: Node[] }
}

async function idsOf(query: string): Promise<string[]> {
  return (await list(query)).Nodes.map((node) => node.Info.NodeID)
}
