import { WeirError, isWeirError } from '../errors.js'
import { isTerminalObservedState, shortId } from '../model/index.js'
import type { AuditRecord, Execution, ExecutionId } from '../model/index.js'
import { egressSubject, outputSubject } from '../ports/index.js'
import type {
  Clock,
  EgressReadRequest,
  EgressReadResponse,
  JobStore,
  LogItem,
  OutputReadRequest,
  OutputReadResponse,
  Transport,
} from '../ports/index.js'
import type { JobWatch } from './job-watch.js'
import type { OrchestratorLimits } from './options.js'

const OUTPUT_BYTES_PER_READ = 256 * 1024
const RECORDS_PER_READ = 500
/** Between tries while a node does not answer, or does not know its new execution yet. */
const PAUSE_MS = 1_000

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
   * The output of one execution. With `follow` until it has ended; otherwise what there is. When the node is gone, the
   * short form in the execution's record stands in.
   */
  async *output(
    id: ExecutionId,
    { follow, fromEnd }: { follow: boolean; fromEnd: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogItem> {
    let [cursor, isPositioned, hasDelivered] = [0, !fromEnd, false]
    while (!signal.aborted) {
      const { execution, isOver } = await this.#look(id)
      if (execution === undefined) return
      const request: OutputReadRequest = {
        executionId: id,
        cursor,
        waitMs: follow && !isOver ? this.#parts.limits.pollMs : 0,
        bytesMax: OUTPUT_BYTES_PER_READ,
        ...(isPositioned ? {} : { fromEnd: true }),
      }
      const askedMs = this.#parts.clock.now()
      const answer = await this.#ask<OutputReadResponse>(outputSubject(execution.nodeId), request, execution)
      if (answer === undefined) {
        if (isOver && !hasDelivered && !fromEnd) yield* shortOutput(execution)
        if (isOver || !follow) return
        await this.#pause(execution, signal)
        continue
      }
      for (const { stream, data, timeMs } of answer.chunks) {
        hasDelivered = true
        yield { executionId: id, stream, data: Buffer.from(data, 'base64'), timeMs }
      }
      isPositioned = true
      cursor = answer.cursor
      const isDrained = answer.done || answer.chunks.length === 0
      if (isDrained && (isOver || !follow)) return
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
      const { execution, isOver } = await this.#look(id)
      if (execution === undefined) return
      const request: EgressReadRequest = {
        executionId: id,
        after,
        limit: RECORDS_PER_READ,
        waitMs: follow && !isOver ? this.#parts.limits.pollMs : 0,
      }
      const askedMs = this.#parts.clock.now()
      const answer = await this.#ask<EgressReadResponse>(
        egressSubject(execution.nodeId),
        request,
        execution,
        !follow,
      )
      if (answer === undefined) {
        if (isOver || !follow) return
        await this.#pause(execution, signal)
        continue
      }
      yield* answer.records
      after = answer.records.at(-1)?.sequence ?? after
      const isDrained = answer.done || answer.records.length === 0
      if (isDrained && (isOver || !follow)) return
      if (isDrained && !this.#hasWaited(askedMs)) await this.#pause(execution, signal)
    }
  }

  /** Looked up before each question, so that an answer "nothing more" after the end is final. */
  async #look(id: ExecutionId): Promise<{ execution: Execution | undefined; isOver: boolean }> {
    const execution = (await this.#parts.store.snapshot()).execution(id)
    const isOver =
      execution !== undefined &&
      (isTerminalObservedState(execution.observed.state) || execution.desired.state === 'Stopped')
    return { execution, isOver }
  }

  /** Undefined when the node does not answer or does not know the execution. */
  async #ask<T>(
    subject: string,
    request: object,
    execution: Execution,
    strict = false,
  ): Promise<T | undefined> {
    const { transport, limits } = this.#parts
    try {
      return (await transport.request(subject, request, limits.pollMs + limits.nodeAnswerMs)) as T
    } catch (error) {
      if (isWeirError(error, 'execution.not_found')) return undefined
      if (!isWeirError(error, 'transport.timeout', 'transport.no_responder')) throw error
      if (!strict) return undefined
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

function* shortOutput({ id, observed }: Execution): Iterable<LogItem> {
  const { runOutput } = observed
  const timeMs = observed.endTimeMs ?? 0
  for (const stream of ['stdout', 'stderr'] as const) {
    const text = runOutput?.[stream] ?? ''
    if (text !== '') yield { executionId: id, stream, data: Buffer.from(text), timeMs }
  }
}
