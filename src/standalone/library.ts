/**
 * `weir/egress`: the egress gateway for other programs. Everything else of the package is private.
 */
import { randomUUID } from 'node:crypto'
import { type GatewayClient, startGateway } from '../egress/index.js'
import { WeirError } from '../errors.js'
import type { AuditRecord, EgressLimits, EgressSummary } from '../model/index.js'
import { parseHostPattern } from '../model/host-pattern.js'
import type { AuditLog, EgressLease, GatewayAttachment } from '../ports/index.js'
import { createAuditFile } from '../stores/index.js'
import { composeGateway } from './compose-gateway.js'
import { NO_BOUND } from './no-bound.js'

export { WeirError }
export type { AuditRecord, EgressLimits, EgressSummary }

export interface EgressGatewayOptions {
  /** Directory of the records: one file of JSON lines per grant, each line with the hash of the one before. */
  auditDir: string
  /** `process` (default): a process of its own, started again when it dies. `here`: in this one. */
  runs?: 'process' | 'here'
  /** Host patterns that win over every grant. Absent: none. */
  deny?: readonly string[]
  /** Exact hosts with their port that may have an address that is not public: `data.test:8080`. Absent: none. */
  privateExceptions?: readonly string[]
  /** Names that are not looked up → their addresses. */
  hosts?: Readonly<Record<string, readonly string[]>>
  /** `address` or `address:port`. Absent or empty: those of the machine. */
  dnsServers?: readonly string[]
  /** Told when the gateway process died: until it runs again nothing leaves. */
  onTrouble?: (error: WeirError) => void
}

/** What one client may do. */
export interface Grant {
  /** Host patterns. Empty: nothing leaves, and every attempt is on record. */
  allow: readonly string[]
  /** Bounds. Absent: none but the gateway's own (4,096 connections). */
  limits?: Partial<EgressLimits>
  /** Name in records, and of their file: letters, digits, `-` and `_`. Absent: a random one. */
  name?: string
}

/** Where a grant is served. Whoever connects there has it. */
export type ListenPlace =
  | { host: string; port: number }
  /** 127.0.0.1:3128 inside a network namespace; `usernsPath` is its owner, where this user made it. */
  | { netnsPath: string; usernsPath?: string }

/** An open grant. */
export interface GrantedListener {
  readonly name: string
  /** `http://127.0.0.1:41234`. */
  readonly proxyUrl: string
  /** Environment that makes programs use it: all six proxy variables, `no_proxy`, `NODE_USE_ENV_PROXY`. */
  readonly env: Readonly<Record<string, string>>
  /** Puts another list in force at once; what it forbids is cut. Rejects with `pattern.invalid`. */
  replaceAllow(allow: readonly string[]): Promise<void>
  /** Attempts, bytes and refusals per destination, until now. */
  summary(): Promise<EgressSummary>
  /** Records with `sequence > after` (default 0), at most `limit` (default 1,000), oldest first. */
  records(options?: { after?: number; limit?: number }): Promise<AuditRecord[]>
  /** Cuts every connection and closes the listener; resolves with the final summary. Idempotent. */
  close(): Promise<EgressSummary>
}

export interface EgressGateway {
  /**
   * Listens for one client; default place: 127.0.0.1 and a free port. Rejects with `pattern.invalid` or
   * `egress.unavailable` (the address is taken, the namespace cannot be entered, the name is in use).
   */
  grant(grant: Grant, place?: ListenPlace): Promise<GrantedListener>
  /** Closes every grant, and ends the process. Idempotent. */
  close(): Promise<void>
}

/** Starts a gateway that lets nothing out until somebody is granted something. Rejects with `egress.unavailable`. */
export async function openEgressGateway(options: EgressGatewayOptions): Promise<EgressGateway> {
  const { auditDir, runs, hosts, dnsServers, onTrouble } = options
  const audit = createAuditFile({ dir: auditDir })
  const client = await startGateway({
    nodeId: 'library',
    auditDir,
    audit,
    limits: NO_BOUND,
    dnsServers: [...(dnsServers ?? [])],
    hosts: Object.fromEntries(Object.entries(hosts ?? {}).map(([name, list]) => [name, [...list]])),
    ...(runs === 'here' ? { inProcess: composeGateway } : {}),
    ...(onTrouble === undefined ? {} : { onTrouble }),
  })
  const rules = {
    deny: canonical(options.deny ?? [], true),
    privateExceptions: canonical(options.privateExceptions ?? [], true),
  }
  return new OpenGateway(client, audit, rules)
}

class OpenGateway implements EgressGateway {
  readonly #client: GatewayClient
  readonly #audit: AuditLog
  readonly #rules: { deny: string[]; privateExceptions: string[] }
  /** What each open grant allows. */
  readonly #allowed = new Map<string, string[]>()

  constructor(
    client: GatewayClient,
    audit: AuditLog,
    rules: { deny: string[]; privateExceptions: string[] },
  ) {
    this.#client = client
    this.#audit = audit
    this.#rules = rules
  }

  async grant(
    { allow, limits, name = `grant-${randomUUID()}` }: Grant,
    place?: ListenPlace,
  ): Promise<GrantedListener> {
    if (!/^[A-Za-z0-9_-]{1,128}$/.test(name) || this.#allowed.has(name))
      throw new WeirError(
        'egress.unavailable',
        `Cannot grant anything as "${name}": ${this.#allowed.has(name) ? 'the name is in use' : 'it is not a name'}`,
        {
          hint: 'Use letters, digits, - and _',
        },
      )
    const patterns = canonical(allow)
    this.#allowed.set(name, patterns)
    let attachment: GatewayAttachment | undefined
    try {
      await this.#publish()
      attachment = await this.#attach(place ?? { host: '127.0.0.1', port: 0 })
      const policy = { mode: 'http' as const, allow: patterns, ...(limits === undefined ? {} : { limits }) }
      const lease = await this.#client.open({ jobId: 'library', executionId: name }, policy, attachment)
      return this.#listener(name, lease)
    } catch (error) {
      if (attachment !== undefined) await this.#client.detach(attachment)
      await this.#forget(name)
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#client.close()
  }

  #listener(name: string, lease: EgressLease): GrantedListener {
    let closed: Promise<EgressSummary> | undefined
    return {
      name,
      proxyUrl: lease.proxyUrl,
      env: lease.env,
      replaceAllow: async (allow) => {
        const patterns = canonical(allow)
        this.#allowed.set(name, patterns)
        await this.#publish()
        await this.#client.replaceAllow(name, patterns)
      },
      summary: () => closed ?? lease.summary(),
      records: ({ after = 0, limit = 1_000 } = {}) => this.#audit.read(name, after, limit),
      close: () => {
        closed ??= this.#closeLease(name, lease)
        return closed
      },
    }
  }

  async #closeLease(name: string, lease: EgressLease): Promise<EgressSummary> {
    try {
      return await lease.close()
    } finally {
      await this.#forget(name)
    }
  }

  async #attach(place: ListenPlace): Promise<GatewayAttachment> {
    return 'netnsPath' in place
      ? await this.#client.attach(place.netnsPath, place.usernsPath)
      : await this.#client.attachAddress(place.host, place.port)
  }

  async #forget(name: string): Promise<void> {
    this.#allowed.delete(name)
    await this.#publish().catch(() => {
      // A gateway that is going down allows nothing any more.
    })
  }

  /** The gateway as a whole allows what any grant does; each grant allows its own. */
  async #publish(): Promise<void> {
    const allow = [...new Set([...this.#allowed.values()].flat())]
    await this.#client.setNodePolicy({ ...this.#rules, allow, self: [] })
  }
}

/** Throws `pattern.invalid`. */
function canonical(patterns: readonly string[], isOperators = false): string[] {
  const options = isOperators ? { allowPublicSuffix: true, allowPrivate: true } : {}
  return patterns.map((pattern) => parseHostPattern(pattern, options).text)
}
