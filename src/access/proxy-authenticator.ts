import { createHmac, randomBytes } from 'node:crypto'
import type { Clock } from '../ports/index.js'
import { FailedAttempts, sourceOf } from './failed-attempts.js'
import { passwordMatches, readStoredPassword, type StoredPassword } from './password.js'

/** Hashes computed at the same time, and requests that wait for their turn: each costs tens of milliseconds. */
const AT_ONCE_MAX = 2
const WAITING_MAX = 64
/** Credentials that were found right, remembered by a keyed digest so that a client pays for its hash once. */
const REMEMBERED_MAX = 1_000
const HEADER_LENGTH_MAX = 2_048

/**
 * Checks `Proxy-Authorization: Basic` against hashed secrets. `check` gives the id that belongs to the credential, 407 when it
 * is missing or wrong, 429 when its source failed too often or too many wait. Secrets are never kept or logged.
 */
export function createProxyAuthenticator(
  credentials: readonly { name: string; secret: string; executionId: string }[],
  clock: Pick<Clock, 'now'>,
): { check(headers: readonly string[], source: string): Promise<string | 407 | 429> } {
  const known = new Map(
    credentials.map((one) => [one.name, { ...one, stored: readStoredPassword(one.secret) }]),
  )
  const failures = new FailedAttempts(clock)
  const key = randomBytes(32)
  const remembered = new Map<string, string>()
  const turns = new Turns()
  // A wrong name costs as much as a wrong secret, so that nobody can tell them apart.
  const decoy = [...known.values()][0]?.stored

  const verify = async (name: string, password: string): Promise<string | 407> => {
    const found = known.get(name)
    const stored: StoredPassword | string | undefined = found?.stored ?? decoy
    if (stored === undefined || typeof stored === 'string') return 407
    const matches = await passwordMatches(stored, password)
    return matches && found !== undefined ? found.executionId : 407
  }
  return {
    async check(headers, source) {
      const [header] = headers
      const credential = headers.length === 1 && header !== undefined ? readBasic(header) : undefined
      if (header === undefined || credential === undefined) return 407
      const digest = createHmac('sha256', key).update(header).digest('base64')
      const before = remembered.get(digest)
      if (before !== undefined) return before
      const from = sourceOf(source)
      if (failures.waitSeconds(from) > 0) return 429
      // Looked at again when it is its turn: those in line may have failed meanwhile.
      const answer = await turns.take(async () => {
        if (failures.waitSeconds(from) > 0) return 429
        const verdict = await verify(credential.name, credential.password)
        if (verdict === 407) failures.add(from)
        return verdict
      })
      if (typeof answer === 'string') {
        remembered.set(digest, answer)
        const oldest = remembered.keys().next().value
        if (remembered.size > REMEMBERED_MAX && oldest !== undefined) remembered.delete(oldest)
      }
      return answer
    },
  }
}

/** RFC 7617: `Basic` and base64 of `name:password`. */
function readBasic(header: string): { name: string; password: string } | undefined {
  const match = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header)
  if (match === null || header.length > HEADER_LENGTH_MAX) return undefined
  const text = Buffer.from(match[1] ?? '', 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon <= 0 ? undefined : { name: text.slice(0, colon), password: text.slice(colon + 1) }
}

/** Bounded work: a few at once, some in line, the others are sent away. */
class Turns {
  #running = 0
  readonly #line: (() => void)[] = []

  async take<Value>(work: () => Promise<Value>): Promise<Value | 429> {
    if (this.#running >= AT_ONCE_MAX) {
      if (this.#line.length >= WAITING_MAX) return 429
      await new Promise<void>((resolve) => this.#line.push(resolve))
    }
    this.#running++
    try {
      return await work()
    } finally {
      this.#running--
      this.#line.shift()?.()
    }
  }
}
