import { closeSync, openSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Config, type ConfigSources, loadConfig } from '../../config/index.js'
import { WeirError } from '../../errors.js'
import { makeDirectory } from '../../make-directory.js'
import { type RunningNode, startNode } from '../start-node.js'
import { type Member, startMember } from './member.js'
import { configOf, overlayConfig, type PlainConfig } from './overlay.js'

export interface DevstackOptions {
  /** The user's configuration counts for every node, but for directories, ports, names and labels. */
  sources: ConfigSources
  /** Compute nodes, each in a process of its own. 1 to 32. */
  computeNodes: number
  /** The orchestrator runs jobs as well. */
  isHybrid: boolean
  /** Kept and used again by the next stack with the same directory. Absent: a temporary one. */
  directory?: string
  /** API on 1234, nodes on 4222. Otherwise free ports. */
  hasStandardPorts: boolean
  /** Default `Logging.Level`. Every node writes `node.log` into its data directory. */
  logLevel?: string
  /** A node has ended by itself. */
  onGone: (name: string, reason: string) => void
}

/** Several nodes on one machine, over the transport and with the protocol of several machines. */
export interface Devstack {
  readonly directory: string
  readonly orchestrator: RunningNode
  /** In order of their names. */
  readonly members: readonly Member[]
  /** Ends everything in order, also what nodes left behind that were killed; removes a temporary directory. Idempotent. */
  close(): Promise<void>
}

/**
 * Starts a stack; resolves when every node is connected. Rejects with `config.invalid`, `store.locked`, `port.in_use`,
 * `transport.unavailable`, or `transport.timeout` when a node does not connect; everything is closed then.
 */
export async function startDevstack(options: DevstackOptions): Promise<Devstack> {
  if (
    !Number.isSafeInteger(options.computeNodes) ||
    options.computeNodes < 0 ||
    options.computeNodes > NODES_MAX
  ) {
    throw new WeirError(
      'config.invalid',
      `Cannot start ${options.computeNodes} compute nodes on one machine`,
      {
        hint: `Use a whole number up to ${NODES_MAX}`,
      },
    )
  }
  const own = loadConfig(options.sources)
  const isTemporary = options.directory === undefined
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), 'weir-devstack-')))
  await makeDirectory(directory, 0o700)
  const stack = new RunningStack(options, own, directory, isTemporary)
  try {
    await stack.start()
    return stack
  } catch (error) {
    await stack.close()
    throw error
  }
}

const NODES_MAX = 32
const CONNECTED_MS = 60_000
/** Nothing outlives a stack, whatever the user wants of a single server. */
const ENDS_ALL = { 'Compute.OnStop': 'stop' } as const

class RunningStack implements Devstack {
  readonly directory: string
  readonly members: Member[] = []
  readonly #options: DevstackOptions
  readonly #isTemporary: boolean
  readonly #own: Config
  #log: number | undefined
  #orchestrator: RunningNode | undefined
  #secret = ''
  #closing: Promise<void> | undefined

  constructor(options: DevstackOptions, own: Config, directory: string, isTemporary: boolean) {
    this.#options = options
    this.directory = directory
    this.#isTemporary = isTemporary
    this.#own = own
  }

  get orchestrator(): RunningNode {
    if (this.#orchestrator === undefined) throw new WeirError('internal', 'The stack has no orchestrator yet')
    return this.#orchestrator
  }

  async start(): Promise<void> {
    const { isHybrid, computeNodes, logLevel } = this.#options
    const config = configOf(this.#orchestratorConfig())
    await makeDirectory(config.dataDir, 0o700)
    const log = openSync(join(config.dataDir, 'node.log'), 'a', 0o600)
    this.#log = log
    this.#orchestrator = await startNode({
      config,
      roles: { orchestrator: true, compute: isHybrid },
      name: 'orchestrator',
      ...(logLevel === undefined ? {} : { logLevel }),
      logTo: (line) => void writeSync(log, line),
    })
    const { network } = this.#orchestrator
    if (computeNodes > 0 && network !== undefined) {
      const { token, secret } = await network.tokens.create({ usesMax: 0, description: 'devstack' })
      this.#secret = secret
      const names = Array.from({ length: computeNodes }, (_, index) => `node-${index}`)
      const started = await Promise.allSettled(names.map((name) => this.#startMember(name)))
      for (const one of started) if (one.status === 'fulfilled') this.members.push(one.value)
      for (const one of started) if (one.status === 'rejected') throw one.reason
      await this.#allConnected()
      await network.tokens.revoke(token.id)
    } else await this.#allConnected()
  }

  close(): Promise<void> {
    this.#closing ??= this.#closeOnce()
    return this.#closing
  }

  async #closeOnce(): Promise<void> {
    const dead = this.members.filter((member) => member.ended !== undefined)
    await Promise.all(this.members.map((member) => member.stop()))
    // What a killed node left behind is known to nobody but to its next start.
    for (const { name } of dead) {
      const member = await this.#startMember(name).catch(() => undefined)
      await member?.stop()
    }
    await this.#orchestrator?.close()
    if (this.#log !== undefined) closeSync(this.#log)
    if (this.#isTemporary) await rm(this.directory, { recursive: true, force: true })
  }

  #startMember(name: string): Promise<Member> {
    const { onGone, logLevel } = this.#options
    return startMember(
      {
        name,
        config: this.#memberConfig(name),
        joinSecret: this.#secret,
        logLevel: logLevel ?? this.#own.values['Logging.Level'],
        removeWhenOrphaned: this.#isTemporary ? this.directory : '',
      },
      (reason) => onGone(name, reason),
    )
  }

  #orchestratorConfig(): PlainConfig {
    const { hasStandardPorts, isHybrid } = this.#options
    return overlayConfig(this.#own, join(this.directory, 'orchestrator'), {
      unlessSaid: {
        'API.Port': hasStandardPorts ? 1234 : 0,
        'Orchestrator.Port': hasStandardPorts ? 4222 : 0,
        'Publishers.Types.Local.Port': 0,
        ...(isHybrid ? this.#share() : {}),
      },
      always: { Labels: this.#labels('orchestrator'), ...ENDS_ALL },
    })
  }

  #memberConfig(name: string): PlainConfig {
    return overlayConfig(this.#own, join(this.directory, name), {
      unlessSaid: this.#share(),
      always: {
        'API.Host': '127.0.0.1',
        'API.Port': 0,
        'Publishers.Types.Local.Port': 0,
        'Compute.Orchestrators': [this.orchestrator.network?.joinUrl ?? ''],
        Labels: this.#labels(name),
        ...ENDS_ALL,
      },
    })
  }

  #labels(name: string): Record<string, string> {
    return { ...this.#own.values.Labels, id: name, name, env: 'devstack' }
  }

  /** Each node offers its part of the machine, so that all together offer no more than there is. */
  #share(): Partial<
    Record<
      'Compute.AllocatedCapacity.CPU' | 'Compute.AllocatedCapacity.Memory' | 'Compute.AllocatedCapacity.Disk',
      string
    >
  > {
    const { computeNodes, isHybrid } = this.#options
    const nodes = Math.max(1, computeNodes + (isHybrid ? 1 : 0))
    const share = `${(Math.floor(100_000 / nodes) / 1000).toString()}%`
    return {
      'Compute.AllocatedCapacity.CPU': share,
      'Compute.AllocatedCapacity.Memory': share,
      'Compute.AllocatedCapacity.Disk': share,
    }
  }

  async #allConnected(): Promise<void> {
    const { computeNodes, isHybrid } = this.#options
    const wanted = computeNodes + (isHybrid ? 1 : 0)
    const names = new Set([...this.members.map(({ name }) => name), ...(isHybrid ? ['orchestrator'] : [])])
    for (const untilMs = Date.now() + CONNECTED_MS; ; ) {
      const nodes = (await this.orchestrator.jobs?.nodes({ connection: 'CONNECTED' })) ?? []
      if (nodes.filter(({ info }) => names.has(info.nodeId)).length >= wanted) return
      const gone = this.members.find((member) => member.ended !== undefined)
      if (gone !== undefined)
        throw new WeirError('internal', `Node "${gone.name}" has ended: see ${gone.dataDir}/node.log`)
      if (Date.now() > untilMs) {
        throw new WeirError(
          'transport.timeout',
          `Cannot start the stack: not all of ${wanted} nodes have connected`,
          {
            hint: `See node.log of each node below ${this.directory}`,
          },
        )
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}
