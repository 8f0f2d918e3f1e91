import { WeirError, toWeirError } from '../errors.js'
import { executionTimeoutMs, task } from '../model/task-accessors.js'
import type { RunExit, RunningExecution } from '../ports/index.js'
import { kind } from './admission.js'
import { bounded, sleepFor } from './bounded-work.js'
import { watchDisk, type WatchedPlace } from './disk-use.js'
import { ExecutionEnd, networkEnd, shutdownEnd, stoppedEnd, timeoutEnd } from './execution-end.js'
import { jobEnvironment } from './job-environment.js'
import type { PreparedInputs } from './prepare-inputs.js'
import type { PreparedOutput } from './prepare-outputs.js'
import type { Run } from './run.js'
import type { RunNetwork } from './run-network.js'

/** What the program gets to work with. */
export interface ProgramPlace {
  inputs: PreparedInputs
  outputs: PreparedOutput[]
  network: RunNetwork
}

/** How the program ended, and who ended it when it did not do so by itself. */
export interface ProgramEnd {
  exit: RunExit
  end?: ExecutionEnd
}

/** Has the engine pull what it needs and start the program. Rejects with what the engine says. */
export async function startProgram(run: Run, place: ProgramPlace): Promise<RunningExecution> {
  const { desired, parts, signal } = run
  const of = task(desired.jobSpec)
  const executor = parts.executors.get(kind(of.Engine.Type))
  if (executor === undefined) {
    throw new WeirError('compute.engine', `This node does not offer engine "${of.Engine.Type}"`)
  }
  const spec = {
    nodeId: parts.nodeId,
    jobId: desired.jobId,
    executionId: desired.executionId,
    task: of,
    engine: of.Engine,
    env: jobEnvironment(parts.nodeId, desired, place.network.env),
    resources: run.resources,
    volumes: place.inputs.volumes,
    ...(place.inputs.modules !== undefined && { modules: place.inputs.modules }),
    outputs: place.outputs.map(({ mount }) => mount),
    network: place.network.slot,
    output: run.log,
    outputBytesMax: parts.limits.outputBytesMax,
    scratchDir: run.dirs.scratch,
    beforeStart: () => rememberStart(run, place),
  }
  // An engine that cannot take programs up does not say when they begin.
  if (executor.resume === undefined) await rememberStart(run, place)
  const progress = (message: string) => run.note({ topic: 'Preparing Environment', message })
  try {
    return await bounded((inner) => executor.start(spec, progress, inner), {
      clock: parts.clock,
      signal,
      ms: parts.limits.startTimeoutMs,
      timeout: () =>
        new WeirError(
          'engine.failed',
          `The program did not start within ${parts.limits.startTimeoutMs / 1000} s`,
          {
            hint: 'Look at the log of the node; a large image may need to be pulled beforehand',
            retryable: true,
          },
        ),
      late: (running) => running.stop(0),
    })
  } catch (error) {
    signal.throwIfAborted()
    throw toWeirError(error, 'engine.failed')
  }
}

/** What may change the world must not happen twice because the node forgot it. */
async function rememberStart(run: Run, { inputs, network }: ProgramPlace): Promise<void> {
  try {
    await run.untilDurable()
    await run.remember({ phase: 'starting', inputBytes: inputs.bytes })
  } catch (error) {
    throw toWeirError(error, 'compute.disk', 'The node cannot write down that it runs the execution')
  }
  network.throwIfLost?.()
}

/**
 * Waits for the program's end and brings it about when something says so first: the time limit (from `startTimeMs`, by the
 * clock on the wall), the disk, the network, or the run's signal. A limit that is reached leaves half a second, so the
 * program is gone within one. A program that had ended before anybody watched is only measured. When the node is being stopped
 * and the program can outlive it, it is left alone and the promise rejects with that end.
 */
export async function watchProgram(
  run: Run,
  running: RunningExecution,
  place: WatchedProgram,
): Promise<ProgramEnd> {
  const limitMs = executionTimeoutMs(run.desired.jobSpec)
  if (running.hadEnded === true) return lateEnd(await running.exit, place.startTimeMs, limitMs)
  const watching = new AbortController()
  const exited = running.exit.then((exit) => ({ exit }))
  try {
    const ends = firstEnd(run, running, place, watching.signal).then((end) => ({ end }))
    const first = await Promise.race([exited, ends])
    if ('exit' in first) return first
    if (first.end.kind === 'kept' && running.leave !== undefined) {
      run.isLeft = true
      await running.leave()
      throw first.end
    }
    // A program that cannot outlive the node ends with it.
    const end = first.end.kind === 'kept' ? shutdownEnd() : first.end
    return { exit: await stopProgram(run, running, end), end }
  } finally {
    watching.abort()
  }
}

/** What watching needs to know of a program. */
export interface WatchedProgram {
  /** What its inputs take of the disk limit. */
  inputBytes: number
  startTimeMs: number
  /** Resolves when its network cannot be guarded any more. Absent: that cannot happen. */
  networkLost?: Promise<WeirError> | undefined
}

/** Nobody watched: a program that took too long by then was too late all the same. */
function lateEnd(exit: RunExit, startTimeMs: number, limitMs: number | undefined): ProgramEnd {
  const tookMs = (exit.endTimeMs ?? startTimeMs) - startTimeMs
  return limitMs !== undefined && tookMs > limitMs ? { exit, end: timeoutEnd(limitMs) } : { exit }
}

/** Never resolves when nothing ends the program from outside. */
function firstEnd(
  run: Run,
  running: RunningExecution,
  { inputBytes, startTimeMs, networkLost }: WatchedProgram,
  signal: AbortSignal,
): Promise<ExecutionEnd> {
  const { desired, parts, dirs } = run
  return new Promise((resolve) => {
    const aborted = () => resolve(asEnd(run.signal.reason))
    if (run.signal.aborted) aborted()
    run.signal.addEventListener('abort', aborted, { once: true, signal })
    const limitMs = executionTimeoutMs(desired.jobSpec)
    if (limitMs !== undefined) {
      const leftMs = startTimeMs + limitMs - parts.clock.now()
      void sleepFor(parts.clock, leftMs, signal).then((passed) => passed && resolve(timeoutEnd(limitMs)))
    }
    const bounds = {
      bytesMax: Math.max(0, run.diskBytesMax - inputBytes),
      reserveBytes: parts.limits.diskReserveBytes,
    }
    const rhythm = { clock: parts.clock, intervalMs: parts.limits.diskCheckMs }
    const places: WatchedPlace[] = [
      { dirs: [dirs.outputs, dirs.scratch], filesMax: parts.limits.resultFilesMax },
    ]
    void watchDisk(places, bounds, rhythm, signal).then((end) => end !== undefined && resolve(end))
    void networkLost?.then((reason) => resolve(networkEnd(reason)))
    void ownPlaces(run, running).then((own) => places.push(...own))
  })
}

/** Where else the program can write. Never rejects. */
async function ownPlaces({ parts, desired }: Run, running: RunningExecution): Promise<WatchedPlace[]> {
  try {
    const paths = (await running.writablePaths?.()) ?? []
    // What a program installs for itself is many files, and none of them becomes a result.
    return paths.map((path) => ({ dirs: [path], filesMax: OWN_FILES_MAX }))
  } catch (error) {
    const { executionId } = desired
    parts.logger.warn({ error, executionId }, 'only what is written to outputs counts against the disk limit')
    return []
  }
}

async function stopProgram(run: Run, running: RunningExecution, end: ExecutionEnd): Promise<RunExit> {
  const { clock, limits, logger } = run.parts
  const graceMs = end.kind === 'timeout' || end.kind === 'disk' ? limits.limitGraceMs : limits.stopGraceMs
  const patience = new AbortController()
  const gone = running.stop(graceMs).then(
    () => running.exit,
    (error: unknown) => {
      logger.error({ error, executionId: run.desired.executionId }, 'a program could not be stopped')
      return running.exit
    },
  )
  const overdue = sleepFor(clock, graceMs + KILL_PATIENCE_MS, patience.signal).then(() => undefined)
  const exit = await Promise.race([gone, overdue])
  patience.abort()
  return exit ?? { ...KILLED, message: 'The engine does not confirm that the program is gone' }
}

function asEnd(reason: unknown): ExecutionEnd {
  return reason instanceof ExecutionEnd ? reason : stoppedEnd(toWeirError(reason).message)
}

/** Files in the writable layer of a container. */
const OWN_FILES_MAX = 1_000_000
const KILL_PATIENCE_MS = 10_000
const KILLED: RunExit = Object.freeze({
  exitCode: 137,
  code: 'engine.failed',
  message: '',
  hint: '',
  details: {},
})
