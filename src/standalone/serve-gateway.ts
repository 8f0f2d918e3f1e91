import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { toWeirError, WeirError } from '../errors.js'
import { type GatewayClient, startGateway } from '../egress/index.js'
import { PatternMemo } from '../model/pattern-memo.js'
import { isSameJson } from '../model/same-json.js'
import type { EgressLease, GatewayAttachment } from '../ports/index.js'
import { createAuditFile } from '../stores/index.js'
import { watchFile } from '../watch-file.js'
import {
  type EgressPolicy,
  EVERYBODY,
  limitsOf,
  NOBODY,
  parsePolicy,
  type PolicyIdentity,
  type PolicyListener,
  readListenAddress,
  readPolicyFile,
} from './policy-file.js'
import { exampleUrl } from './example-url.js'
import { NO_BOUND } from './no-bound.js'

export interface ServeOptions {
  /** Followed while the gateway runs: a change is in force within 100 ms, a bad file changes nothing. */
  policyFile?: string
  /** Canonical host patterns beside the file's `allow`. */
  allow: readonly string[]
  /** `127.0.0.1:3128`, beside the file's listeners. */
  listen: readonly string[]
  auditDir: string
  /** Listen beyond this machine although nobody is asked for a credential. Default false. */
  insecure?: boolean
  /** Told when the file changed, when it cannot be used, and when the gateway died. */
  onNote?: (note: string) => void
}

export interface ServedListener {
  /** What clients write: `http://127.0.0.1:3128`. */
  proxyUrl: string
  /** Who everybody is that connects here; empty: clients are asked for a credential. */
  identity: string
  /** A URL that they may ask for, some client with a credential; undefined: nobody may ask for anything there. */
  exampleUrl: string | undefined
}

export interface ServedGateway {
  readonly listeners: readonly ServedListener[]
  /** Stops listening; what is under way may go on for so long. Idempotent. */
  close(graceMs: number): Promise<void>
}

/**
 * Runs the gateway alone, as a forward proxy. Rejects with `config.invalid` (the file), `cli.usage` (no listener, or one
 * beyond this machine without credentials), `egress.unavailable` (an address is taken).
 */
export async function serveGateway(options: ServeOptions): Promise<ServedGateway> {
  const memo = new PatternMemo()
  const policy = await readPolicy(options, memo)
  const wanted = [...policy.listeners, ...options.listen.map((address) => ({ address, identity: '' }))]
  checkListeners(wanted, policy, options.insecure === true)
  const gateway = await startGateway({
    nodeId: 'gateway',
    auditDir: options.auditDir,
    auditBytesMax: AUDIT_BYTES_MAX,
    auditTurnOver: { [NOBODY]: NOBODY_BYTES },
    audit: createAuditFile({ dir: options.auditDir, bytesMax: AUDIT_BYTES_MAX }),
    hosts: policy.hosts,
    dnsServers: policy.dnsServers,
    limits: NO_BOUND,
    onTrouble: ({ message }) => options.onNote?.(message),
  })
  const stop = new AbortController()
  try {
    const served = new Serving(gateway, wanted)
    await served.put(policy)
    const { policyFile } = options
    if (policyFile !== undefined)
      void watchFile(
        policyFile,
        () => reload(served, () => readPolicy(options, memo), options, stop.signal),
        stop.signal,
      )
    let closed: Promise<void> | undefined
    return {
      listeners: served.listeners,
      close: (graceMs) => {
        stop.abort()
        closed ??= stopServing(gateway, graceMs)
        return closed
      },
    }
  } catch (error) {
    stop.abort()
    await gateway.close()
    throw error
  }
}

async function stopServing(gateway: GatewayClient, graceMs: number): Promise<void> {
  try {
    await gateway.drain(graceMs)
  } finally {
    await gateway.close()
  }
}

/** Records of one identity; then nothing of it leaves any more, until the file is moved away. */
const AUDIT_BYTES_MAX = 4 * 1024 * 1024 * 1024

/** Anybody who reaches the listener makes records of nobody: of them only the newest are kept, in two files of this length. */
const NOBODY_BYTES = 16 * 1024 * 1024

async function readPolicy({ policyFile, allow }: ServeOptions, memo: PatternMemo): Promise<EgressPolicy> {
  const policy = policyFile === undefined ? parsePolicy('') : await readPolicyFile(policyFile, memo)
  return { ...policy, allow: [...new Set([...policy.allow, ...allow])] }
}

function checkListeners(listeners: readonly PolicyListener[], policy: EgressPolicy, insecure: boolean): void {
  if (listeners.length === 0)
    throw new WeirError('cli.usage', 'Cannot start a gateway that listens nowhere', {
      hint: 'Say where: --listen 127.0.0.1:3128, or listeners in the policy file',
    })
  const open = listeners.filter(({ address, identity }) => {
    const { host } = readListenAddress(address)
    const isLoopback = isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
    return !isLoopback && !asksForCredentials(identity, policy)
  })
  if (open.length > 0 && !insecure)
    throw new WeirError(
      'cli.usage',
      `Cannot listen on ${open.map(({ address }) => address).join(', ')} without credentials: anybody could use it`,
      { hint: 'Give identities a secret in the policy file, listen on 127.0.0.1, or say --insecure' },
    )
}

function asksForCredentials(identity: string, { identities }: EgressPolicy): boolean {
  return identity === '' && identities.some(({ secret }) => secret !== '')
}

/**
 * What could not be put in force for the moment, since the gateway process was down, is tried again until it is: the file may
 * take something away.
 */
async function reload(
  served: Serving,
  read: () => Promise<EgressPolicy>,
  options: ServeOptions,
  signal: AbortSignal,
): Promise<void> {
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    try {
      await served.put(await read())
      options.onNote?.('The policy was read again and is in force')
      return
    } catch (error) {
      const { message, retryable } = toWeirError(error)
      if (!retryable) {
        options.onNote?.(`${message}; the old policy stays in force`)
        return
      }
      if (isFirst) options.onNote?.(`${message}; the policy is put in force as soon as that can be`)
    }
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined)
  }
}

const RETRY_MS = 100

interface ServedDoor {
  attachment: GatewayAttachment
  identity: string
}

/** Leases by identity, and listeners that lead to them. */
class Serving {
  readonly listeners: ServedListener[] = []
  readonly #gateway: GatewayClient
  readonly #wanted: readonly PolicyListener[]
  readonly #leases = new Map<string, { lease: EgressLease; identity: PolicyIdentity }>()
  readonly #doors: ServedDoor[] = []
  #first: EgressPolicy | undefined

  constructor(gateway: GatewayClient, wanted: readonly PolicyListener[]) {
    this.#gateway = gateway
    this.#wanted = wanted
  }

  /** Puts a policy in force: what it takes away first. Rejects and changes nothing where only a new start would do. */
  async put(policy: EgressPolicy): Promise<void> {
    this.#checkFixed(policy)
    const identities = [...policy.identities, everybody(policy), nobody()]
    const allow = [...new Set(identities.flatMap((identity) => identity.allow))]
    const { deny, privateExceptions } = policy
    const replaced = identities.filter((next) => {
      const known = this.#leases.get(next.name)?.identity
      return known !== undefined && isSameButForList(known, next) && !isSameJson(known.allow, next.allow)
    })
    const lists = new Map(replaced.map((identity) => [identity.name, identity.allow]))
    await this.#gateway.setRules({ allow, deny, privateExceptions, self: [] }, lists)
    for (const [name, { lease, identity }] of this.#leases) {
      const next = identities.find((one) => one.name === name)
      if (next !== undefined && isSameButForList(identity, next)) continue
      await lease.close()
      this.#leases.delete(name)
    }
    for (const identity of identities) await this.#lease(identity)
    if (this.#first === undefined) await this.#listen()
    for (const door of this.#doors) await this.#serve(door, policy)
    this.#first ??= policy
  }

  async #lease(identity: PolicyIdentity): Promise<void> {
    const known = this.#leases.get(identity.name)
    if (known !== undefined) {
      // Its list came into force with the rules.
      known.identity = identity
      return
    }
    const attachment = await this.#gateway.attachNothing()
    const who = { jobId: 'gateway', executionId: identity.name }
    const policy = { mode: 'http' as const, allow: identity.allow, limits: limitsOf(identity.limits) }
    this.#leases.set(identity.name, { lease: await this.#gateway.open(who, policy, attachment), identity })
  }

  async #listen(): Promise<void> {
    for (const { address, identity } of this.#wanted) {
      const { host, port } = readListenAddress(address)
      this.#doors.push({ attachment: await this.#gateway.attachAddress(host, port), identity })
    }
  }

  async #serve({ attachment, identity }: ServedDoor, policy: EgressPolicy): Promise<void> {
    const asks = asksForCredentials(identity, policy)
    const known = policy.identities.filter(({ secret }) => secret !== '')
    const credentials = known.map(({ name, secret }) => ({ name, secret, executionId: name }))
    const executionId = identity === '' ? (asks ? NOBODY : EVERYBODY) : identity
    await this.#gateway.serve(attachment, asks ? { executionId, credentials } : { executionId })
    if (this.#first !== undefined) return
    const clients = asks
      ? known
      : [...policy.identities, everybody(policy)].filter(({ name }) => name === executionId)
    this.listeners.push({
      proxyUrl: attachment.proxyUrl,
      identity: asks ? '' : executionId,
      exampleUrl: exampleUrl(
        clients.flatMap(({ allow }) => allow),
        policy.deny,
      ),
    })
  }

  #checkFixed(policy: EgressPolicy): void {
    if (this.#first === undefined) return
    const fixed = (['hosts', 'dnsServers', 'listeners'] as const).filter(
      (key) => JSON.stringify(policy[key]) !== JSON.stringify(this.#first?.[key]),
    )
    const opened = this.#wanted.filter(
      ({ identity }) =>
        asksForCredentials(identity, this.#first as EgressPolicy) && !asksForCredentials(identity, policy),
    )
    if (opened.length > 0 && !fixed.includes('listeners')) fixed.push('listeners')
    if (fixed.length > 0)
      throw new WeirError('config.invalid', `Cannot change ${fixed.join(', ')} while the gateway runs`, {
        hint: 'Start it again',
      })
  }
}

function everybody({ allow, limits }: EgressPolicy): PolicyIdentity {
  return { name: EVERYBODY, secret: '', allow, limits }
}

function nobody(): PolicyIdentity {
  return { name: NOBODY, secret: '', allow: [], limits: { rate: '', budget: '', connections: 0 } }
}

/** Another secret or other bounds begin a new lease: what is under way ends. */
function isSameButForList(a: PolicyIdentity, b: PolicyIdentity): boolean {
  return a.secret === b.secret && JSON.stringify(a.limits) === JSON.stringify(b.limits)
}
