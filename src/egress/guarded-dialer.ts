import type { Socket } from 'node:net'
import { WeirError } from '../errors.js'
import { HostPatternSet, isSpecialUseName, PatternMemo, readHost } from '../model/index.js'
import type { GuardedDialer, NodeEgressPolicy } from '../ports/index.js'
import type { Resolve } from './dns/resolver.js'
import { ownInterfaceAddresses } from './own-addresses.js'
import { decideAddresses, denial, type EgressRequest, isSelf } from './policy/decide.js'
import { compileNodeRules, type EgressRules } from './policy/egress-policy.js'
import { type Dial, dialFirst, dialTcp } from './serve/dial.js'

export interface GuardedDialerOptions {
  resolve: Resolve
  policy: NodeEgressPolicy
  /** How to connect to a judged address. Default: really. */
  dial?: Dial
  /** Addresses of this machine. Default: those of its interfaces. */
  ownAddresses?: () => ReadonlySet<string>
  /** All attempts to connect together. Default 10 s. */
  timeoutMs?: number
}

/** A dialler whose rules can be replaced while it is in use. */
export interface ReplaceableGuardedDialer extends GuardedDialer {
  /** Rejects with `pattern.invalid`; then the old rules stay. */
  setNodePolicy(policy: NodeEgressPolicy): void
}

/**
 * The address guard for what the node fetches itself. The same lookup and the same judgement as the gateway's: self
 * first, the operator's deny list, every address public or excepted; no allowlist.
 */
export function createGuardedDialer(options: GuardedDialerOptions): ReplaceableGuardedDialer {
  let generation = 1
  const memo = new PatternMemo()
  let node = compileNodeRules(options.policy, generation, memo)
  const ownAddresses = options.ownAddresses ?? ownInterfaceAddresses()
  const nobody = new HostPatternSet([])
  return {
    setNodePolicy(policy) {
      node = compileNodeRules(policy, ++generation, memo)
    },
    dial: (host, port, signal) => {
      const rules: EgressRules = { mode: 'http', job: nobody, node, ownAddresses: ownAddresses() }
      return guardedDial(options, rules, host, port, signal)
    },
  }
}

async function guardedDial(
  options: GuardedDialerOptions,
  rules: EgressRules,
  text: string,
  port: number,
  signal: AbortSignal,
): Promise<Socket> {
  const bracketed = text.includes(':') && !text.startsWith('[') ? `[${text}]` : text
  const reading = readHost(bracketed)
  if (!reading.ok)
    throw new WeirError('host.invalid', `Cannot use host ${JSON.stringify(text)}: ${reading.reason}`)
  const { host } = reading
  const request: EgressRequest = { kind: 'connect', host, port }
  if (isSelf(host, rules)) throw refused('egress.self', host.text, 'it belongs to the network itself')
  const excepted = rules.node.privateExceptions.match(host.text, port) !== undefined
  if (host.kind === 'name' && isSpecialUseName(host.text) && !excepted)
    throw refused('egress.private_address', host.text, 'it is not on the public internet')
  if (denial(host.text, port, rules) !== undefined)
    throw refused('egress.denied_by_operator', host.text, 'the node or the network denies it')
  const found =
    host.kind === 'address'
      ? { addresses: [host.address], aliases: [] }
      : await options.resolve(host.text, signal)
  const decision = decideAddresses(request, found, rules)
  if (!decision.allowed) throw refused(decision.code, host.text, REASONS[decision.code] ?? 'it is refused')
  const dialled = await dialFirst(
    options.dial ?? dialTcp,
    found.addresses,
    port,
    options.timeoutMs ?? 10_000,
    signal,
  )
  return dialled.socket
}

const REASONS: Readonly<Record<string, string>> = {
  'egress.self': 'it resolves to an address of the network itself',
  'egress.private_address': 'it resolves to an address that is not public',
  'egress.denied_by_operator': 'the node or the network denies it',
}

function refused(code: WeirError['code'], host: string, reason: string): WeirError {
  return new WeirError(code, `Cannot connect to "${host}": ${reason}`)
}
