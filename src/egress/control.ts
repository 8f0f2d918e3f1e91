import { randomUUID } from 'node:crypto'
import type { AddressInfo, Server } from 'node:net'
import { isWeirError, toWeirError, WeirError, type ErrorCode } from '../errors.js'
import type { EgressLimits, EgressSummary, ExecutionId, NodeId } from '../model/index.js'
import type { Identity, LeasePolicy, NodeEgressPolicy } from '../ports/index.js'
import { listenInNamespace, listenOnLoopback, PROXY_PORT } from './attach/namespace-listeners.js'
import type { Gateway } from './gateway.js'
import type { GatewayLimits } from './limits/gateway-limits.js'

/** What the gateway process is told at its start. Plain values only. */
export interface GatewayProcessOptions {
  nodeId: NodeId
  /** Directory of the audit files. */
  auditDir: string
  /** Records of one execution take at most this much. Default 64 MiB. */
  auditBytesMax?: number
  /** DNS servers, `address` or `address:port`. Empty: those of the machine. */
  dnsServers?: string[]
  /** The operator's own names → addresses. Judged like any answer. */
  hosts?: Record<string, string | string[]>
  /** One lookup takes at most this long. Default 5 s. */
  dnsTimeoutMs?: number
  limits?: Partial<GatewayLimits>
  allowEch?: boolean
}

/** What the node may ask of the gateway process: name → parameters and answer. */
export interface ControlCalls {
  init: { params: GatewayProcessOptions; answer: null }
  attach: { params: { doorId: string; netnsPath: string; usernsPath?: string }; answer: null }
  loopback: { params: { doorId: string; port: number }; answer: { port: number } }
  open: {
    params: { who: Identity; policy: LeasePolicy; doorId: string; again?: boolean }
    answer: EgressLimits
  }
  summary: { params: { executionId: ExecutionId }; answer: EgressSummary }
  close: { params: { executionId: ExecutionId }; answer: EgressSummary }
  release: { params: { doorId: string }; answer: null }
  policy: { params: { policy: NodeEgressPolicy; generation: number }; answer: null }
  status: { params: null; answer: { policyGeneration: number; leases: number; connections: number } }
  shutdown: { params: null; answer: null }
}

export interface ControlRequest<K extends keyof ControlCalls = keyof ControlCalls> {
  id: number
  call: K
  params: ControlCalls[K]['params']
}

export type ControlReply =
  | { id: number; value: unknown }
  | {
      id: number
      error: { code: ErrorCode; message: string; hint?: string; details: Record<string, unknown> }
    }

/**
 * Answers control messages with a gateway made by `create` on `init`. Each message is answered exactly once; nothing
 * that a caller sends can make this reject.
 */
export function createControl(
  create: (options: GatewayProcessOptions) => Gateway,
): (request: ControlRequest) => Promise<ControlReply> {
  let gateway: Gateway | undefined
  const perform = async (request: ControlRequest): Promise<unknown> => {
    if (request.call === 'init') {
      gateway = create(request.params as GatewayProcessOptions)
      return null
    }
    if (gateway === undefined) throw new WeirError('egress.unavailable', 'The gateway is not set up yet')
    return await answer(gateway, request)
  }
  return async (request) => {
    try {
      return { id: request.id, value: await perform(request) }
    } catch (error) {
      const { code, message, hint, details } = isWeirError(error) ? error : toWeirError(error)
      return { id: request.id, error: { code, message, details, ...(hint === undefined ? {} : { hint }) } }
    }
  }
}

/** The address a job uses. */
export function proxyUrlOf(port: number = PROXY_PORT): string {
  return `http://127.0.0.1:${port}`
}

export function newDoorId(): string {
  return `door-${randomUUID()}`
}

async function answer(gateway: Gateway, request: ControlRequest): Promise<unknown> {
  const { call } = request
  switch (call) {
    case 'attach': {
      const { doorId, netnsPath, usernsPath } = paramsOf<'attach'>(request)
      gateway.hold(doorId, await listenInNamespace(netnsPath, usernsPath))
      return null
    }
    case 'loopback': {
      const { doorId, port } = paramsOf<'loopback'>(request)
      const server: Server = await listenOnLoopback(port)
      gateway.hold(doorId, [server])
      return { port: (server.address() as AddressInfo).port }
    }
    case 'open': {
      const { who, policy, doorId, again } = paramsOf<'open'>(request)
      return await gateway.open(who, policy, doorId, { again: again === true })
    }
    case 'summary':
      return gateway.summary(paramsOf<'summary'>(request).executionId)
    case 'close':
      return await gateway.close(paramsOf<'close'>(request).executionId)
    case 'release':
      gateway.release(paramsOf<'release'>(request).doorId)
      return null
    case 'policy': {
      const { policy, generation } = paramsOf<'policy'>(request)
      gateway.setNodePolicy(policy, generation)
      return null
    }
    case 'status':
      return gateway.status
    case 'shutdown':
      await gateway.shutdown()
      return null
    default:
      throw new WeirError('internal', `The gateway does not know the call "${call}"`)
  }
}

function paramsOf<K extends keyof ControlCalls>(request: ControlRequest): ControlCalls[K]['params'] {
  return request.params as ControlCalls[K]['params']
}
