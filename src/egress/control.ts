import { randomUUID } from 'node:crypto'
import { type AddressInfo, Socket } from 'node:net'
import { isWeirError, toWeirError, WeirError, type ErrorCode } from '../errors.js'
import {
  type EgressLimits,
  type EgressSummary,
  type GatewayCounters,
  type ExecutionId,
  type NodeId,
} from '../model/index.js'
import type {
  EgressExplanation,
  EgressQuestion,
  Identity,
  LeasePolicy,
  NodeEgressPolicy,
} from '../ports/index.js'
import { PROXY_PORT, WEB_PORTS } from './attach/listeners.js'
import {
  listenInNamespace,
  listenOn,
  listenOnMorePorts,
  type NamespacePaths,
} from './attach/namespace-listeners.js'
import { transparentPorts } from './attach/transparent-ports.js'
import type { Gateway } from './gateway.js'
import type { GatewayLimits } from './limits/gateway-limits.js'
import { fromPieces, type ListPiece } from './list-pieces.js'
import { compileJobRules } from './policy/egress-policy.js'
import type { DoorService } from './serve/authenticator.js'

/** What the gateway process is told at its start. Plain values only. */
export interface GatewayProcessOptions {
  nodeId: NodeId
  /** Directory of the audit files. */
  auditDir: string
  /** Records of one execution take at most this much. Default 64 MiB. */
  auditBytesMax?: number
  /** Ids whose records are kept only so long, with the bytes after which a new file is begun. Absent: none. */
  auditTurnOver?: Record<string, number>
  /** DNS servers, `address` or `address:port`. Empty: those of the machine. */
  dnsServers?: string[]
  /** The operator's own names → addresses. Judged like any answer. */
  hosts?: Record<string, string | string[]>
  /** One lookup takes at most this long. Default 5 s. */
  dnsTimeoutMs?: number
  limits?: Partial<GatewayLimits>
  allowEch?: boolean
  /** Certificates (PEM) of the authorities that hosts of sandboxed programs are judged by. Absent: those of Node.js. */
  authorities?: string
  /** Serve programs that ignore proxy variables. Default true. */
  transparent?: boolean
}

/** What the node may ask of the gateway process: name → parameters and answer. */
export interface ControlCalls {
  init: { params: GatewayProcessOptions; answer: null }
  /** `problem`: why programs that ignore proxy variables cannot be served; empty when they can. */
  attach: {
    params: { doorId: string; netnsPath: string; usernsPath?: string }
    answer: { problem: string }
  }
  /** An empty host: no listener. */
  listen: { params: { doorId: string; host: string; port: number }; answer: { port: number } }
  /** Goes with the descriptor of a sandbox. */
  carry: { params: { doorId: string }; answer: null }
  serve: { params: { doorId: string; service: DoorService }; answer: null }
  replace: { params: { executionId: ExecutionId; allow: string[] }; answer: null }
  drain: { params: { withinMs: number }; answer: null }
  open: {
    params: { who: Identity; policy: LeasePolicy; doorId: string; again?: boolean }
    answer: EgressLimits
  }
  summary: { params: { executionId: ExecutionId }; answer: EgressSummary }
  close: { params: { executionId: ExecutionId }; answer: EgressSummary }
  release: { params: { doorId: string }; answer: null }
  /** `lists`: what leases ask for from then on, as pieces of `policy.allow`. */
  policy: {
    params: { policy: NodeEgressPolicy; generation: number; lists?: Record<ExecutionId, ListPiece[]> }
    answer: null
  }
  explain: { params: EgressQuestion; answer: EgressExplanation }
  status: { params: null; answer: { policyGeneration: number; leases: number; connections: number } }
  counters: { params: null; answer: GatewayCounters }
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
): (request: ControlRequest, handle?: unknown) => Promise<ControlReply> {
  let gateway: Gateway | undefined
  const doors: Doors = { transparent: true, namespaces: new Map() }
  const perform = async (request: ControlRequest, handle: unknown): Promise<unknown> => {
    if (request.call === 'init') {
      const options = request.params as GatewayProcessOptions
      doors.transparent = options.transparent !== false
      gateway = create(options)
      return null
    }
    if (gateway === undefined) throw new WeirError('egress.unavailable', 'The gateway is not set up yet')
    return await answer(gateway, doors, request, handle)
  }
  return async (request, handle) => {
    try {
      return { id: request.id, value: await perform(request, handle) }
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

/** What the process knows of the namespaces it listens in. */
interface Doors {
  transparent: boolean
  /** Door → its namespace, for those in which programs that ignore proxy variables are served. */
  readonly namespaces: Map<string, NamespacePaths>
}

async function answer(
  gateway: Gateway,
  doors: Doors,
  request: ControlRequest,
  handle: unknown,
): Promise<unknown> {
  const { call } = request
  switch (call) {
    case 'attach': {
      const { doorId, ...namespace } = paramsOf<'attach'>(request)
      const { transparent } = doors
      const { problem, ...listeners } = await listenInNamespace(namespace, {
        transparent,
        webPorts: WEB_PORTS,
      })
      gateway.hold(doorId, listeners)
      if (problem === '') doors.namespaces.set(doorId, namespace)
      return { problem }
    }
    case 'listen': {
      const { doorId, host, port } = paramsOf<'listen'>(request)
      const servers = host === '' ? [] : [await listenOn(host, port)]
      gateway.hold(doorId, { proxy: servers })
      return { port: (servers[0]?.address() as AddressInfo | undefined)?.port ?? 0 }
    }
    case 'carry': {
      if (!(handle instanceof Socket))
        throw new WeirError('egress.unavailable', 'The descriptor of the sandbox did not arrive')
      gateway.carry(paramsOf<'carry'>(request).doorId, handle)
      return null
    }
    case 'serve': {
      const { doorId, service } = paramsOf<'serve'>(request)
      gateway.serve(doorId, service)
      return null
    }
    case 'replace': {
      const { executionId, allow } = paramsOf<'replace'>(request)
      gateway.replaceAllow(executionId, allow)
      return null
    }
    case 'drain':
      await gateway.drain(paramsOf<'drain'>(request).withinMs)
      return null
    case 'open': {
      const { who, policy, doorId, again } = paramsOf<'open'>(request)
      await suitPorts(gateway, doors, doorId, policy)
      return await gateway.open(who, policy, doorId, { again: again === true })
    }
    case 'summary':
      return gateway.summary(paramsOf<'summary'>(request).executionId)
    case 'close':
      return await gateway.close(paramsOf<'close'>(request).executionId)
    case 'release': {
      const { doorId } = paramsOf<'release'>(request)
      doors.namespaces.delete(doorId)
      gateway.release(doorId)
      return null
    }
    case 'policy': {
      const { policy, generation, lists = {} } = paramsOf<'policy'>(request)
      const whole = Object.entries(lists).map(
        ([id, pieces]) => [id, fromPieces(pieces, policy.allow)] as const,
      )
      gateway.setNodePolicy(policy, generation, new Map(whole))
      return null
    }
    case 'explain':
      return gateway.explain(paramsOf<'explain'>(request))
    case 'status':
      return gateway.status
    case 'counters':
      return gateway.counters
    case 'shutdown':
      await gateway.shutdown()
      return null
    default:
      throw new WeirError('internal', `The gateway does not know the call "${call}"`)
  }
}

/** Listens on exactly the ports that the job's list opens. One that cannot be had is left to whoever has it. */
async function suitPorts(gateway: Gateway, doors: Doors, doorId: string, policy: LeasePolicy): Promise<void> {
  const namespace = doors.namespaces.get(doorId)
  if (namespace === undefined) return
  const ports = transparentPorts(compileJobRules(policy).patterns, policy.learning)
  const more = [...ports].filter((port) => !WEB_PORTS.includes(port))
  gateway.keepTransparentPorts(doorId, ports)
  if (more.length > 0) gateway.hold(doorId, await listenOnMorePorts(namespace, more))
  // A door has one lease: nothing more is asked for it.
  doors.namespaces.delete(doorId)
}

function paramsOf<K extends keyof ControlCalls>(request: ControlRequest): ControlCalls[K]['params'] {
  return request.params as ControlCalls[K]['params']
}
