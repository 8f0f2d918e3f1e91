import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createResolver, type Dial, Gateway } from '../../src/egress/index.js'
import type { DnsAnswer } from '../../src/egress/dns/message.js'
import { createAuditFile } from '../../src/stores/audit-file.js'
import type { CorpusRow } from './corpus-row.js'
import { type CorpusTarget, DEFAULT_LIST } from './corpus-runner.js'
import { ChannelClient, socketPair } from './channel-client.js'
import { addressOf, OWN_ADDRESS, ORCHESTRATOR_ADDRESS, roleOf, Witnesses } from './witnesses.js'

/** Short deadlines, so that rows about waiting do not take long. */
export const QUICK_LIMITS = { headTimeoutMs: 700, helloTimeoutMs: 1_200, dialTimeoutMs: 1_000 }

/**
 * The gateway in this process; names and addresses are scripted, sockets are real. Rows go through its proxy, or through the channel of
 * a sandbox, where each is a conversation.
 */
export async function createInProcessTarget(way: 'proxy' | 'channel' = 'proxy'): Promise<CorpusTarget> {
  const witnesses = new Witnesses()
  const dir = mkdtempSync(join(tmpdir(), 'weir-corpus-'))
  const audit = createAuditFile({ dir })
  const listeners = new Map<string, Server>()
  for (const role of ['ok', 'ok-tls', 'evil', 'internal'] as const) {
    const server = await listen()
    witnesses.watch(server, role)
    listeners.set(role, server)
  }
  const dial: Dial = (address, port, signal) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const server = listeners.get(roleOf(address.text, port))
      const socket = connect({ port: portOf(server), host: '127.0.0.1', allowHalfOpen: true })
      socket.once('connect', () => resolve(socket))
      socket.once('error', reject)
    })
  let current: { key: string; gateway: Gateway; door: Server; executionId: string; after: number } | undefined
  let channel: ChannelClient | undefined
  let count = 0
  return {
    witnesses,
    async prepare(row) {
      const key = JSON.stringify(row.policy ?? {})
      if (current?.key !== key) {
        await current?.gateway.shutdown()
        const executionId = `e-corpus-${++count}`
        const gateway = new Gateway({
          nodeId: 'n-corpus',
          audit,
          resolve: createResolver({ query: scriptedQuery(witnesses), timeoutMs: 800 }),
          dial,
          limits: QUICK_LIMITS,
          allowEch: row.policy?.allowEch === true,
          ownAddresses: () => [OWN_ADDRESS],
        })
        gateway.setNodePolicy(nodePolicyOf(row))
        const door = await listen()
        gateway.hold('door', { proxy: [door] })
        if (way === 'channel') {
          const [theirs, mine] = await socketPair()
          channel = new ChannelClient(mine)
          gateway.carry('door', theirs)
        }
        await gateway.open(
          { jobId: 'j-corpus', executionId },
          { mode: 'http', allow: row.policy?.job ?? DEFAULT_LIST },
          'door',
        )
        current = { key, gateway, door, executionId, after: 0 }
      }
      const before = await audit.read(current.executionId, 0, 10_000)
      current.after = before.at(-1)?.sequence ?? 0
    },
    connect: async () =>
      // All that rows do with a connection it can do as well.
      (channel?.open() as unknown as Socket | undefined) ?? connectTo(portOf(current?.door)),
    records: () => audit.read(current?.executionId ?? '', current?.after ?? 0, 1_000),
    async close() {
      await current?.gateway.shutdown()
      for (const server of listeners.values()) server.close()
      witnesses.reset({}, {})
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

export function nodePolicyOf(row: CorpusRow) {
  const policy = row.policy ?? {}
  return {
    allow: policy.node ?? policy.job ?? DEFAULT_LIST,
    deny: policy.deny ?? [],
    privateExceptions: policy.exceptions ?? [],
    self: policy.self ?? [ORCHESTRATOR_ADDRESS, 'orchestrator.example.com'],
    ...(policy.network === undefined ? {} : { network: policy.network }),
  }
}

function scriptedQuery(witnesses: Witnesses) {
  return async (name: string, type: 'A' | 'AAAA', signal: AbortSignal): Promise<DnsAnswer> => {
    const script = witnesses.dns(name, type)
    if (script.silent === true || script.delayMs !== undefined)
      await wait(script.silent === true ? 60_000 : (script.delayMs ?? 0), signal)
    const chain = script.cname ?? []
    const aliases = new Map(
      chain.map((target, index) => [index === 0 ? name : (chain[index - 1] ?? ''), target]),
    )
    const owner = chain.at(-1) ?? name
    const addresses = ((type === 'A' ? script.A : script.AAAA) ?? []).map((text) => ({
      name: owner,
      address: addressOf(text),
    }))
    return { responseCode: script.rcode ?? 0, truncated: false, aliases, addresses }
  }
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(signal.reason as Error)
    })
  })
}

function connectTo(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    socket.once('connect', () => resolve(socket))
    socket.once('error', reject)
  })
}

function listen(): Promise<Server> {
  return new Promise((resolve) => {
    const server = createServer({ allowHalfOpen: true, noDelay: true })
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
}

function portOf(server?: Server): number {
  const address = server?.address()
  if (typeof address !== 'object' || address === null) throw new Error('nobody listens')
  return address.port
}
