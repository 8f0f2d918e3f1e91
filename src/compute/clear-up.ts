import { stat } from 'node:fs/promises'
import { WeirError, toWeirError } from '../errors.js'
import type { ExecutionId } from '../model/state.js'
import { task } from '../model/task-accessors.js'
import type { Clock, Executor } from '../ports/index.js'
import { kind } from './admission.js'
import { bounded } from './bounded-work.js'
import { hasEnded, type ExecutionBook, type ExecutionRecord } from './execution-book.js'
import { removeWorkDirs } from './execution-dirs.js'
import { failed } from './run-execution.js'
import type { ComputeLogger } from './options.js'
import type { RunMemory } from './run-memory.js'

/** An execution of an earlier process that goes on in this one. */
export interface Survivor {
  record: ExecutionRecord
  memory: RunMemory
}

/**
 * Reads what an earlier process left and decides what goes on: see `resume-execution.ts`. Of everything else the engines
 * remove what they find, work directories go, and what was active is reported as lost, with the reason. Nothing here stops the
 * node from starting: what cannot be removed is logged.
 */
export async function clearUp(parts: {
  book: ExecutionBook
  executors: ReadonlyMap<string, Executor>
  bootId: string
  clock: Clock
  logger: ComputeLogger
}): Promise<Survivor[]> {
  const { book, executors, logger } = parts
  await book.load()
  const survivors: Survivor[] = []
  const losses = new Map<ExecutionId, string>()
  for (const record of book.all()) {
    if (hasEnded(record)) continue
    const verdict = whyLost(record, parts)
    if (typeof verdict === 'string') losses.set(record.executionId, verdict)
    else survivors.push({ record, memory: verdict })
  }
  const keep = new Set(
    survivors.filter(({ memory }) => memory.phase === 'starting').map(({ record }) => record.executionId),
  )
  await Promise.all([...executors.values()].map((executor) => reapEngine(executor, keep, parts)))
  const goesOn = new Set(survivors.map(({ record }) => record.executionId))
  for (const record of book.all()) {
    const { executionId } = record
    if (goesOn.has(executionId)) continue
    try {
      await removeWorkDirs(record.dirs)
    } catch (error) {
      logger.warn({ error, executionId }, 'leftover directories could not be removed')
    }
    const reason = losses.get(executionId)
    if (reason === undefined) continue
    const { observed, event } = failed(restarted(reason))
    const bytes = await sizeOf(record.dirs.outputFile)
    await book.end(executionId, observed, event, { bytes, truncated: true })
    logger.info({ executionId, reason }, 'reports an execution that was active before the restart as lost')
  }
  return survivors
}

/** The memory to go on with, or the reason why that is impossible. */
function whyLost(
  { memory, unreadable }: ExecutionRecord,
  { executors, bootId }: { executors: ReadonlyMap<string, Executor>; bootId: string },
): RunMemory | string {
  if (memory === undefined)
    return `The node was restarted, and ${unreadable ?? 'remembers nothing of the execution'}`
  if (memory.bootId !== bootId) return 'The machine of the node was restarted, which ended the program'
  if (memory.phase !== 'starting') return memory
  const engine = kind(task(memory.desired.jobSpec).Engine.Type)
  const executor = executors.get(engine)
  if (executor === undefined) return `The node was restarted, and offers engine "${engine}" no more`
  if (executor.resume !== undefined) return memory
  const programs = engine === 'wasm' ? 'WebAssembly programs' : `programs of engine "${engine}"`
  return `The server was restarted; ${programs} cannot be taken up again`
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size
  } catch {
    return 0 // It has written nothing.
  }
}

async function reapEngine(
  executor: Executor,
  keep: ReadonlySet<ExecutionId>,
  { clock, logger }: { clock: Clock; logger: ComputeLogger },
): Promise<void> {
  try {
    const removed = await bounded(() => executor.reap(keep), {
      clock,
      signal: new AbortController().signal,
      ms: REAP_MS,
      timeout: () => new WeirError('engine.unavailable', `${executor.engine} does not finish clearing up`),
    })
    if (removed.length > 0)
      logger.info({ engine: executor.engine, removed }, 'removed what an earlier process left')
  } catch (error) {
    const { message } = toWeirError(error)
    logger.warn({ engine: executor.engine, message }, 'the engine could not clear up')
  }
}

const REAP_MS = 60_000

function restarted(message: string): WeirError {
  return new WeirError('execution.lost', message, {
    retryable: true,
    hint: 'The job is tried again if its type allows',
  })
}
