import type Docker from 'dockerode'
import type { OutputStream } from '../../model/index.js'
import type { OutputSink, Clock, RunExit, RunningExecution } from '../../ports/index.js'
import { catchUp } from './catch-up.js'
import type { Delivered } from './catch-up.js'
import { describeExit } from './container-exit.js'
import type { ContainerState } from './container-exit.js'
import { engineMessage, engineStatus } from './engine-connection.js'
import { waitUntilNotRunning } from './engine-stream.js'
import { kernelKilledForMemory } from './kernel-log.js'
import type { DockerLog } from './options.js'
import { deliverOutput } from './output-frames.js'

/** The stream of both outputs as the engine sends it. */
export type AttachStream = AsyncIterable<Uint8Array> & { destroy(): void }

export interface RunningContainerInput {
  container: Docker.Container
  /** Attached before the start, so not a byte is missed. Undefined: output is read from the engine's copy. */
  stream: AttachStream | undefined
  /** Size of one file of the engine's copy of the output; 0 = there is no copy. */
  keptFileBytes: number
  output: OutputSink
  /** Goes into the exit's record. */
  details: Record<string, string>
  /** What the engine knew of a container when it was taken up. */
  found?: { startTimeMs: number; hadEnded: boolean }
  /** The container whose network this one has joined. */
  holder: Docker.Container | undefined
  clock: Clock
  log: DockerLog
}

/**
 * A container that was just started, or one that an earlier process started.
 *
 *     program ends ──→ rest of the output delivered ──→ `exit` resolves ──→ `remove`: container and its volumes removed
 *
 * Output comes over the stream that was attached before the start, which holds a program back that writes faster than
 * it is read. Where there is none, or it broke because the engine was restarted, it comes from the engine's own copy.
 *
 * Every wait is bounded: a process that cannot be killed (it hangs in the kernel) ends the run as `engine.failed`, and
 * the reaper removes the container later.
 */
export class RunningContainer implements RunningExecution {
  readonly exit: Promise<RunExit>
  readonly startTimeMs?: number
  readonly hadEnded: boolean
  /** Lets go of a program that goes on. Absent when nobody could take it up. */
  readonly leave?: () => Promise<void>
  /** Resolves when this process has nothing to do with the container any more. */
  readonly gone: Promise<void>
  readonly #in: RunningContainerInput
  readonly #giveUp = new AbortController()
  readonly #left = new AbortController()
  readonly #programEnded = new AbortController()
  readonly #delivered: Delivered
  #removed: Promise<void> | undefined
  #setGone = (): void => {}
  #ended = false
  #termSent = false
  #killSent = false
  /** The engine did not answer for a while, so what its streams said last may not be all. */
  #engineWasGone = false
  #stderrHead = ''
  #heardAtMs = 0

  constructor(input: RunningContainerInput) {
    this.#in = input
    this.#heardAtMs = input.clock.now()
    const { stdout = 0, stderr = 0, untilMs = 0 } = input.output.held ?? {}
    this.#delivered = { stdout, stderr, untilMs }
    this.hadEnded = input.found?.hadEnded ?? false
    if (input.found !== undefined) this.startTimeMs = input.found.startTimeMs
    if (input.keptFileBytes > 0) this.leave = () => this.#leave()
    this.gone = new Promise((resolve) => {
      this.#setGone = resolve
    })
    this.exit = this.#watch()
  }

  /** Removes the container and its volumes; waits for the end before. Never rejects. */
  remove(): Promise<void> {
    this.#removed ??= this.#left.signal.aborted
      ? Promise.resolve()
      : this.exit.then(() => removeContainer(this.#in.container, this.#in.log)).then(this.#setGone)
    return this.#removed
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

  async #leave(): Promise<void> {
    this.#left.abort()
    this.#in.stream?.destroy()
    this.#setGone()
  }

  async #watch(): Promise<RunExit> {
    const { stream, container, log } = this.#in
    const delivery = this.#deliver().then(
      (whole) => whole,
      () => false,
    )
    const state = await this.#waitForEnd()
    this.#programEnded.abort()
    const complete = await this.#drained(delivery)
    stream?.destroy()
    if (this.#left.signal.aborted) return new Promise(() => {})
    this.#ended = true
    const exit = describeExit(state, {
      killed: this.#killSent,
      stderrHead: this.#stderrHead,
      engineStopped: await this.#wasStoppedByEngine(state),
    })
    const endTimeMs = Date.parse(state?.FinishedAt ?? '')
    if (!complete) log.warn({ container: container.id }, 'output of a job is incomplete')
    return {
      ...exit,
      ...(endTimeMs > 0 ? { endTimeMs } : {}),
      details: { ...this.#in.details, ...exit.details, ...(complete ? {} : { outputComplete: 'false' }) },
    }
  }

  /** True when everything was delivered. Rejects when it cannot be. */
  async #deliver(): Promise<boolean> {
    const { stream, keptFileBytes } = this.#in
    if (stream !== undefined) {
      const whole = await this.#deliverStream(stream)
      if (keptFileBytes === 0) return whole
      // The stream ends with the container; ended it before, the engine is gone, and so may be bytes on their way.
      const ended = await this.#programEndsWithin(STREAM_PATIENCE_MS)
      if (this.#left.signal.aborted || (whole && ended && !this.#engineWasGone)) return true
    }
    return this.#deliverCopy()
  }

  async #deliverStream(stream: AttachStream): Promise<boolean> {
    const { clock } = this.#in
    const sink: OutputSink = {
      write: (kind, data) => {
        this.#delivered[kind] += data.length
        this.#delivered.untilMs = clock.now()
        this.#lookAt(kind, data)
        return this.#in.output.write(kind, data)
      },
    }
    try {
      await deliverOutput(stream, sink, () => this.#heard())
      return true
    } catch {
      return false
    }
  }

  /** From the engine's copy: while the container runs, and once more after its end, when the copy cannot grow any more. */
  async #deliverCopy(): Promise<boolean> {
    const { container, keptFileBytes, output, log } = this.#in
    const signal = AbortSignal.any([this.#left.signal, this.#giveUp.signal])
    for (let failures = 0; failures < COPY_RETRIES; ) {
      const isLast = this.#programEnded.signal.aborted
      this.#stderrHead = ''
      try {
        await catchUp(
          {
            container,
            fileBytes: keptFileBytes,
            sink: output,
            delivered: this.#delivered,
            seen: (kind, data) => this.#lookAt(kind, data),
            heard: () => this.#heard(),
          },
          { follow: !isLast },
          signal,
        )
        if (isLast || signal.aborted) return !signal.aborted
      } catch (error) {
        failures += 1
        log.warn({ container: container.id, error: engineMessage(error) }, 'reading output was interrupted')
      }
      await this.#programEndsWithin(COPY_RETRY_MS)
      if (signal.aborted) return false
    }
    return false
  }

  /** The container's last state; undefined when it cannot be had any more. Never rejects. */
  async #waitForEnd(): Promise<ContainerState | undefined> {
    const { container, clock } = this.#in
    const stopped = AbortSignal.any([this.#giveUp.signal, this.#left.signal])
    for (let failures = 0; failures < ENGINE_RETRIES; failures++) {
      if (stopped.aborted) return undefined
      try {
        await this.#waitOrLook(stopped)
        return await this.#finalState()
      } catch (error) {
        if (engineStatus(error) === 404 || stopped.aborted) return undefined
        if (engineStatus(error) === undefined) this.#engineWasGone = true
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
   * Asks the engine to say when the container has ended, and looks now and then by itself: an engine that was restarted
   * may have forgotten that somebody waits.
   */
  async #waitOrLook(stopped: AbortSignal): Promise<void> {
    const { container, clock } = this.#in
    for (;;) {
      const round = new AbortController()
      const waiting = waitUntilNotRunning(container, AbortSignal.any([stopped, round.signal]))
      const look = clock.sleep(LOOK_MS, round.signal).then(
        () => 'look' as const,
        () => 'over' as const,
      )
      try {
        if ((await Promise.race([waiting, look])) !== 'look') return
        const { State } = await container.inspect()
        if (!State.Running) return
      } finally {
        round.abort()
        waiting.catch(() => {
          /* It was ended by us, or has said so already. */
        })
      }
    }
  }

  /**
   * On a full memory limit the engine hears of the kill on another road than of the end, so it may know the reason a
   * moment later, or never; then the kernel's log is asked.
   */
  async #finalState(): Promise<ContainerState> {
    for (let tries = 0; ; tries++) {
      const { State } = (await this.#in.container.inspect()) as { State: ContainerState }
      const unexplained = State.ExitCode === 137 && !State.OOMKilled && !this.#killSent
      if (!unexplained) return State
      if (tries >= OOM_RETRIES)
        return { ...State, OOMKilled: await kernelKilledForMemory(this.#in.container.id) }
      await this.#in.clock.sleep(OOM_RETRY_MS)
    }
  }

  /** True when everything was delivered; false when the stream broke or said nothing for too long after the end. */
  async #drained(delivery: Promise<boolean>): Promise<boolean> {
    const { clock, stream } = this.#in
    if (this.#left.signal.aborted) return true
    this.#heardAtMs = clock.now()
    for (;;) {
      const done = await Promise.race([delivery, clock.sleep(DRAIN_IDLE_MS).then(() => undefined)])
      if (done !== undefined) return done
      const silentMs = clock.now() - this.#heardAtMs
      if (silentMs < DRAIN_IDLE_MS && !this.#giveUp.signal.aborted) continue
      stream?.destroy()
      this.#giveUp.abort()
      return false
    }
  }

  /**
   * An engine that is stopped ends every container, and nobody tells a job's own death by a signal from that, but for this:
   * the holder of its network, which never ends by itself, has ended as well.
   */
  async #wasStoppedByEngine(state: ContainerState | undefined): Promise<boolean> {
    const { holder, clock } = this.#in
    const bySignal = state !== undefined && state.ExitCode > 128 && !state.OOMKilled
    if (!bySignal || this.#killSent || this.#termSent || holder === undefined) return false
    for (let looks = 0; looks < HOLDER_LOOKS; looks++) {
      try {
        const { State } = await holder.inspect()
        if (!State.Running) return true
      } catch (error) {
        // No answer at all: then it is just going down.
        return engineStatus(error) === undefined
      }
      await clock.sleep(HOLDER_LOOK_MS)
    }
    return false
  }

  #heard(): void {
    this.#heardAtMs = this.#in.clock.now()
  }

  #lookAt(kind: OutputStream, data: Uint8Array): void {
    if (kind !== 'stderr' || this.#stderrHead.length >= STDERR_HEAD_BYTES) return
    this.#stderrHead += Buffer.from(data.subarray(0, STDERR_HEAD_BYTES)).toString('latin1')
  }

  /** True when the program has ended by then; false also when nobody waits any more. */
  async #programEndsWithin(ms: number): Promise<boolean> {
    const ended = this.#programEnded.signal
    const wake = AbortSignal.any([ended, this.#left.signal, this.#giveUp.signal])
    if (!wake.aborted) await this.#in.clock.sleep(ms, wake).catch(() => {})
    return ended.aborted
  }

  /** Not waited for: the engine may hold the answer back until the process is gone. */
  #signal(signal: string): void {
    const { container, log } = this.#in
    container.kill({ signal }).catch(async (error: unknown) => {
      if (/is paused/.test(engineMessage(error))) {
        // Somebody has paused it; a paused program gets no signal.
        await container
          .unpause()
          .then(() => container.kill({ signal }))
          .catch(() => {})
        return
      }
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
/** An engine that is restarted waits for its containers to end, and takes its time to come back. */
const ENGINE_RETRIES = 120
const ENGINE_RETRY_MS = 1000
/** How long the engine's silence is believed. */
const LOOK_MS = 30_000
const OOM_RETRIES = 5
const OOM_RETRY_MS = 60
const DRAIN_IDLE_MS = 10_000
/** The engine ends its containers side by side. */
const HOLDER_LOOKS = 3
const HOLDER_LOOK_MS = 150
const STREAM_PATIENCE_MS = 2_000
const COPY_RETRIES = 120
const COPY_RETRY_MS = 1_000
const STDERR_HEAD_BYTES = 512
