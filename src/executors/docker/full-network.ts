import type Docker from 'dockerode'
import { readFileSync, readdirSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { WeirError, toWeirError } from '../../errors.js'
import { isPublicAddress, parseIpAddress } from '../../model/index.js'
import type { NodeId } from '../../model/index.js'
import { engineMessage, engineStatus } from './engine-connection.js'
import { hostRules, jobRules, specialIpv4Blocks } from './full-rules.js'
import type { FullRules } from './full-rules.js'
import { runHostCommand } from './host-command.js'
import { nodeHash, ownLabels } from './labels.js'
import type { FullNetworkOptions } from './options.js'
import { ruleAddresses } from './rule-address.js'

/** A job's place in the network: its only interface beside loopback. */
export interface FullPort {
  address: string
  /** Host end of the cable; it disappears with the namespace. */
  interfaceName: string
  release(): void
}

/**
 * The internet for jobs of mode `full`: one bridge per node, one cable per job.
 *
 *     job's namespace ──veth──▶ bridge (ports isolated from each other) ──▶ host: guarded, masqueraded ──▶ internet
 *
 * The bridge is a network of the engine, because the engine then keeps its own firewall open for it; no container is
 * ever attached to it by the engine. We plug the cable into a holder's namespace ourselves, which takes milliseconds.
 * A job cannot reach anything but public addresses, for three reasons that do not depend on each other: routes and
 * packet rules inside its namespace, which it has no right to change; the rules of the host at the bridge; ports that
 * the kernel isolates from each other. IPv6 is off.
 */
export class FullNetwork {
  readonly table: string
  readonly bridge: string
  readonly #docker: Docker
  readonly #nodeId: NodeId
  readonly #options: FullNetworkOptions
  #rules: FullRules = { exceptions: [], self: [] }
  readonly #dnsServers: readonly string[]
  readonly #inUse = new Set<string>()
  #plan: { subnet: string; gateway: string; network: number; hosts: number } | undefined

  /** Throws `config.invalid` for name servers that cannot be read. */
  constructor(docker: Docker, nodeId: NodeId, options: FullNetworkOptions) {
    const hash = nodeHash(nodeId)
    this.table = `weir_${hash}`
    this.bridge = `weir-${hash}`
    this.#docker = docker
    this.#nodeId = nodeId
    this.#options = options
    this.#dnsServers = chooseDnsServers(options.dnsServers ?? [])
  }

  get dnsServers(): readonly string[] {
    return this.#dnsServers
  }

  /** Addresses of the jobs that run now; none may reach another. */
  get addressesInUse(): string[] {
    return [...this.#inUse]
  }

  /** Rejects with `engine.unavailable` when this machine cannot guard such a network. Idempotent. */
  async open(): Promise<void> {
    if (process.getuid?.() !== 0) throw notRoot()
    try {
      const { exceptions = [], self = [] } = this.#options
      this.#rules = {
        exceptions: await ruleAddresses(exceptions, { portRequired: true }),
        self: await ruleAddresses(self, { portRequired: false }),
      }
      const { subnet, gateway } = await this.#ensureBridge()
      const [base = '', bits = ''] = subnet.split('/')
      this.#plan = { subnet, gateway, network: toNumber(base), hosts: 2 ** (32 - Number(bits)) }
      await this.applyRules()
    } catch (error) {
      throw toWeirError(error, 'engine.unavailable', 'Cannot make the full network')
    }
  }

  /** Puts the host's rules in place, in one transaction. */
  async applyRules(): Promise<void> {
    const { subnet } = this.#opened()
    await runHostCommand('nft', ['-f', '-'], {
      stdin: hostRules({ table: this.table, bridge: this.bridge, subnet, ...this.#rules }),
    })
  }

  /** False when somebody removed or emptied the host's rules, or the bridge is gone. */
  async rulesIntact(): Promise<boolean> {
    try {
      const listed = await runHostCommand('nft', ['-j', 'list', 'table', 'inet', this.table])
      const { nftables } = JSON.parse(listed) as { nftables: Record<string, { chain?: string }>[] }
      const rules = nftables.filter((entry) => entry.rule !== undefined)
      const chains = new Set(rules.map((entry) => entry.rule?.chain))
      const whole = ['guard', 'prerouting', 'input', 'forward'].every((chain) => chains.has(chain))
      return whole && readdirSync('/sys/class/net').includes(this.bridge)
    } catch {
      return false
    }
  }

  /** Connects a namespace. Rejects with `engine.failed`; the namespace must then not be used. */
  async plug(pid: number): Promise<FullPort> {
    const { gateway } = this.#opened()
    const { address, interfaceName } = await this.#makeCable(pid)
    this.#inUse.add(address)
    const inside = ['--net', `--target=${pid}`]
    try {
      // Rules first: the interface is down until they stand.
      await runHostCommand('nsenter', [...inside, 'nft', '-f', '-'], {
        stdin: jobRules({ address, hostAddresses: hostIpv4Addresses(), ...this.#rules }),
      })
      await runHostCommand('nsenter', [...inside, 'ip', '-batch', '-'], {
        stdin: this.#routes(address, gateway),
      })
    } catch (error) {
      this.#inUse.delete(address)
      throw error
    }
    return { address, interfaceName, release: () => void this.#inUse.delete(address) }
  }

  /**
   * Takes over a cable that an earlier process of this node plugged in, with the rules of now in front of it. Rejects with
   * `engine.failed` or `engine.unavailable`: then the namespace must not be used any more.
   */
  async takeOver(pid: number): Promise<FullPort> {
    this.#opened()
    const inside = ['--net', `--target=${pid}`]
    const listed = await runHostCommand('nsenter', [
      ...inside,
      'ip',
      '-j',
      '-4',
      'address',
      'show',
      'dev',
      'eth0',
    ])
    const [link] = JSON.parse(listed) as { addr_info?: { local?: string }[] }[]
    const address = link?.addr_info?.[0]?.local
    if (address === undefined)
      throw new WeirError('engine.unavailable', 'Cannot take over a cable: the namespace has none')
    await runHostCommand('nsenter', [...inside, 'nft', '-f', '-'], {
      stdin: jobRules({ address, hostAddresses: hostIpv4Addresses(), ...this.#rules }),
    })
    this.#inUse.add(address)
    return { address, interfaceName: 'eth0', release: () => void this.#inUse.delete(address) }
  }

  /** Removes bridge and rules, in this order, so that the bridge is never there without them. */
  async close(): Promise<void> {
    await removeFullNetwork(this.#docker, this.#nodeId)
  }

  #opened(): { subnet: string; gateway: string; network: number; hosts: number } {
    if (this.#plan !== undefined) return this.#plan
    throw new WeirError('engine.unavailable', 'Cannot use the full network: it is not open', {
      retryable: true,
    })
  }

  async #ensureBridge(): Promise<{ subnet: string; gateway: string }> {
    const network = this.#docker.getNetwork(this.bridge)
    try {
      await network.inspect()
    } catch (error) {
      if (engineStatus(error) !== 404) throw error
      await this.#docker.createNetwork({
        Name: this.bridge,
        Driver: 'bridge',
        CheckDuplicate: true,
        EnableIPv6: false,
        Labels: ownLabels(this.#nodeId, 'network'),
        Options: {
          'com.docker.network.bridge.name': this.bridge,
          'com.docker.network.bridge.enable_icc': 'false',
          'com.docker.network.bridge.enable_ip_masquerade': 'true',
        },
      })
    }
    const { IPAM } = (await network.inspect()) as {
      IPAM: { Config?: { Subnet?: string; Gateway?: string }[] }
    }
    const config = IPAM.Config?.find(({ Subnet }) => Subnet?.includes('.') === true)
    if (config?.Subnet === undefined || config.Gateway === undefined) {
      throw new WeirError(
        'engine.unavailable',
        'Cannot use the full network: the engine gave it no IPv4 addresses',
      )
    }
    return { subnet: config.Subnet, gateway: config.Gateway.split('/')[0] ?? '' }
  }

  /**
   * A cable between the bridge and the namespace. The host end is named after the address's place in the subnet, so
   * an address that is in use, also by a job of an earlier process, cannot be given twice: the name is taken.
   */
  async #makeCable(pid: number): Promise<{ address: string; interfaceName: string }> {
    const { network, hosts, gateway } = this.#opened()
    const taken = new Set(readdirSync('/sys/class/net'))
    const last = Math.min(hosts - 2, 65_533)
    for (let place = 2; place <= last; place++) {
      const address = toAddress(network + place)
      const interfaceName = `wv${this.table.slice(5, 11)}${place.toString(16).padStart(4, '0')}`
      if (address === gateway || taken.has(interfaceName) || this.#inUse.has(address)) continue
      this.#inUse.add(address)
      try {
        await runHostCommand('ip', ['-batch', '-'], { stdin: this.#cable(interfaceName, pid) })
      } catch (error) {
        this.#inUse.delete(address)
        throw error
      }
      return { address, interfaceName }
    }
    throw new WeirError(
      'engine.unavailable',
      'Cannot connect a job: every address of the full network is in use',
      {
        retryable: true,
        hint: 'Wait for running jobs to end',
      },
    )
  }

  #cable(name: string, pid: number): string {
    return [
      `link add ${name} mtu ${uplinkMtu()} type veth peer name eth0 mtu ${uplinkMtu()} netns ${pid}`,
      `link set ${name} master ${this.bridge}`,
      `link set ${name} type bridge_slave isolated on`,
      `link set ${name} up`,
      '',
    ].join('\n')
  }

  /**
   * Only public destinations have a route; special ones fail at once with "permission denied". The next hop itself is
   * no destination either: `onlink` spares it a route of its own.
   */
  #routes(address: string, gateway: string): string {
    return [
      'link set eth0 addrgenmode none',
      `address add ${address}/32 dev eth0`,
      'link set eth0 up',
      `route add default via ${gateway} dev eth0 onlink`,
      ...specialIpv4Blocks()
        .filter((block) => !block.startsWith('127.') && block !== '0.0.0.0/32')
        .map((block) => `route add prohibit ${block}`),
      ...hostIpv4Addresses().map((own) => `route replace prohibit ${own}/32`),
      ...this.#rules.exceptions.map(
        (exception) => `route replace ${exception.address}/32 via ${gateway} dev eth0 onlink`,
      ),
      '',
    ].join('\n')
  }
}

/** Removes what a full network of this node left, whether or not this process made it. Returns what was removed. */
export async function removeFullNetwork(docker: Docker, nodeId: NodeId): Promise<string[]> {
  const hash = nodeHash(nodeId)
  const removed: string[] = []
  try {
    await docker.getNetwork(`weir-${hash}`).remove()
    removed.push(`network weir-${hash}`)
  } catch (error) {
    // Without its bridge nothing needs the rules; with it they stay.
    if (engineStatus(error) !== 404) {
      throw new WeirError(
        'engine.failed',
        `Cannot remove the network weir-${hash}: ${engineMessage(error)}`,
        {
          cause: error,
        },
      )
    }
  }
  if (process.getuid?.() !== 0) return removed
  try {
    await runHostCommand('nft', ['delete', 'table', 'inet', `weir_${hash}`])
    removed.push(`rules weir_${hash}`)
  } catch {
    /* There is no such table, or no nft: then there are no rules of ours. */
  }
  return removed
}

/** Every IPv4 address of this machine, loopback aside. */
export function hostIpv4Addresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .map(({ address }) => address)
}

/** `Dns` servers of last resort, of two independent public operators. */
const PUBLIC_DNS_SERVERS = ['9.9.9.9', '1.1.1.1']

/**
 * Name servers for jobs. A resolver on the node's own network is never used by default: it is a machine there, and
 * it answers with the names of that network.
 */
function chooseDnsServers(configured: readonly string[]): string[] {
  const wrong = configured.find((server) => parseIpAddress(server)?.family !== 4)
  if (wrong !== undefined) {
    throw new WeirError(
      'config.invalid',
      `Cannot use ${JSON.stringify(wrong)} as a name server of the full network`,
      {
        hint: 'Write an IPv4 address',
      },
    )
  }
  if (configured.length > 0) return configured.slice(0, 3)
  const own = nodeResolvers().filter((server) => {
    const address = parseIpAddress(server)
    return address?.family === 4 && isPublicAddress(address)
  })
  return own.length > 0 ? own.slice(0, 3) : PUBLIC_DNS_SERVERS
}

/** Resolvers of this machine, as its resolver configuration lists them. */
export function nodeResolvers(): string[] {
  // Behind a local stub the real servers are in the second file.
  return ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'].flatMap((file) => {
    try {
      return [...readFileSync(file, 'utf8').matchAll(/^nameserver\s+(\S+)/gm)].map(
        ([, server]) => server ?? '',
      )
    } catch {
      return []
    }
  })
}

/** MTU of the interface with the default route, so that large packets need no discovery; 1500 without one. */
function uplinkMtu(): number {
  try {
    const route = readFileSync('/proc/net/route', 'utf8')
      .split('\n')
      .map((line) => line.split('\t'))
      .find(([, destination, , , , , , mask]) => destination === '00000000' && mask === '00000000')
    const mtu = Number(readFileSync(`/sys/class/net/${route?.[0] ?? 'lo'}/mtu`, 'utf8'))
    return Number.isInteger(mtu) && mtu >= 576 && mtu <= 9000 ? mtu : 1500
  } catch {
    return 1500
  }
}

function toNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
}

function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
}

function notRoot(): WeirError {
  return new WeirError('engine.unavailable', 'Cannot make the full network: weir does not run as root', {
    hint: 'Run the compute node as root; making and guarding networks needs it',
  })
}
