import { SPECIAL_ADDRESS_BLOCKS } from '../../model/index.js'
import type { RuleAddress } from './rule-address.js'

export interface FullRules {
  /** Reachable although special: TCP and UDP, exactly this port. */
  exceptions: RuleAddress[]
  /** Unreachable although public. */
  self: RuleAddress[]
}

/**
 * The packet rules of the host for one bridge, as one nft transaction: they replace the table's former content or
 * nothing happens. They are ours alone and stand before the engine's and the operator's, at the first hook a packet
 * meets (before any address translation) and again where it is forwarded (after it):
 *
 *     job → bridge → prerouting guard → host itself:  input drops all but exceptions
 *                                     → elsewhere:    forward guard → masquerade → internet
 *     anywhere → job: only answers
 *
 * A drop in any table is final, so no other rule set can weaken this; an accept here opens nothing elsewhere.
 */
export function hostRules(input: { table: string; bridge: string; subnet: string } & FullRules): string {
  const { table, bridge, subnet, exceptions, self } = input
  const listed = exceptions.flatMap((entry) => [
    `    ${matching(entry, 'ip daddr')} accept`,
    // A port that the host's own rules send on (for example one that a container publishes) has its old address here.
    ...['tcp', 'udp'].map(
      (protocol) =>
        `    meta l4proto ${protocol} ct original ip daddr ${entry.address} ct original proto-dst ${entry.port} accept`,
    ),
  ])
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
  set special {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${specialIpv4Blocks().join(', ')} }
  }
  chain guard {
    meta nfproto != ipv4 drop
    ip saddr != ${subnet} drop
${exceptions.map((entry) => `    ${matching(entry, 'ip daddr')} return`).join('\n')}
    fib daddr type != unicast drop
    ip daddr @special drop
${self.map((entry) => `    ${matching(entry, 'ip daddr')} drop`).join('\n')}
  }
  chain prerouting {
    type filter hook prerouting priority -310; policy accept;
    iifname "${bridge}" jump guard
  }
  chain input {
    type filter hook input priority -10; policy accept;
    iifname != "${bridge}" accept
${listed.join('\n')}
    drop
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    oifname "${bridge}" ct state established,related accept
    oifname "${bridge}" drop
    iifname != "${bridge}" accept
${listed.join('\n')}
    jump guard
  }
  chain output {
    type filter hook output priority -10; policy accept;
    oifname "${bridge}" ct state new drop
  }
  chain postrouting {
    type nat hook postrouting priority 99; policy accept;
    ip saddr ${subnet} oifname != "${bridge}" masquerade
  }
}
`
}

/**
 * The packet rules inside a job's own namespace. The job has no NET_ADMIN, so it cannot change them, and whatever
 * happens to the rules of the host (a flush, a reload of a firewall) does not touch them. Everything that is not said
 * is dropped: IPv6, forged senders, whoever comes from outside.
 */
export function jobRules(input: { address: string; hostAddresses: readonly string[] } & FullRules): string {
  const { address, exceptions, self, hostAddresses } = input
  const refused = [...self, ...hostAddresses.map((host) => ({ address: host, port: 0 }))]
  return `table inet weir
delete table inet weir
table inet weir {
  set special {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${specialIpv4Blocks().join(', ')} }
  }
  chain output {
    type filter hook output priority -310; policy drop;
    oifname "lo" accept
    meta nfproto != ipv4 drop
    ip saddr != ${address} drop
${exceptions.map((entry) => `    ${matching(entry, 'ip daddr')} accept`).join('\n')}
    ip daddr @special drop
${refused.map((entry) => `    ${matching(entry, 'ip daddr')} drop`).join('\n')}
    accept
  }
  chain input {
    type filter hook input priority -10; policy drop;
    iifname "lo" accept
    meta nfproto ipv4 ct state established,related accept
  }
  chain forward {
    type filter hook forward priority -10; policy drop;
  }
}
`
}

/** The blocks of the registries that are not the public internet. */
export function specialIpv4Blocks(): string[] {
  return SPECIAL_ADDRESS_BLOCKS.map(({ cidr }) => cidr).filter((cidr) => !cidr.includes(':'))
}

function matching({ address, port }: RuleAddress, field: string): string {
  return port === 0 ? `${field} ${address}` : `${field} ${address} meta l4proto { tcp, udp } th dport ${port}`
}
