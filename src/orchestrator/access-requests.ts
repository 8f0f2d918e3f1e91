import { isWeirError, WeirError } from '../errors.js'
import { isFullId, newAccessRequestId, parseHostPatterns } from '../model/index.js'
import {
  ACCESS_REQUEST_STATES,
  type AccessAsker,
  type AccessDecision,
  type AccessRequest,
  type AccessRequestDesk,
  type Chance,
  type Clock,
} from '../ports/index.js'
import { clip } from './wording.js'

/** Hosts of one request. */
const PATTERNS_MAX = 100
const REASON_LENGTH_MAX = 1_000
/** Open requests that one principal began or joined. */
const OPEN_PER_PRINCIPAL = 20
const OPEN_MAX = 1_000
/** Requests that are kept, with those that were decided; the oldest of these go first. */
const KEPT_MAX = 2_000
const ASKERS_MAX = 100
const OPEN_MS = 30 * 24 * 3_600_000
const ENDED_KEPT_MS = 90 * 24 * 3_600_000

export interface AccessRequestParts {
  clock: Clock
  chance: Chance
  /** What was saved last; absent: nothing yet. */
  kept?: string | undefined
  /** Keeps the text as a whole. What it rejects with, the change is refused with. */
  save: (text: string) => Promise<void>
}

/** Throws `store.unavailable` when what was kept cannot be read: nobody decides on half of it. */
export function createAccessRequests(parts: AccessRequestParts): AccessRequestDesk {
  return new Requests(parts)
}

class Requests implements AccessRequestDesk {
  readonly #parts: AccessRequestParts
  /** Oldest first. */
  #all: readonly AccessRequest[]
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: AccessRequestParts) {
    this.#parts = parts
    this.#all = parts.kept === undefined ? [] : readKept(parts.kept)
  }

  ask(
    patterns: readonly string[],
    asker: Omit<AccessAsker, 'timeMs'>,
    carryOut: (keep: () => Promise<void>) => Promise<void>,
  ): Promise<{ request: AccessRequest; isNew: boolean }> {
    return this.#inTurn(async () => {
      const { clock, chance } = this.#parts
      const wanted = readPatterns(patterns)
      const reason = readReason(asker.reason)
      const now = clock.now()
      const who: AccessAsker = { ...asker, reason, timeMs: now }
      const open = this.#current().filter(({ state }) => state === 'open')
      const same = open.find((one) => isSame(one.patterns, wanted))
      if (same?.askers.some(({ principal }) => principal === asker.principal))
        return { request: same, isNew: false }
      checkRoom(open, asker.principal, same)
      if (same !== undefined) {
        const joined = { ...same, askers: [...same.askers, who] }
        await carryOut(() => this.#replace(joined))
        return { request: joined, isNew: false }
      }
      const request: AccessRequest = {
        id: newAccessRequestId(chance),
        patterns: wanted,
        state: 'open',
        createTimeMs: now,
        expireTimeMs: now + OPEN_MS,
        askers: [who],
      }
      await carryOut(() => this.#store([...this.#current(), request]))
      return { request, isNew: true }
    })
  }

  list(): AccessRequest[] {
    return this.#current().toReversed()
  }

  find(idOrPrefix: string, isVisible: (request: AccessRequest) => boolean): AccessRequest {
    const found = this.#current().filter(
      (one) =>
        isVisible(one) && (isFullId(idOrPrefix) ? one.id === idOrPrefix : one.id.startsWith(idOrPrefix)),
    )
    const [request] = found
    if (request !== undefined && found.length === 1 && idOrPrefix !== '') return request
    const shown = JSON.stringify(clip(idOrPrefix, 80))
    if (found.length > 1 && idOrPrefix !== '')
      throw new WeirError(
        'request.not_found',
        `Cannot tell which request ${shown} means: ${found.length} ids begin so`,
        {
          hint: 'Use more characters of the id, or all of it.',
        },
      )
    throw new WeirError('request.not_found', `Cannot find request ${shown}`, {
      hint: 'List the requests with "weir network requests".',
    })
  }

  decide(
    id: string,
    { state, reason: text }: { state: 'approved' | 'denied'; reason: string },
    carryOut: () => Promise<Omit<AccessDecision, 'timeMs' | 'reason'>>,
  ): Promise<AccessRequest> {
    return this.#inTurn(async () => {
      const request = this.find(id, () => true)
      if (request.state !== 'open')
        throw new WeirError(
          'request.decided',
          `Cannot decide on request ${request.id}: it is ${request.state}`,
          {
            hint: 'Who still needs the hosts asks again with "weir network request".',
            details: { state: request.state },
          },
        )
      const reason = readDecisionReason(state, text)
      const decision = await carryOut()
      const decided: AccessRequest = {
        ...request,
        state,
        decision: {
          ...decision,
          reason,
          timeMs: this.#parts.clock.now(),
        },
      }
      await this.#replace(decided)
      return decided
    })
  }

  /** As of now: what is open too long has expired, what ended long ago is forgotten. */
  #current(): AccessRequest[] {
    const now = this.#parts.clock.now()
    return this.#all
      .map((one) =>
        one.state === 'open' && one.expireTimeMs <= now ? { ...one, state: 'expired' as const } : one,
      )
      .filter(
        (one) => one.state === 'open' || (one.decision?.timeMs ?? one.expireTimeMs) + ENDED_KEPT_MS > now,
      )
  }

  async #replace(changed: AccessRequest): Promise<void> {
    await this.#store(this.#current().map((one) => (one.id === changed.id ? changed : one)))
  }

  /** Kept first: what cannot be kept has not happened. */
  async #store(all: readonly AccessRequest[]): Promise<void> {
    const ended = all.filter(({ state }) => state !== 'open').length
    let surplus = Math.min(ended, Math.max(0, all.length - KEPT_MAX))
    const kept = all.filter(({ state }) => state === 'open' || surplus-- <= 0)
    try {
      await this.#parts.save(`${JSON.stringify({ requests: kept })}\n`)
    } catch (error) {
      throw new WeirError(
        'store.unavailable',
        `Cannot keep requests for access: ${(error as Error).message}`,
        {
          retryable: true,
          cause: error,
        },
      )
    }
    this.#all = kept
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const next = this.#turn.then(work, work)
    this.#turn = next.catch(() => {
      // Told to whoever asked; the next one has its own fate.
    })
    return next
  }
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, index) => text === b[index])
}

/** Public hosts only: what is private or a public suffix only the operator of a node can let in, in his own configuration. */
function readPatterns(texts: readonly string[]): string[] {
  const patterns = parseHostPatterns(texts).map(({ text }) => text)
  if (patterns.length > 0 && patterns.length <= PATTERNS_MAX) return patterns.toSorted()
  throw new WeirError('request.invalid', `Cannot ask for ${patterns.length} hosts at once`, {
    hint: `Name 1 to ${PATTERNS_MAX}; ".example.com" means a name and everything below it.`,
  })
}

function readReason(text: string): string {
  const reason = boundedReason(text)
  if (reason !== '') return reason
  throw new WeirError('request.invalid', 'Cannot ask for hosts without a reason', {
    hint: 'Say what the job does with them: --reason "data sets of project X".',
  })
}

function readDecisionReason(state: 'approved' | 'denied', text: string): string {
  const reason = boundedReason(text)
  if (reason !== '' || state === 'approved') return reason
  throw new WeirError('request.invalid', 'Cannot deny a request without a reason', {
    hint: 'The reason is what the user is told: --reason TEXT.',
  })
}

/** Kept whole or refused: half a reason may say something else. */
function boundedReason(text: string): string {
  const reason = text.trim()
  if (reason.length <= REASON_LENGTH_MAX) return reason
  throw new WeirError(
    'request.invalid',
    `Cannot take a reason of ${reason.length} characters, at most ${REASON_LENGTH_MAX} are allowed`,
    { hint: 'Say it shorter (--reason TEXT), or where the rest can be read.' },
  )
}

function checkRoom(
  open: readonly AccessRequest[],
  principal: string,
  joined: AccessRequest | undefined,
): void {
  const own = open.filter(({ askers }) => askers.some((asker) => asker.principal === principal)).length
  const problem =
    own >= OPEN_PER_PRINCIPAL
      ? `${own} of this user are open`
      : joined === undefined && open.length >= OPEN_MAX
        ? `${open.length} are open`
        : joined !== undefined && joined.askers.length >= ASKERS_MAX
          ? `${joined.askers.length} users ask for the same already`
          : undefined
  if (problem === undefined) return
  throw new WeirError('request.too_many', `Cannot take another request for access: ${problem}`, {
    hint: 'Wait until operators have decided; "weir network requests" shows how yours stand.',
  })
}

function readKept(text: string): AccessRequest[] {
  try {
    const { requests } = JSON.parse(text) as { requests?: unknown }
    if (Array.isArray(requests)) return requests.map(readRequest)
  } catch (error) {
    if (isWeirError(error, 'store.unavailable')) throw error
  }
  throw damaged()
}

function readRequest(value: unknown): AccessRequest {
  const request = value as AccessRequest
  const isText = (one: unknown): boolean => typeof one === 'string'
  const isWhole =
    typeof request === 'object' &&
    request !== null &&
    isText(request.id) &&
    ACCESS_REQUEST_STATES.includes(request.state) &&
    Number.isFinite(request.createTimeMs) &&
    Number.isFinite(request.expireTimeMs) &&
    Array.isArray(request.patterns) &&
    request.patterns.every(isText) &&
    Array.isArray(request.askers) &&
    request.askers.length > 0 &&
    request.askers.every((one) => isText(one?.principal) && isText(one.principalName) && isText(one.reason))
  if (!isWhole) throw damaged()
  return { ...request, patterns: readPatterns(request.patterns) }
}

function damaged(): WeirError {
  return new WeirError('store.unavailable', 'Cannot read the kept requests for access: the file is damaged', {
    hint: 'Restore orchestrator/egress-requests.json in the data directory, or move it away to begin without requests.',
  })
}
