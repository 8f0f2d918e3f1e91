import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nodeInfo, nodeRecord } from './memory-job-service.js'
import { startServer, type Server } from './with-server.js'

const NODES = '/api/v1/orchestrator/nodes'

let server: Server
beforeEach(async () => {
  server = await startServer()
  const free = (cpu: number) => ({ cpu, memoryBytes: cpu * 1e9, diskBytes: 0, gpu: 0 })
  for (const node of [
    nodeRecord('n-b', { info: nodeInfo('n-b', { availableCapacity: free(2), labels: { region: 'eu' } }) }),
    nodeRecord('n-a', {
      info: nodeInfo('n-a', { availableCapacity: free(1), roles: ['orchestrator'] }),
      membership: 'PENDING',
    }),
    nodeRecord('n-c', { info: nodeInfo('n-c', { availableCapacity: free(3) }), connection: 'DISCONNECTED' }),
  ]) {
    server.jobs.nodesById.set(node.info.nodeId, node)
  }
})
afterEach(() => server.close())

async function ids(query: string): Promise<string[]> {
  const { Nodes: nodes, nodes: sameNodes } = (await server.call('GET', `${NODES}?${query}`)).json
  expect(sameNodes).toEqual(nodes)
  return nodes.map((node: { Info: { NodeID: string } }) => node.Info.NodeID)
}

describe('nodes over HTTP', () => {
  it.each([
    ['', ['n-a', 'n-b', 'n-c']],
    ['reverse=true', ['n-c', 'n-b', 'n-a']],
    ['order_by=available_cpu', ['n-c', 'n-b', 'n-a']],
    ['order_by=available_memory&reverse=true', ['n-a', 'n-b', 'n-c']],
    ['order_by=type', ['n-b', 'n-c', 'n-a']],
    ['order_by=approval', ['n-b', 'n-c', 'n-a']],
    ['limit=2', ['n-a', 'n-b']],
    ['labels=region%3Deu', ['n-b']],
    ['filter-approval=Pending', ['n-a']],
    ['filter_approval=APPROVED', ['n-b', 'n-c']],
    ['filter-status=disconnected', ['n-c']],
    ['filter_status=&filter-approval=', ['n-a', 'n-b', 'n-c']],
  ])('lists with %j', async (query, expected) => {
    expect(await ids(query)).toEqual(expected)
  })

  it('answers 400 "invalid order_by" for an order that does not exist', async () => {
    const answer = await server.call('GET', `${NODES}?order_by=foo`)
    expect(answer.status).toBe(400)
    expect(answer.json.Message).toContain('invalid order_by')
  })

  it('describes a node in both spellings, with both forms of the connection', async () => {
    const { Node: node, node: same } = (await server.call('GET', `${NODES}/n-c`)).json
    expect(same).toEqual(node)
    expect(node).toMatchObject({
      Membership: 'APPROVED',
      Connection: 'DISCONNECTED',
      ConnectionState: { Status: 'DISCONNECTED', ConnectedSince: '0001-01-01T00:00:00Z' },
      Info: {
        NodeType: 'Compute',
        ComputeNodeInfo: {
          ExecutionEngines: ['docker', 'wasm'],
          StorageSources: ['urldownload', 'localdirectory', 'inline'],
          address: '',
        },
        Egress: { AcceptsNetworkedJobs: true, Allow: ['example.org'] },
      },
    })
    expect(node.Info.ComputeNodeInfo.QueueCapacity).toEqual({})
  })

  it('calls a node that only orchestrates a requester, without compute info', async () => {
    const { Node: node } = (await server.call('GET', `${NODES}/n-a`)).json
    expect(node.Info.NodeType).toBe('Requester')
    expect(node.Info).not.toHaveProperty('ComputeNodeInfo')
  })

  it('answers 404 for an unknown node', async () => {
    const answer = await server.call('GET', `${NODES}/n-x`)
    expect(answer.status).toBe(404)
    expect(answer.json).toMatchObject({ Code: 'NotFound', Component: 'NodesManager' })
  })
})

describe('updating a node', () => {
  const put = (id: string, body: object) => server.call('PUT', `${NODES}/${id}`, body)

  it('approves, and then says with status 200 that it is approved already', async () => {
    const done = await put('n-a', { Action: 'approve', Message: 'welcome', NodeID: 'n-a' })
    expect([done.status, done.json]).toEqual([200, { Success: true, success: true }])
    const again = await put('n-a', { action: 'approve' })
    expect(again.status).toBe(200)
    expect(again.json.Success).toBe(false)
    expect(again.json.Error).toContain('already')
    expect(again.json.error).toBe(again.json.Error)
  })

  it('says with status 200 that an action or a node does not exist', async () => {
    expect((await put('n-a', { Action: 'promote' })).json).toMatchObject({
      Success: false,
      Error: 'unsupported action',
    })
    const unknown = await put('n-x', { Action: 'delete' })
    expect([unknown.status, unknown.json.Success, unknown.json.Code]).toEqual([200, false, 'node.not_found'])
  })

  it('takes the id from the body where the Python client leaves it out of the path', async () => {
    const answer = await server.call('POST', NODES, { action: 'delete', nodeID: 'n-b', message: '' })
    expect(answer.json.success).toBe(true)
    expect(server.jobs.nodesById.has('n-b')).toBe(false)
  })

  it('answers 400 when the action is not text', async () => {
    expect((await put('n-a', { Action: 7 })).status).toBe(400)
  })
})
