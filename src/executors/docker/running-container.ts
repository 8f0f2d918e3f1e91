import type Docker from 'dockerode'
import { once } from 'node:events'
import type { OutputSink, Clock, RunExit, RunningExecution } from '../../ports/index.js'
import { describeExit } from './container-exit.js'
import type { ContainerState } from './container-exit.js'
import { engineMessage, engineStatus } from './engine-connection.js'
import type { DockerLog } from './options.js'
import { deliverOutput } from './output-frames.js'

/** The stream of both outputs as the engine sends it. */
export type AttachStream = AsyncIterable<Uint8Array> & { destroy(): void }

export interface RunningContainerInput {
  container: Docker.Container
  /** Attached before the start, so not a byte is missed. */
  stream: AttachStream
  output: OutputSink
  /** Goes into the exit's record. */
  details: Record<string, string>
  clock: Clock
  log: DockerLog
}

/**
 * A container that was just started.
 *
 *     program ends ──→ rest of the output delivered ──→ `exit` resolves ──→ container and its volumes removed
 *
 * Every wait is bounded: a process that cannot be killed (it hangs in the kernel) ends the run as `engine.failed`, and
 * the reaper removes the container later.
 */
export class RunningContainer implements RunningExecution {
  readonly exit: Promise<RunExit>
  /** Resolves when the container is removed, or was left for the reaper. */
  readonly removed: Promise<void>
  readonly #in: RunningContainerInput
  readonly #giveUp = new AbortController()
  #ended = false
  #termSent = false
  #killSent = false
  #stderrHead = ''
  #heardAtMs = 0

  constructor(input: RunningContainerInput) {
    this.#in = input
    this.#heardAtMs = input.clock.now()
    this.exit = this.#watch()
    this.removed = this.exit.then(() => removeContainer(input.container, input.log))
  }

  /** The container's own layer and its anonymous volumes, where the engine keeps them in directories. */
  async writablePaths(): Promise<string[]> {
    try {
      const { GraphDriver, Mounts } = await this.#in.container.inspect()
      const layer = (GraphDriver.Data as Record<string, string> | null)?.UpperDir
      const volumes = Mounts.filter(({ Type }) => Type === 'volume').map(({ Source }) => Source)
      return [...(layer === undefined ? [] : [layer]), ...volumes].filter((path) => path.startsWith('/'))
    } catch {
      return [] // The container is gone already; then there is nothing to watch.
    }
  }

  async stop(graceMs: number): Promise<void> {
    if (this.#ended) return
    if (graceMs > 0 && !this.#termSent) {
      this.#termSent = true
      this.#signal('SIGTERM')
    }
    if (await this.#endsWithin(graceMs)) return
    this.#killSent = true
    this.#signal('SIGKILL')
    if (await this.#endsWithin(KILL_WAIT_MS)) return
    this.#giveUp.abort()
    await this.exit
  }

  async #watch(): Promise<RunExit> {
    const { stream, clock } = this.#in
    const delivery = deliverOutput(stream, this.#sink(), () => {
      this.#heardAtMs = clock.now()
    }).then(
      () => true,
      () => false,
    )
    const state = await this.#waitForEnd()
    const complete = await this.#drained(delivery)
    stream.destroy()
    this.#ended = true
    const exit = describeExit(state, { killed: this.#killSent, stderrHead: this.#stderrHead })
    if (!complete) this.#in.log.warn({ container: this.#in.container.id }, 'output of a job is incomplete')
    return {
      ...exit,
      details: { ...this.#in.details, ...exit.details, ...(complete ? {} : { outputComplete: 'false' }) },
    }
  }

  /** The container's last state; undefined when it cannot be had any more. Never rejects. */
  async #waitForEnd(): Promise<ContainerState | undefined> {
    const { container, clock } = this.#in
    const gaveUp = once(this.#giveUp.signal, 'abort').then(() => 'gave up' as const)
    for (let failures = 0; failures < ENGINE_RETRIES; failures++) {
      if (this.#giveUp.signal.aborted) return undefined
      try {
        // "not running" is true at once if the program was faster than this question.
        const ended = await Promise.race([container.wait({ condition: 'not-running' }), gaveUp])
        if (ended === 'gave up') return undefined
        return await this.#finalState()
      } catch (error) {
        if (engineStatus(error) === 404) return undefined
        this.#in.log.warn(
          { container: container.id, error: engineMessage(error) },
          'waiting for a container failed',
        )
        await clock.sleep(ENGINE_RETRY_MS).catch(() => {})
      }
    }
    return undefined
  }

  /**
   * On a full memory limit the engine hears of the kill on another road than of the end, so it may know the reason a
   * moment later.
   */
  async #finalState(): Promise<ContainerState> {
    for (let tries = 0; ; tries++) {
      const { State } = (await this.#in.container.inspect()) as { State: ContainerState }
      const unexplained = State.ExitCode === 137 && !State.OOMKilled && !this.#killSent
      if (!unexplained || tries >= OOM_RETRIES) return State
      await this.#in.clock.sleep(OOM_RETRY_MS)
    }
  }

  /** True when everything was delivered; false when the stream broke or said nothing for too long after the end. */
  async #drained(delivery: Promise<boolean>): Promise<boolean> {
    const { clock, stream } = this.#in
    for (;;) {
      const done = await Promise.race([delivery, clock.sleep(DRAIN_IDLE_MS).then(() => undefined)])
      if (done !== undefined) return done
      const silentMs = clock.now() - this.#heardAtMs
      if (silentMs < DRAIN_IDLE_MS && !this.#giveUp.signal.aborted) continue
      stream.destroy()
      return false
    }
  }

  #sink(): OutputSink {
    const { output } = this.#in
    return {
      write: (kind, data) => {
        if (kind === 'stderr' && this.#stderrHead.length < STDERR_HEAD_BYTES) {
          this.#stderrHead += Buffer.from(data.subarray(0, STDERR_HEAD_BYTES)).toString('latin1')
        }
        return output.write(kind, data)
      },
    }
  }

  /** Not waited for: the engine may hold the answer back until the process is gone. */
  #signal(signal: string): void {
    const { container, log } = this.#in
    container.kill({ signal }).catch((error: unknown) => {
      // 404 and 409: it has ended by itself.
      if (![404, 409].includes(engineStatus(error) ?? 0)) {
        log.warn({ container: container.id, error: engineMessage(error) }, `cannot send ${signal}`)
      }
    })
  }

  async #endsWithin(ms: number): Promise<boolean> {
    const timer = new AbortController()
    const ended = this.exit.then(() => true)
    const late = this.#in.clock.sleep(ms, timer.signal).then(
      () => false,
      () => true,
    )
    const result = await Promise.race([ended, late])
    timer.abort()
    return result || this.#ended
  }
}

/** Removes a container with its anonymous volumes, by force; what cannot be removed is left for the reaper. */
export async function removeContainer(container: Docker.Container, log: DockerLog): Promise<void> {
  for (let tries = 0; tries < 3; tries++) {
    try {
      await container.remove({ force: true, v: true })
      return
    } catch (error) {
      const status = engineStatus(error)
      if (status === 404) return
      // 409: a removal is under way; ask until it is done.
      if (tries === 2) {
        log.warn({ container: container.id, error: engineMessage(error) }, 'cannot remove a container')
        return
      }
      await new Promise((resolve) => setTimeout(resolve, 250 * (tries + 1)))
    }
  }
}

const KILL_WAIT_MS = 10_000
const ENGINE_RETRIES = 30
const ENGINE_RETRY_MS = 1000
const OOM_RETRIES = 5
const OOM_RETRY_MS = 60
const DRAIN_IDLE_MS = 10_000
const STDERR_HEAD_BYTES = 512
