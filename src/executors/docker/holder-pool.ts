import type Docker from 'dockerode'
import { WeirError, toWeirError } from '../../errors.js'
import type { NodeId } from '../../model/index.js'
import type { GatewayAttachment } from '../../ports/index.js'
import { JOB_HOSTNAME, NETWORK_SYSCTLS } from './container-options.js'
import { engineMessage } from './engine-connection.js'
import { PAUSE_COMMAND } from './holder-image.js'
import { ownLabels } from './labels.js'
import type { DockerLog } from './options.js'
import { processStartTime } from '../../owner-process.js'
import { removeContainer } from './running-container.js'

/** A network namespace with only a loopback interface, kept alive by a container that does nothing. */
export interface Holder {
  readonly id: string
  readonly pid: number
  /** `/proc/PID/ns/net`. */
  readonly netnsPath: string
  /** Present when the pool attaches the gateway's listeners. */
  readonly attachment?: GatewayAttachment
  /** Removes the namespace: holders are single-use. Idempotent. */
  release(): Promise<void>
  /** Lets go of it without removing it, so that the next process can adopt it. */
  leave(): Promise<void>
}

export interface HolderPoolOptions {
  docker: Docker
  /** Name of the holder image in the engine. */
  image: string
  nodeId: NodeId
  /** How many are kept ready. */
  size: number
  /** How many may exist at one time, ready and in use. */
  max: number
  /** Creates listeners inside the namespace, before the holder counts as ready. */
  attach?: (netnsPath: string) => Promise<GatewayAttachment>
  detach?: (attachment: GatewayAttachment) => Promise<void>
  log: DockerLog
}

/**
 * Keeps holders ready, so that a job's network costs nothing when the job starts. One is made at a time in the
 * background; when none is ready it is made on demand.
 */
export class HolderPool {
  readonly #options: HolderPoolOptions
  readonly #ready: LiveHolder[] = []
  readonly #live = new Map<string, LiveHolder>()
  #making = 0
  #filling: Promise<void> | undefined
  #closed = false
  /** False where the machine refuses the sysctl that gives the namespace an IPv6 loopback. */
  #ipv6 = true

  constructor(options: HolderPoolOptions) {
    this.#options = options
  }

  /** Rejects with `engine.unavailable` when the engine or the gateway does not allow it, or too many are in use. */
  async take(): Promise<Holder> {
    for (let ready = this.#ready.shift(); ready !== undefined; ready = this.#ready.shift()) {
      if (ready.isAlive()) {
        this.#fillInBackground()
        return ready
      }
      void ready.release()
    }
    const made = await this.#make()
    this.#fillInBackground()
    return made
  }

  /**
   * Takes over a holder that an earlier process of this node made. With `ended` it only has to be removed some day, so it may
   * have ended itself and gets no listeners. Rejects with `engine.unavailable`.
   */
  async adopt(id: string, { ended }: { ended: boolean }): Promise<Holder> {
    const { docker } = this.#options
    const container = docker.getContainer(id)
    try {
      if (ended) return this.#keep(container, 0, undefined)
      return await this.#attachTo(container)
    } catch (error) {
      throw toWeirError(error, 'engine.unavailable', 'Cannot take over a network')
    }
  }

  /** Resolves when the pool is as full as it can be made now. Never rejects. */
  async fill(): Promise<void> {
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = undefined
    })
    await this.#filling
  }

  /** Container ids of every holder, ready or in use. */
  ids(): Set<string> {
    return new Set(this.#live.keys())
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#filling
    await Promise.all([...this.#live.values()].map((holder) => holder.release()))
  }

  #fillInBackground(): void {
    if (!this.#closed) void this.fill()
  }

  async #fill(): Promise<void> {
    while (!this.#closed && this.#ready.length < this.#options.size) {
      try {
        const holder = await this.#make()
        if (this.#closed) await holder.release()
        else this.#ready.push(holder)
      } catch (error) {
        // The next run that needs a holder tries again and gets the reason.
        this.#options.log.warn(
          { error: engineMessage(error) },
          'cannot make a network namespace ahead of time',
        )
        return
      }
    }
  }

  async #make(): Promise<LiveHolder> {
    if (this.#live.size + this.#making >= this.#options.max) {
      throw new WeirError('engine.unavailable', `Cannot make a network: ${this.#options.max} are in use`, {
        retryable: true,
        hint: 'Wait for running jobs to end',
      })
    }
    this.#making++
    try {
      return await this.#start()
    } finally {
      this.#making--
    }
  }

  async #start(): Promise<LiveHolder> {
    let container: Docker.Container | undefined
    try {
      container = await this.#startContainer(this.#options.docker)
      return await this.#attachTo(container)
    } catch (error) {
      if (container !== undefined && !this.#live.has(container.id))
        await removeContainer(container, this.#options.log)
      throw toWeirError(error, 'engine.unavailable', 'Cannot make a network')
    }
  }

  async #attachTo(container: Docker.Container): Promise<LiveHolder> {
    const { attach, detach } = this.#options
    const pid = await pidOf(container)
    const attachment = attach === undefined ? undefined : await attach(`/proc/${pid}/ns/net`)
    // The process id could have passed to another process between asking and attaching.
    if ((await pidOf(container).catch(() => 0)) === pid) return this.#keep(container, pid, attachment)
    if (attachment !== undefined) await this.#detach(attachment, detach)
    throw new WeirError('engine.unavailable', 'Cannot make a network: its holder ended', {
      retryable: true,
    })
  }

  #keep({ id }: Docker.Container, pid: number, attachment: GatewayAttachment | undefined): LiveHolder {
    const { docker, detach, log } = this.#options
    const letGo = async () => {
      if (attachment !== undefined) await this.#detach(attachment, detach)
      this.#live.delete(id)
    }
    const remove = async () => {
      if (attachment !== undefined) await this.#detach(attachment, detach)
      await removeContainer(docker.getContainer(id), log)
      this.#live.delete(id)
    }
    const holder = new LiveHolder({ id, pid, attachment, remove, letGo })
    this.#live.set(id, holder)
    return holder
  }

  async #detach(attachment: GatewayAttachment, detach: HolderPoolOptions['detach']): Promise<void> {
    try {
      await detach?.(attachment)
    } catch (error) {
      this.#options.log.warn({ error: engineMessage(error) }, 'cannot give listeners back to the gateway')
    }
  }

  async #startContainer(docker: Docker): Promise<Docker.Container> {
    const container = await docker.createContainer(this.#containerOptions())
    try {
      await container.start()
      return container
    } catch (error) {
      await removeContainer(container, this.#options.log)
      if (!this.#ipv6 || !/sysctl|ipv6/i.test(engineMessage(error))) throw error
      this.#ipv6 = false
      return this.#startContainer(docker)
    }
  }

  #containerOptions(): Docker.ContainerCreateOptions {
    const { image, nodeId } = this.#options
    return {
      Image: image,
      Cmd: [PAUSE_COMMAND],
      Hostname: JOB_HOSTNAME,
      User: '65534:65534',
      // It has nothing to tidy up; an engine that goes down need not wait for it.
      StopSignal: 'SIGKILL',
      Labels: ownLabels(nodeId, 'holder'),
      HostConfig: {
        NetworkMode: 'none',
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges:true'],
        ReadonlyRootfs: true,
        // The engine itself needs some threads before the program is there.
        PidsLimit: 64,
        LogConfig: { Type: 'none', Config: {} },
        RestartPolicy: { Name: 'no' },
        Sysctls: {
          ...NETWORK_SYSCTLS,
          // Programs expect ::1 to exist; engines switch IPv6 off in namespaces without an IPv6 network.
          ...(this.#ipv6 ? { 'net.ipv6.conf.all.disable_ipv6': '0' } : {}),
        },
      },
    }
  }
}

class LiveHolder implements Holder {
  readonly id: string
  readonly pid: number
  readonly netnsPath: string
  readonly attachment?: GatewayAttachment
  readonly #startTime: string
  readonly #remove: () => Promise<void>
  readonly #letGo: () => Promise<void>
  #released: Promise<void> | undefined

  constructor(input: {
    id: string
    /** 0 = it has ended. */
    pid: number
    attachment: GatewayAttachment | undefined
    remove: () => Promise<void>
    letGo: () => Promise<void>
  }) {
    this.id = input.id
    this.pid = input.pid
    this.netnsPath = `/proc/${input.pid}/ns/net`
    if (input.attachment !== undefined) this.attachment = input.attachment
    this.#remove = input.remove
    this.#letGo = input.letGo
    this.#startTime = input.pid === 0 ? '' : processStartTime(input.pid)
  }

  isAlive(): boolean {
    return this.#startTime !== '' && processStartTime(this.pid) === this.#startTime
  }

  release(): Promise<void> {
    this.#released ??= this.#remove()
    return this.#released
  }

  leave(): Promise<void> {
    this.#released ??= this.#letGo()
    return this.#released
  }
}

async function pidOf(container: Docker.Container): Promise<number> {
  const { State } = await container.inspect()
  if (State.Running && State.Pid > 0) return State.Pid
  throw new WeirError('engine.unavailable', 'Cannot make a network: its holder ended', { retryable: true })
}
