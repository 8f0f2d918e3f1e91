import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Static } from 'typebox'
import { isWeirError, WeirError } from '../../errors.js'
import { parseLabelSelector, type NodeRecord } from '../../model/index.js'
import type { JobService } from '../../ports/index.js'
import type { ApiContext } from '../context.js'
import { isOlderThan } from '../guards/client-version.js'
import { bodyText } from '../guards/json-body.js'
import {
  GetNodeAnswer,
  ListNodesAnswer,
  ListNodesQuery,
  NodePath,
  UpdateNodeAnswer,
  UpdateNodeBody,
} from '../schemas.js'
import { nodeToWire, type WireObject } from '../wire/index.js'
import { answers } from './answers.js'

type ListQuery = Static<typeof ListNodesQuery>

/**
 * Nodes of the network. The Python client reads keys in lower case, so answers carry both; a client that names its
 * version is written in Go and would only decode the same list twice.
 */
export function nodeRoutes(app: FastifyInstance, context: ApiContext, jobs: JobService): void {
  const tags = ['nodes']

  app.get<{ Querystring: ListQuery }>(
    '/api/v1/orchestrator/nodes',
    { schema: { tags, querystring: ListNodesQuery, ...answers(ListNodesAnswer) } },
    async (request) => {
      const nodes = await listNodes(jobs, request.query)
      const wire = nodes.map((node) => nodeToWire(node, context.build.wire))
      return { NextToken: '', Nodes: wire, nodes: saysVersion(request) ? undefined : wire }
    },
  )

  app.get<{ Params: { id: string } }>(
    '/api/v1/orchestrator/nodes/:id',
    { schema: { tags, params: NodePath, ...answers(GetNodeAnswer) } },
    async (request) => {
      const wire = nodeToWire(await jobs.node(request.params.id), context.build.wire)
      return { Node: wire, node: saysVersion(request) ? undefined : wire }
    },
  )

  const update = { tags, body: UpdateNodeBody, ...answers(UpdateNodeAnswer) }
  app.put<{ Params: { id: string } }>(
    '/api/v1/orchestrator/nodes/:id',
    { schema: { ...update, params: NodePath } },
    (request) => updateNode(jobs, request.params.id, request),
  )
  // The Python client leaves the id out of the path.
  app.post('/api/v1/orchestrator/nodes', { schema: update }, (request) =>
    updateNode(jobs, bodyText(request.body, 'NodeID', 256), request),
  )
}

async function listNodes(jobs: JobService, query: ListQuery): Promise<NodeRecord[]> {
  const selector = parseLabelSelector(query.labels ?? [])
  const approval = query['filter-approval'] ?? query.filter_approval
  const status = query['filter-status'] ?? query.filter_status
  const found = await jobs.nodes({
    membership: approval?.toUpperCase() as NodeRecord['membership'] | undefined,
    connection: status?.toUpperCase() as NodeRecord['connection'] | undefined,
  })
  const nodes = found.filter((node) => selector.matches(node.info.labels))
  nodes.sort(ORDERS[query.order_by ?? 'id'])
  if (query.reverse === true) nodes.reverse()
  return query.limit === undefined || query.limit === 0 ? nodes : nodes.slice(0, query.limit)
}

/**
 * Clients before 1.8 get status 200 whatever happens, and what went wrong in the body; later ones get real errors. A
 * defect is always an error.
 */
async function updateNode(jobs: JobService, id: string, request: FastifyRequest): Promise<WireObject> {
  const action = bodyText(request.body, 'Action', 64).toLowerCase()
  const message = bodyText(request.body, 'Message', 1024)
  const wantsErrors = request.clientVersion !== undefined && !isOlderThan(request.clientVersion, 1, 8)
  if (action !== 'approve' && action !== 'reject' && action !== 'delete') {
    if (!wantsErrors) return failed('unsupported action')
    throw new WeirError('api.bad_request', `unsupported action ${JSON.stringify(action)}`, {
      hint: 'Use approve, reject or delete.',
    })
  }
  try {
    await jobs.updateNode(id, action, message)
    return { Success: true, success: true }
  } catch (error) {
    if (wantsErrors || !isWeirError(error, 'node.not_found', 'node.conflict', 'node.ambiguous')) throw error
    return { ...failed(error.message), Code: error.code, Hint: error.hint }
  }
}

function saysVersion(request: FastifyRequest): boolean {
  return request.clientVersion !== undefined
}

function failed(reason: string): WireObject {
  return { Success: false, success: false, Error: reason, error: reason }
}

type Order = (a: NodeRecord, b: NodeRecord) => number

const byId: Order = (a, b) => compare(a.info.nodeId, b.info.nodeId)

/** Each ends with the id, so that the order is total. Amounts go from most to least. */
const ORDERS: Readonly<Record<NonNullable<ListQuery['order_by']>, Order>> = {
  id: byId,
  type: (a, b) => compare(typeOf(a), typeOf(b)) || byId(a, b),
  available_cpu: (a, b) => b.info.availableCapacity.cpu - a.info.availableCapacity.cpu || byId(a, b),
  available_memory: (a, b) =>
    b.info.availableCapacity.memoryBytes - a.info.availableCapacity.memoryBytes || byId(a, b),
  available_disk: (a, b) =>
    b.info.availableCapacity.diskBytes - a.info.availableCapacity.diskBytes || byId(a, b),
  available_gpu: (a, b) => b.info.availableCapacity.gpu - a.info.availableCapacity.gpu || byId(a, b),
  approval: (a, b) => compare(a.membership, b.membership) || byId(a, b),
  status: (a, b) => compare(a.membership, b.membership) || byId(a, b),
}

function typeOf(node: NodeRecord): string {
  return node.info.roles.includes('compute') ? 'Compute' : 'Requester'
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
