import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfiguredUsers, TokenAccess } from '../../src/access/index.js'
import type { ApiServerOptions } from '../../src/api/index.js'
import { EVERYONE, type NamespaceScope, type Role } from '../../src/model/index.js'
import type { AdminLog, Clock } from '../../src/ports/index.js'
import { openAdminLog, openTokenStore } from '../../src/stores/index.js'
import { startServer, type Answer, type Server } from './with-server.js'

export interface GuardedServer extends Server {
  access: TokenAccess
  adminLog: AdminLog
  /** A fresh token. */
  token(role: Role, namespaces?: NamespaceScope, expiresMs?: number): { id: string; text: string }
  /** Calls with a token. */
  as(token: string, method: string, path: string, body?: unknown): Promise<Answer>
}

/** A clock that a test moves. */
export class HandClock implements Clock {
  #now = 1_732_870_000_000
  readonly #sleepers: { atMs: number; wake: () => void }[] = []

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sleepers.push({ atMs: this.#now + ms, wake: resolve })
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }

  pass(ms: number): void {
    this.#now += ms
    for (const sleeper of this.#sleepers) if (sleeper.atMs <= this.#now) sleeper.wake()
  }
}

/** A real server that asks who is calling, with its tokens and its record in real files. */
export async function startGuardedServer(
  options: { clock?: Clock; users?: unknown[]; server?: Partial<ApiServerOptions> } = {},
): Promise<GuardedServer> {
  const dir = mkdtempSync(join(tmpdir(), 'weir-access-'))
  const clock = options.clock ?? { now: () => Date.now(), sleep: () => new Promise(() => {}) }
  const store = await openTokenStore(join(dir, 'access.db'), { now: () => clock.now() })
  const adminLog = await openAdminLog({ dir: join(dir, 'admin-audit'), now: () => clock.now() })
  const users = readConfiguredUsers(options.users ?? [])
  const access = new TokenAccess({ store, clock, users })
  const server = await startServer({ access, adminLog, ...options.server })
  return {
    ...server,
    access,
    adminLog,
    token: (role, namespaces = '*', expiresMs) => {
      const made = access.createToken({ name: `a ${role}`, role, namespaces, expiresMs }, EVERYONE)
      return { id: made.record.id, text: made.token }
    },
    as: (token, method, path, body) => server.call(method, path, body, { authorization: `Bearer ${token}` }),
    close: async () => {
      await server.close()
      access.close()
      store.close()
      await adminLog.close()
      rmSync(dir, { recursive: true })
    },
  }
}
