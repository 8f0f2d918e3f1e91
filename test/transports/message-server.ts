import { REAL_CLOCK } from '../../src/node/real-time.js'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Chance } from '../../src/ports/index.js'
import {
  createNatsTransport,
  type KeyPair,
  keyPairOf,
  type MessageServer,
  type NatsServerOptions,
  type NatsTransport,
  type NatsTransportOptions,
  type NatsUser,
  openNats,
  ORCHESTRATOR,
  startNatsServer,
} from '../../src/transports/index.js'

/** Why tests that need a message server cannot run here; empty when they can. */
export const noNats: string = ['/usr/sbin', '/usr/bin', '/usr/local/bin', '/usr/local/sbin'].some(
  (directory) => existsSync(join(directory, 'nats-server')),
)
  ? ''
  : 'needs nats-server'

export const CLOCK = REAL_CLOCK
export const CHANCE: Chance = { uuid: () => randomUUID(), random: () => Math.random() }
export const SILENT = { debug() {}, info() {}, warn() {}, error() {} }

export function newKey(): KeyPair {
  return keyPairOf(randomBytes(32))
}

/** A real server in a directory of its own, and transports to it that are closed with it. */
export interface TestNetwork {
  server: MessageServer
  dir: string
  orchestrator: KeyPair
  users: NatsUser[]
  /** As the orchestrator or as the owner of a key that was let in. */
  transport(identity: string, key: KeyPair, more?: Partial<NatsTransportOptions>): Promise<NatsTransport>
  /** Lets a node in and returns its key. */
  admit(nodeId: string): Promise<KeyPair>
  close(): Promise<void>
}

export async function startNetwork(more: Partial<NatsServerOptions> = {}): Promise<TestNetwork> {
  const dir = await mkdtemp(join(tmpdir(), 'weir-nats-'))
  const orchestrator = newKey()
  const users: NatsUser[] = [{ kind: 'orchestrator', publicKey: orchestrator.publicKey }]
  const opened: NatsTransport[] = []
  let server: MessageServer
  try {
    server = await startNatsServer({
      dir,
      listener: { host: '127.0.0.1', port: 0 },
      users,
      clock: CLOCK,
      logger: SILENT,
      ...more,
    })
  } catch (error) {
    await rm(dir, { recursive: true, force: true })
    throw error
  }
  return {
    server,
    dir,
    orchestrator,
    users,
    transport: async (identity, key, options = {}) => {
      const transport = createNatsTransport({
        identity,
        connect: () => openNats({ url: server.url, isTlsRequired: false, key, identity }),
        clock: CLOCK,
        chance: CHANCE,
        logger: SILENT,
        ...options,
      })
      opened.push(transport)
      await transport.connected(5_000)
      return transport
    },
    admit: async (nodeId) => {
      const key = newKey()
      users.push({ kind: 'node', nodeId, publicKey: key.publicKey })
      await server.setUsers(users)
      return key
    },
    close: async () => {
      await Promise.all(opened.map((transport) => transport.close()))
      await server.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

export { ORCHESTRATOR }

/** Polls until the condition holds; fails after ten seconds. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<void> {
  for (const untilMs = Date.now() + withinMs; !(await holds()); ) {
    if (Date.now() > untilMs) throw new Error(`not within ${withinMs} ms: ${what}`)
    await sleep(10)
  }
}
