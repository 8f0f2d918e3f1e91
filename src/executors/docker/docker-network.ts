import { readFileSync } from 'node:fs'
import { WeirError, toWeirError } from '../../errors.js'
import type { ExecutionId } from '../../model/index.js'
import type { Clock, NetworkProvider, NetworkSlot } from '../../ports/index.js'
import { rejection } from './engine-connection.js'
import type { EngineConnection } from './engine-connection.js'
import { FullNetwork } from './full-network.js'
import type { Holder } from './holder-pool.js'
import { HolderPool } from './holder-pool.js'
import { ensureHolderImage } from './holder-image.js'
import { probeIsolation } from './isolation-probe.js'
import { DockerNetworkSlot, NO_NAME_SERVERS, resolvConfOf } from './network-slot.js'
import { findContainer, joinedId } from './resume-container.js'
import type { DockerExecutorOptions, DockerLimits, DockerLog } from './options.js'

type Mode = 'none' | 'http' | 'full'

/** What the last isolation probe said. */
export interface IsolationReport {
  http: boolean
  full: boolean
  /** Why a mode is not offered, one sentence each. */
  problems: string[]
}

/** The parts that exist once the engine was reached. */
interface Parts {
  image: string
  /** Namespaces without listeners: for `none`, and for `full` before it is plugged in. */
  plain: HolderPool
  http: HolderPool | undefined
  full: FullNetwork | undefined
  problems: string[]
}

/**
 * Networks for jobs, ready before the jobs are.
 *
 * What is offered is what the isolation probe found to be tight: at start, every hour, and within a minute after
 * somebody removed the rules of the full network. Mode `none` needs no offer: it falls back to the engine's own.
 */
export class DockerNetwork implements NetworkProvider {
  readonly #connection: EngineConnection
  readonly #options: DockerExecutorOptions
  readonly #limits: DockerLimits
  readonly #clock: Clock
  readonly #log: DockerLog
  readonly #closing = new AbortController()
  #parts: Promise<Parts> | undefined
  #verdict: Promise<IsolationReport> | undefined
  #noneUsesHolders = true
  /** True when a probe could not be done, which says nothing about the network: it is soon done again. */
  #probeFailed = false
  #watching: Promise<void> | undefined

  constructor(input: {
    connection: EngineConnection
    options: DockerExecutorOptions
    limits: DockerLimits
    clock: Clock
    log: DockerLog
  }) {
    this.#connection = input.connection
    this.#options = input.options
    this.#limits = input.limits
    this.#clock = input.clock
    this.#log = input.log
  }

  /** The first call starts the pools and waits for the first isolation probe. */
  async modes(): Promise<IsolationReport> {
    const verdict = (this.#verdict ??= this.isolationProbe())
    return verdict
  }

  async acquire(mode: Mode, _who: { executionId: ExecutionId }, signal: AbortSignal): Promise<NetworkSlot> {
    signal.throwIfAborted()
    const offered = await Promise.race([this.modes(), rejection(signal)])
    if (mode !== 'none' && !offered[mode]) {
      throw new WeirError(
        'engine.unavailable',
        `Cannot give a job the network mode "${mode}": this node does not offer it`,
        {
          hint: offered.problems.join('; '),
        },
      )
    }
    const making = this.#slot(mode)
    try {
      return await Promise.race([making, rejection(signal)])
    } catch (error) {
      making
        .then((slot) => slot.release())
        .catch(() => {
          /* There is no slot to give back. */
        })
      throw error
    }
  }

  /**
   * See `NetworkProvider.adopt`. Modes `http` and `full` are taken over only while they are offered, that is, found to be
   * tight by this process.
   */
  async adopt(
    mode: Mode,
    { executionId, ended }: { executionId: ExecutionId; ended: boolean },
    signal: AbortSignal,
  ): Promise<NetworkSlot> {
    const docker = await this.#connection.client()
    const found = await findContainer(docker, this.#options.nodeId, executionId, signal)
    if (found === undefined) throw gone(mode, 'the container is gone')
    const holderId = joinedId(found.HostConfig.NetworkMode ?? '')
    if (holderId === '') {
      if (mode === 'none') return bareSlot()
      throw gone(mode, 'the container has joined no network of this node')
    }
    const parts = await this.#ensureParts()
    if (ended || mode === 'none')
      return holderSlot('none', await parts.plain.adopt(holderId, { ended }), mode)
    const offered = await Promise.race([this.modes(), rejection(signal)])
    if (!offered[mode])
      throw gone(mode, `this node does not offer it any more: ${offered.problems.join('; ')}`)
    if (mode === 'http' && parts.http !== undefined)
      return holderSlot('http', await parts.http.adopt(holderId, { ended }))
    if (mode === 'full' && parts.full !== undefined)
      return fullSlot(await parts.plain.adopt(holderId, { ended }), parts.full, { adopted: true })
    throw gone(mode, 'it is switched off')
  }

  /** Probes every mode now and changes what is offered accordingly. Never rejects. */
  async isolationProbe(): Promise<IsolationReport> {
    const report = await this.#probeAll()
    // Without an engine there is no verdict to keep: the next question asks again.
    this.#verdict = this.#parts === undefined ? undefined : Promise.resolve(report)
    for (const problem of report.problems) {
      // What nobody asked for is not worth a warning at each start.
      if (problem === HTTP_OFF || problem === FULL_OFF) continue
      const isPartial = problem.startsWith(ONLY_PROXY)
      this.#log.warn(
        { problem },
        isPartial ? 'a network mode serves fewer programs' : 'a network mode is not offered',
      )
    }
    return report
  }

  /** Container ids of every holder of this process. */
  async holderIds(): Promise<Set<string>> {
    const parts = await this.#parts?.catch(() => undefined)
    return new Set([...(parts?.plain.ids() ?? []), ...(parts?.http?.ids() ?? [])])
  }

  /** True when this process has a full network that the reaper must leave alone. */
  async hasFullNetwork(): Promise<boolean> {
    const parts = await this.#parts?.catch(() => undefined)
    return parts?.full !== undefined
  }

  /** Resolves when as many namespaces as configured are ready. */
  async warm(): Promise<void> {
    await this.modes()
    const parts = await this.#parts?.catch(() => undefined)
    await Promise.all([parts?.plain.fill(), parts?.http?.fill()])
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#watching
    await this.#verdict?.catch(() => {})
    const parts = await this.#parts?.catch(() => undefined)
    await Promise.all([parts?.plain.close(), parts?.http?.close()])
    // Jobs that go on without this process keep their bridge and its rules.
    if (parts?.full?.addressesInUse.length === 0) await parts.full.close()
  }

  async #slot(mode: Mode): Promise<DockerNetworkSlot> {
    if (mode === 'none') return this.#slotForNone()
    const parts = await this.#ensureParts()
    if (mode === 'http' && parts.http !== undefined) return holderSlot('http', await parts.http.take())
    if (mode === 'full' && parts.full !== undefined) return fullSlot(await parts.plain.take(), parts.full)
    throw new WeirError(
      'engine.unavailable',
      `Cannot give a job the network mode "${mode}": it is switched off`,
    )
  }

  async #slotForNone(): Promise<DockerNetworkSlot> {
    if (this.#noneUsesHolders) {
      try {
        const parts = await this.#ensureParts()
        return holderSlot('none', await parts.plain.take())
      } catch (error) {
        this.#log.warn(
          { error: toWeirError(error).message },
          "no holder: using the engine's own isolated network",
        )
      }
    }
    return bareSlot()
  }

  #ensureParts(): Promise<Parts> {
    this.#parts ??= this.#makeParts().catch((error: unknown) => {
      this.#parts = undefined
      throw error
    })
    return this.#parts
  }

  async #makeParts(): Promise<Parts> {
    const facts = await this.#connection.facts()
    const docker = await this.#connection.client()
    const image = await ensureHolderImage(docker, facts.architecture)
    const { nodeId, attach, detach, holderPoolSize: size = 2 } = this.#options
    const pool = { docker, image, nodeId, size, max: this.#limits.holdersMax, log: this.#log }
    const problems: string[] = []
    const wanted = httpProblem(attach !== undefined)
    if (wanted !== '') problems.push(wanted)
    const http =
      wanted !== '' || attach === undefined
        ? undefined
        : new HolderPool({ ...pool, attach, ...(detach === undefined ? {} : { detach }) })
    const parts: Parts = { image, plain: new HolderPool(pool), http, full: undefined, problems }
    this.#watching ??= this.#watch(parts)
    void parts.plain.fill()
    void parts.http?.fill()
    return parts
  }

  async #probeAll(): Promise<IsolationReport> {
    this.#probeFailed = false
    let parts: Parts
    try {
      parts = await this.#ensureParts()
    } catch (error) {
      return { http: false, full: false, problems: [toWeirError(error).message] }
    }
    const problems = [...parts.problems]
    const plain = await this.#probeMode('none', parts, problems)
    this.#noneUsesHolders = plain
    const http = parts.http !== undefined && (await this.#probeMode('http', parts, problems))
    const full =
      (await this.#openFull(parts, problems)) && plain && (await this.#probeMode('full', parts, problems))
    return { http, full, problems }
  }

  /** Opens the full network, or mends it where somebody took its rules away. */
  async #openFull(parts: Parts, problems: string[]): Promise<boolean> {
    if (this.#options.full === undefined) {
      problems.push(FULL_OFF)
      return false
    }
    if (parts.full !== undefined && (await parts.full.rulesIntact())) return true
    const docker = await this.#connection.client()
    let full = parts.full
    try {
      full ??= new FullNetwork(docker, this.#options.nodeId, this.#options.full)
      await full.open()
      parts.full = full
      return true
    } catch (error) {
      problems.push(`mode full: ${toWeirError(error).message}`)
      // What was made before the first opening failed goes again; jobs that run keep what they have.
      if (parts.full === undefined) await full?.close().catch(() => {})
      return false
    }
  }

  async #probeMode(mode: Mode, parts: Parts, problems: string[]): Promise<boolean> {
    let slot: DockerNetworkSlot | undefined
    try {
      slot = await (mode === 'http' && parts.http !== undefined
        ? holderSlot('http', await parts.http.take())
        : mode === 'full' && parts.full !== undefined
          ? fullSlot(await parts.plain.take(), parts.full)
          : holderSlot('none', await parts.plain.take()))
      const findings = await probeIsolation(slot, {
        docker: await this.#connection.client(),
        nodeId: this.#options.nodeId,
        facts: await this.#connection.facts(),
        limits: this.#limits,
        dropCapabilities: this.#options.dropCapabilities ?? [],
        image: parts.image,
        canary: this.#options.canary ?? {},
        otherJobs: parts.full?.addressesInUse.filter((address) => address !== slot?.address) ?? [],
        log: this.#log,
      })
      problems.push(...findings.map((finding) => `mode ${mode}: ${finding}`))
      const { onlyProxy } = slot.attachment ?? {}
      // Not a reason to withhold the mode: most programs use the proxy.
      if (findings.length === 0 && onlyProxy !== undefined) problems.push(`${ONLY_PROXY}: ${onlyProxy}`)
      return findings.length === 0
    } catch (error) {
      this.#probeFailed = true
      problems.push(`mode ${mode}: ${toWeirError(error).message}`)
      return false
    } finally {
      await slot?.release()
    }
  }

  async #watch(parts: Parts): Promise<void> {
    const { signal } = this.#closing
    const intervalMs = this.#options.canary?.intervalMs ?? HOUR_MS
    let probedAt = this.#clock.now()
    try {
      for (;;) {
        await this.#clock.sleep(Math.min(RULES_CHECK_MS, intervalMs), signal)
        const rulesGone = parts.full !== undefined && !(await parts.full.rulesIntact())
        if (rulesGone) this.#withdrawFull()
        if (!rulesGone && !this.#probeFailed && this.#clock.now() - probedAt < intervalMs) continue
        await this.isolationProbe()
        probedAt = this.#clock.now()
      }
    } catch {
      /* The clock's sleep was cut short: we are closing. */
    }
  }

  #withdrawFull(): void {
    const problem =
      'mode full: the packet rules of the host were removed by somebody; they are being put back'
    this.#log.warn({ problem }, 'a network mode is not offered')
    const before = this.#verdict ?? Promise.resolve({ http: false, full: false, problems: [] })
    this.#verdict = before.then((report) => ({
      ...report,
      full: false,
      problems: [...report.problems, problem],
    }))
  }
}

const HOUR_MS = 60 * 60_000
const RULES_CHECK_MS = 30_000

function gone(mode: Mode, reason: string): WeirError {
  return new WeirError('engine.unavailable', `Cannot take over a network of mode "${mode}": ${reason}`, {
    hint: 'Look at the node: weir node describe',
  })
}

/** `named`: what the slot was made for, where its holder is now only kept. */
function holderSlot(mode: 'none' | 'http', holder: Holder, named: Mode = mode): DockerNetworkSlot {
  return new DockerNetworkSlot({
    mode: named,
    networkMode: `container:${holder.id}`,
    resolvConf: resolvConfOf(holder.attachment?.nameServer),
    ...(holder.attachment === undefined ? {} : { attachment: holder.attachment }),
    giveBack: () => holder.release(),
    letGo: () => holder.leave(),
  })
}

/** The engine's own isolated network. */
function bareSlot(): DockerNetworkSlot {
  const nothing = async (): Promise<void> => {}
  return new DockerNetworkSlot({
    mode: 'none',
    networkMode: 'none',
    resolvConf: NO_NAME_SERVERS,
    giveBack: nothing,
    letGo: nothing,
  })
}

/** `adopted`: the cable is there already. A holder that cannot be connected is removed, an adopted one is not. */
async function fullSlot(
  holder: Holder,
  network: FullNetwork,
  { adopted = false }: { adopted?: boolean } = {},
): Promise<DockerNetworkSlot> {
  try {
    const port = adopted ? await network.takeOver(holder.pid) : await network.plug(holder.pid)
    return new DockerNetworkSlot({
      mode: 'full',
      networkMode: `container:${holder.id}`,
      resolvConf: network.dnsServers.map((server) => `nameserver ${server}\n`).join(''),
      address: port.address,
      giveBack: async () => {
        await holder.release()
        port.release()
      },
      letGo: () => holder.leave(),
    })
  } catch (error) {
    await (adopted ? holder.leave() : holder.release())
    throw error
  }
}

const HTTP_OFF = 'mode http is not switched on'
const ONLY_PROXY = 'mode http: programs that ignore proxy variables reach nothing here'
const FULL_OFF = 'mode full is not switched on'

/** Why mode `http` cannot be offered; empty when it can. */
function httpProblem(hasGateway: boolean): string {
  if (!hasGateway) return HTTP_OFF
  if (hasCapabilities(CAP_NET_ADMIN, CAP_SYS_ADMIN)) return ''
  return 'mode http: weir needs to run as root (or with CAP_SYS_ADMIN and CAP_NET_ADMIN) to hold listeners inside a job’s network'
}

const CAP_NET_ADMIN = 12n
const CAP_SYS_ADMIN = 21n

function hasCapabilities(...bits: bigint[]): boolean {
  try {
    const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'
    return bits.every((bit) => (BigInt(`0x${effective}`) & (1n << bit)) !== 0n)
  } catch {
    return false
  }
}
