import { WeirError, isWeirError } from '../errors.js'
import { isTerminalObservedState, shortId } from '../model/index.js'
import type { AuditRecord, Execution, ExecutionId } from '../model/index.js'
import { egressSubject, outputSubject } from '../ports/index.js'
import type {
  Clock,
  EgressReadRequest,
  JobStore,
  LogItem,
  LogQuery,
  OutputReadRequest,
  Transport,
} from '../ports/index.js'
import type { JobWatch } from './job-watch.js'
import { nodeError, readEgressAnswer, readOutputAnswer } from './node-answer.js'
import type { OrchestratorLimits } from './options.js'

const OUTPUT_BYTES_PER_READ = 256 * 1024
/** What all answers that are under way for one reader may hold together, as far as each can be that small. */
const OUTPUT_BYTES_OPEN = 16 * 1024 ** 2
const OUTPUT_BYTES_MIN = 16 * 1024
/** A program that was told to stop is listened to for so long. */
const LAST_WORDS_MS = 15_000
const AWAY = Symbol('the node does not answer')
const UNKNOWN = Symbol('the node does not know the execution')
const RECORDS_PER_READ = 500
/** Between tries while a node does not answer, or does not know its new execution yet. */
const PAUSE_MS = 1_000

/** What is wanted of an execution's output. */
export type OutputQuery = Pick<LogQuery, 'follow' | 'fromEnd' | 'tailLines' | 'sinceMs'> & {
  notices?: boolean
}

interface Looked {
  execution: Execution | undefined
  /** It has ended. */
  isOver: boolean
  /** It is no longer wanted and has not ended as far as anybody knows. */
  isStopping: boolean
  /** Its node is there. */
  isConnected: boolean
}

export interface NodeReaderParts {
  store: JobStore
  transport: Transport
  watch: JobWatch
  clock: Clock
  limits: OrchestratorLimits
}

/** Reads what nodes keep of their executions, by long polls that survive pauses of the node. */
export class NodeReader {
  readonly #parts: NodeReaderParts

  constructor(parts: NodeReaderParts) {
    this.#parts = parts
  }

  /**
   * The output of one execution. With `follow` until it has ended; otherwise what there is. When the node is away, the
   * short form in the execution's record stands in for what has ended; what still runs is waited for. `notices`: both are
   * said. `open` says how many are read side by side: they share the memory for answers.
   */
  async *output(
    id: ExecutionId,
    query: OutputQuery,
    signal: AbortSignal,
    open: () => number,
  ): AsyncIterable<LogItem> {
    const { follow, fromEnd, notices } = query
    let [cursor, isPositioned, hasDelivered, isAway] = [0, false, false, false]
    while (!signal.aborted) {
      const { execution, isOver, isStopping, isConnected } = await this.#look(id)
      if (execution === undefined) return
      const say = (text: string): LogItem[] => (notices === true ? [notice(execution, text)] : [])
      const waits = follow && !isOver
      const request: OutputReadRequest = {
        executionId: id,
        cursor,
        waitMs: waits ? this.#parts.limits.pollMs : 0,
        bytesMax: answerBytes(open()),
        ...(isPositioned ? {} : startOf(query)),
      }
      const askedMs = this.#parts.clock.now()
      const { nodeId } = execution
      const asked = isConnected
        ? await this.#ask(outputSubject(nodeId), request, execution, (body) => readOutputAnswer(body, nodeId))
        : AWAY
      if (asked === AWAY || asked === UNKNOWN) {
        if (isOver || isStopping) {
          yield* say(goneText(execution, asked, hasDelivered))
          if (!hasDelivered && !fromEnd) yield* shortOutput(execution, query)
          return
        }
        if (!follow) {
          if (asked === AWAY) yield* say(awayText(execution))
          return
        }
        if (asked === AWAY && !isAway) yield* say(`${awayText(execution)}; waiting for it`)
        isAway ||= asked === AWAY
        await this.#pause(execution, signal)
        continue
      }
      if (isAway) yield* say(`${shortId(execution.nodeId)} answers again`)
      isAway = false
      for (const { stream, data, timeMs } of asked.chunks) {
        hasDelivered = true
        yield { executionId: id, stream, data: Buffer.from(data, 'base64'), timeMs }
      }
      isPositioned = true
      cursor = asked.cursor
      const isDrained = asked.done || asked.chunks.length === 0
      // A program that is being stopped may still say something: until the node says that it is done, or takes too long.
      const isLast = asked.done || isOver || !follow || this.#isLate(execution)
      if (isDrained && isLast && (isOver || isStopping || !follow)) {
        if (asked.truncated) yield* say('more was written than is kept: the rest was dropped')
        return
      }
      // The node has nothing more, and the end of the execution has not been heard of yet; or it does not wait.
      if (isDrained && !this.#hasWaited(askedMs)) await this.#pause(execution, signal)
    }
  }

  /** The egress records of one execution, in order. Rejects when the node that keeps them does not answer. */
  async *egress(
    id: ExecutionId,
    { follow }: { follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<AuditRecord> {
    let after = 0
    while (!signal.aborted) {
      const { execution, isOver, isStopping } = await this.#look(id)
      if (execution === undefined) return
      const request: EgressReadRequest = {
        executionId: id,
        after,
        limit: RECORDS_PER_READ,
        waitMs: follow && !isOver && !isStopping ? this.#parts.limits.pollMs : 0,
      }
      const askedMs = this.#parts.clock.now()
      const { nodeId } = execution
      const read = (body: unknown) => readEgressAnswer(body, request.after, nodeId)
      const answer = await this.#ask(egressSubject(nodeId), request, execution, read, !follow)
      if (answer === AWAY || answer === UNKNOWN) {
        if (isOver || isStopping || !follow) return
        await this.#pause(execution, signal)
        continue
      }
      yield* answer.records
      after = answer.records.at(-1)?.sequence ?? after
      const isDrained = answer.done || answer.records.length === 0
      if (isDrained && (isOver || isStopping || !follow)) return
      if (isDrained && !this.#hasWaited(askedMs)) await this.#pause(execution, signal)
    }
  }

  /** Looked up before each question, so that an answer "nothing more" after the end is final. */
  async #look(id: ExecutionId): Promise<Looked> {
    const snapshot = await this.#parts.store.snapshot()
    const execution = snapshot.execution(id)
    if (execution === undefined) return { execution, isOver: true, isStopping: false, isConnected: false }
    const isOver = isTerminalObservedState(execution.observed.state)
    const isStopping = !isOver && execution.desired.state === 'Stopped'
    const isConnected = snapshot.node(execution.nodeId)?.connection === 'CONNECTED'
    return { execution, isOver, isStopping, isConnected }
  }

  /** {@link AWAY} when the node does not answer, {@link UNKNOWN} when it does not know the execution. */
  async #ask<T>(
    subject: string,
    request: { waitMs: number },
    execution: Execution,
    read: (body: unknown) => T,
    strict = false,
  ): Promise<T | typeof AWAY | typeof UNKNOWN> {
    const { transport, limits } = this.#parts
    try {
      return read(await transport.request(subject, request, request.waitMs + limits.nodeAnswerMs))
    } catch (error) {
      if (isWeirError(error, 'execution.not_found')) return UNKNOWN
      if (!isWeirError(error, 'transport.timeout', 'transport.no_responder'))
        throw nodeError(error, execution.nodeId)
      if (!strict) return AWAY
      const node = shortId(execution.nodeId)
      throw new WeirError(
        error.code,
        `Cannot read the records of ${shortId(execution.id)}: ${node} does not answer`,
        {
          hint: 'The records are kept by the node that ran the execution; try again when it is back.',
          retryable: true,
          cause: error,
        },
      )
    }
  }

  /** True when a program that is to stop has had enough time for its last words. */
  #isLate({ desired }: Execution): boolean {
    return desired.state === 'Stopped' && this.#parts.clock.now() >= desired.sinceMs + LAST_WORDS_MS
  }

  #hasWaited(sinceMs: number): boolean {
    return this.#parts.clock.now() - sinceMs >= PAUSE_MS
  }

  /** Until something about the job changes, at most a second. */
  async #pause({ jobId }: Execution, signal: AbortSignal): Promise<void> {
    const done = new AbortController()
    const stopListening = this.#parts.watch.listen(jobId, () => done.abort())
    const onAbort = (): void => done.abort()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await this.#parts.clock.sleep(PAUSE_MS, done.signal)
    } catch {
      // Woken early: that is what the signal is for.
    } finally {
      stopListening()
      signal.removeEventListener('abort', onAbort)
    }
  }
}

function answerBytes(open: number): number {
  const share = Math.floor(OUTPUT_BYTES_OPEN / Math.max(1, open))
  return Math.max(OUTPUT_BYTES_MIN, Math.min(OUTPUT_BYTES_PER_READ, share))
}

/** Where reading begins, for the first question. */
function startOf({ fromEnd, tailLines, sinceMs }: OutputQuery): Partial<OutputReadRequest> {
  return {
    ...(fromEnd ? { fromEnd } : {}),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(sinceMs === undefined ? {} : { sinceMs }),
  }
}

function* shortOutput({ id, observed }: Execution, { tailLines, sinceMs }: OutputQuery): Iterable<LogItem> {
  const { runOutput } = observed
  const timeMs = observed.endTimeMs ?? 0
  if (sinceMs !== undefined && timeMs < sinceMs) return
  for (const stream of ['stdout', 'stderr'] as const) {
    const whole = runOutput?.[stream] ?? ''
    const text = tailLines === undefined ? whole : lastLines(whole, tailLines)
    if (text !== '') yield { executionId: id, stream, data: Buffer.from(text), timeMs }
  }
}

function lastLines(text: string, count: number): string {
  const lines = text.split(/(?<=\n)/)
  return count === 0 ? '' : lines.slice(-count).join('')
}

function notice({ id }: Execution, text: string): LogItem {
  return { executionId: id, stream: 'stderr', data: new Uint8Array(), timeMs: 0, notice: text }
}

function awayText({ nodeId }: Execution): string {
  return `${shortId(nodeId)} does not answer, so its output cannot be read`
}

/** Of an execution that has ended, or will not be waited for. */
function goneText(execution: Execution, why: typeof AWAY | typeof UNKNOWN, hasDelivered: boolean): string {
  const node = shortId(execution.nodeId)
  const reason = why === AWAY ? `${node} does not answer` : `${node} no longer keeps its output`
  if (hasDelivered) return `${reason}: output may be missing`
  const { runOutput } = execution.observed
  if (runOutput === undefined) return `${reason}: there is no output`
  const isCut = runOutput.stdoutTruncated || runOutput.stderrTruncated
  return isCut ? `${reason}: these are the first 2 KiB` : `${reason}: this is what its record has`
}
