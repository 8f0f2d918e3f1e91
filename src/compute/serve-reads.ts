import { WeirError } from '../errors.js'
import type { AuditRecord } from '../model/audit.js'
import type { ExecutionId } from '../model/state.js'
import type {
  AuditLog,
  Clock,
  EgressReadRequest,
  EgressReadResponse,
  OutputReadRequest,
  OutputReadResponse,
} from '../ports/index.js'
import { sleepFor } from './bounded-work.js'
import { hasEnded, type ExecutionBook, type ExecutionRecord } from './execution-book.js'
import { isSafeId } from './execution-dirs.js'
import type { OutputIndex, OutputStart } from './output-index.js'
import { readOutput, type OutputLog } from './output-log.js'

/** What reading needs of the node. */
export interface ReadParts {
  book: ExecutionBook
  /** The log of an execution that has not ended. */
  liveLog: (id: ExecutionId) => OutputLog | undefined
  auditLog?: AuditLog
  clock: Clock
  index: OutputIndex
}

/**
 * Long poll for output, see `OutputReadRequest`. Works the same while the program runs and after it ended, also after a
 * restart. Rejects with `execution.not_found` or `api.bad_request`. The answer fits into a message.
 */
export async function readExecutionOutput(
  request: OutputReadRequest,
  parts: ReadParts,
  signal: AbortSignal,
): Promise<OutputReadResponse> {
  const record = findRecord(request.executionId, parts)
  const cursor = boundedNumber('cursor', request.cursor, 0, Number.MAX_SAFE_INTEGER)
  const waitMs = boundedNumber('waitMs', request.waitMs, 0, WAIT_MS_MAX)
  const bytesMax = Math.max(
    OUTPUT_BYTES_MIN,
    boundedNumber('bytesMax', request.bytesMax, 0, OUTPUT_BYTES_MAX),
  )
  const log = parts.liveLog(request.executionId)
  if (request.fromEnd === true) return fromEnd(record, log)

  const size = log?.size ?? record.logBytes
  const start = await findStart(record.dirs.outputFile, size, request, parts)
  const from = start?.cursor ?? cursor
  if (log !== undefined) await waitForOutput(log, from, waitMs, parts.clock, signal)
  // Asked before reading: what arrives in between is then simply not the last page.
  const ended = log === undefined || log.ended
  const page = await readOutput(record.dirs.outputFile, from, bytesMax)
  const [first] = page.entries
  if (first !== undefined && start !== undefined) first.data = first.data.subarray(start.skip)
  return {
    chunks: page.entries.map(({ stream, data, timeMs }) => ({
      stream,
      data: data.toString('base64'),
      timeMs,
    })),
    cursor: page.cursor,
    done: ended && (page.entries.length === 0 || page.cursor >= (log?.size ?? record.logBytes)),
    truncated: log?.truncated ?? record.outputTruncated,
  }
}

/** Long poll for egress records, see `EgressReadRequest`. Without an audit log there are none. */
export async function readExecutionEgress(
  request: EgressReadRequest,
  parts: ReadParts,
  signal: AbortSignal,
): Promise<EgressReadResponse> {
  const record = findRecord(request.executionId, parts)
  const after = boundedNumber('after', request.after, 0, Number.MAX_SAFE_INTEGER)
  const limit = boundedNumber('limit', request.limit, 1, RECORDS_MAX)
  const untilMs = parts.clock.now() + boundedNumber('waitMs', request.waitMs, 0, WAIT_MS_MAX)
  for (;;) {
    // Asked before reading: nothing is recorded after the end.
    const ended = hasEnded(parts.book.get(request.executionId) ?? record)
    const read = (await parts.auditLog?.read(request.executionId, after, limit)) ?? []
    const records = withinMessage(read)
    const done = ended && records.length === read.length && read.length < limit
    const leftMs = untilMs - parts.clock.now()
    if (records.length > 0 || done || leftMs <= 0 || signal.aborted) return { records, done }
    await sleepFor(parts.clock, Math.min(EGRESS_POLL_MS, leftMs), signal)
  }
}

const WAIT_MS_MAX = 10_000
const OUTPUT_BYTES_MIN = 1_024
const OUTPUT_BYTES_MAX = 512 * 1024
const RECORDS_MAX = 1_000
const RECORDS_BYTES_MAX = 700 * 1024
const EGRESS_POLL_MS = 200

function findRecord(id: unknown, { book }: ReadParts): ExecutionRecord {
  const record = isSafeId(id) ? book.get(id) : undefined
  if (record !== undefined) return record
  throw new WeirError(
    'execution.not_found',
    `This node has no execution ${JSON.stringify(id)?.slice(0, 80)}`,
    {
      hint: 'The logs of ended executions are kept for a limited time',
    },
  )
}

/** Undefined when the cursor decides. */
async function findStart(
  file: string,
  size: number,
  request: OutputReadRequest,
  { index }: ReadParts,
): Promise<OutputStart | undefined> {
  if (request.tailLines === undefined && request.sinceMs === undefined) return undefined
  return index.find(file, size, {
    tailLines: optionalNumber('tailLines', request.tailLines),
    sinceMs: optionalNumber('sinceMs', request.sinceMs),
  })
}

function fromEnd(record: ExecutionRecord, log: OutputLog | undefined): OutputReadResponse {
  return {
    chunks: [],
    cursor: log?.size ?? record.logBytes,
    done: log === undefined || log.ended,
    truncated: log?.truncated ?? record.outputTruncated,
  }
}

async function waitForOutput(
  log: OutputLog,
  cursor: number,
  waitMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController()
  const forward = () => stop.abort()
  signal.addEventListener('abort', forward, { once: true })
  const changed = log.changed(cursor, stop.signal)
  await Promise.race([changed, sleepFor(clock, waitMs, stop.signal)])
  stop.abort()
  signal.removeEventListener('abort', forward)
}

/** As many of the first records as fit into one message, at least one. */
function withinMessage(records: readonly AuditRecord[]): AuditRecord[] {
  let bytes = 0
  const fitting = records.findIndex((record, index) => {
    bytes += Buffer.byteLength(JSON.stringify(record))
    return index > 0 && bytes > RECORDS_BYTES_MAX
  })
  return fitting < 0 ? [...records] : records.slice(0, fitting)
}

function optionalNumber(name: string, value: unknown): number | undefined {
  return value === undefined ? undefined : boundedNumber(name, value, 0, Number.MAX_SAFE_INTEGER)
}

function boundedNumber(name: string, value: unknown, least: number, most: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return Math.min(most, Math.max(least, value))
  throw new WeirError(
    'api.bad_request',
    `Cannot read ${name} ${JSON.stringify(value)?.slice(0, 40)}: a whole number is expected`,
  )
}
