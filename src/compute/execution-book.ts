import { mkdir, readFile, readdir, stat } from 'node:fs/promises'
import { toWeirError, WeirError } from '../errors.js'
import type { DesiredExecution, ExecutionEvent, ObservedReport } from '../model/sync.js'
import {
  isTerminalObservedState,
  type ExecutionId,
  type JobId,
  type ObservedExecution,
} from '../model/state.js'
import type { Clock } from '../ports/index.js'
import {
  executionDirs,
  executionsDir,
  isSafeId,
  syncToDisk,
  writeAtomically,
  type ExecutionDirs,
} from './execution-dirs.js'
import type { ComputeLogger } from './options.js'
import { removeTree } from './remove-tree.js'
import type { RunMemory } from './run-memory.js'

/** What the node knows about one execution. */
export interface ExecutionRecord {
  readonly executionId: ExecutionId
  readonly jobId: JobId
  readonly dirs: ExecutionDirs
  readonly observed: ObservedExecution
  /** Not acknowledged yet; each with the sequence of the report that carries it first. */
  readonly events: readonly { event: ExecutionEvent; sequence: number }[]
  /** Reports up to this sequence have arrived. */
  readonly acknowledged: number
  /** Bytes of the output log, once the execution has ended. */
  readonly logBytes: number
  /** True when output was dropped. */
  readonly outputTruncated: boolean
  /** What taking it up in another process needs; undefined before the acceptance and after the end. */
  readonly memory?: RunMemory
  /** Why an earlier process's execution cannot be taken up; absent when nothing is in the way. */
  readonly unreadable?: string
}

/** A line for the job's history. */
export interface EventDraft {
  topic: string
  message: string
  details?: Record<string, string>
}

/** How soon the orchestrator should hear of a change: an end at once, other states together with what follows. */
export type Urgency = 'now' | 'soon'

/** True when nothing more will happen to the execution. */
export function hasEnded({ observed }: ExecutionRecord): boolean {
  return isTerminalObservedState(observed.state)
}

/**
 * The node's memory of its executions and the only writer of their observed state.
 *
 * Each accepted execution has a state file that is written before anybody hears of its acceptance and again before
 * anybody hears of its end; so after a crash of the process the node knows what was active. A power cut is another
 * matter: the program starts only when the acceptance survives one ({@link ExecutionBook.untilDurable}), while an end that is
 * lost by one is reported as lost, which counts for nothing if the end itself was heard. In between, the phases of a run
 * ({@link RunMemory}) are written, each before it is true; sequence numbers grow in memory only: after a restart they go on
 * far above anything that can have been sent.
 */
export class ExecutionBook {
  readonly #dataDir: string
  readonly #clock: Clock
  readonly #logger: ComputeLogger
  readonly #onChange: (urgency: Urgency) => void
  readonly #records = new Map<ExecutionId, Draft>()
  readonly #writing = new Set<Promise<void>>()
  readonly #damaged = new Map<ExecutionId, string>()

  constructor(parts: {
    dataDir: string
    clock: Clock
    logger: ComputeLogger
    onChange: (urgency: Urgency) => void
  }) {
    this.#dataDir = parts.dataDir
    this.#clock = parts.clock
    this.#logger = parts.logger
    this.#onChange = parts.onChange
  }

  /**
   * Reads the state files of earlier processes. Directories without a readable one are removed; {@link ExecutionBook.damage}
   * remembers them.
   */
  async load(): Promise<void> {
    const parent = executionsDir(this.#dataDir)
    await mkdir(parent, { recursive: true, mode: 0o700 })
    for (const name of await readdir(parent)) {
      const dirs = executionDirs(this.#dataDir, name)
      const saved = isSafeId(name) ? await this.#readState(dirs) : undefined
      if (saved !== undefined && saved.executionId === name) {
        const desired = saved.run === undefined ? undefined : await readDesired(dirs, name)
        this.#records.set(name, revive(saved, dirs, desired))
        continue
      }
      if (isSafeId(name)) this.#damaged.set(name, "The node's record of the execution is damaged")
      this.#logger.warn({ directory: name }, 'removes an execution directory without a readable state')
      await removeTree(`${parent}/${name}`)
    }
  }

  /** Begins a record, in memory only. `sequence`: what the orchestrator has stored already. */
  open({ executionId, jobId, observedSequence = 0 }: DesiredExecution): ExecutionRecord {
    const record: Draft = {
      executionId,
      jobId,
      dirs: executionDirs(this.#dataDir, executionId),
      observed: {
        state: 'New',
        sequence: observedSequence,
        message: '',
        code: '',
        hint: '',
        retryable: false,
      },
      events: [],
      // An event takes a sequence, so none can have had a higher index.
      eventIndex: observedSequence,
      notes: 0,
      ending: false,
      acknowledged: observedSequence,
      logBytes: 0,
      outputTruncated: false,
      saved: false,
    }
    this.#records.set(executionId, record)
    return record
  }

  /** Why the node knows nothing of an execution that it had accepted; undefined when it never had any trace of it. */
  damage(id: ExecutionId): string | undefined {
    return this.#damaged.get(id)
  }

  get(id: ExecutionId): ExecutionRecord | undefined {
    return this.#records.get(id)
  }

  all(): ExecutionRecord[] {
    return [...this.#records.values()]
  }

  /** Changes the observed state in memory. Terminal states go through {@link end}. Ignored after the end. */
  observe(id: ExecutionId, change: Partial<ObservedExecution>, event?: EventDraft): void {
    const record = this.#records.get(id)
    if (record === undefined || record.ending) return
    this.#change(record, change, event)
    this.#onChange('soon')
  }

  /** Adds a line to the history. At most 200 per execution; then one more says that lines are missing. */
  note(id: ExecutionId, event: EventDraft): void {
    const record = this.#records.get(id)
    if (record === undefined || record.ending || record.notes > NOTES_MAX) return
    record.notes += 1
    const last = record.notes > NOTES_MAX
    this.#change(record, {}, last ? { ...event, message: 'Further progress is not recorded' } : event)
    this.#onChange('soon')
  }

  /** Writes the acceptance down, then reports it. Rejects with `compute.disk` when the disk takes nothing. */
  async accept(id: ExecutionId, memory: RunMemory): Promise<void> {
    const record = this.#records.get(id)
    if (record === undefined) return
    try {
      await mkdir(record.dirs.root, { recursive: true, mode: 0o700 })
      await writeAtomically(record.dirs.desiredFile, JSON.stringify(memory.desired))
      record.memory = memory
      await this.#save(record, { ...record.observed, state: 'Accepted' })
    } catch (error) {
      delete record.memory
      if (!record.saved) await removeTree(record.dirs.root).catch(() => undefined)
      throw unwritable(error)
    }
    record.durable = syncToDisk(record.dirs.stateFile, record.dirs.root)
    // Whoever starts the program hears of it; until then it must not count as unhandled.
    record.durable.catch(() => undefined)
    this.#change(record, { state: 'Accepted' })
    this.#onChange('soon')
  }

  /**
   * Writes down how far the execution has come, with its observed state. Rejects with `compute.disk`; then what was to be
   * remembered must not become true. Does nothing after the end.
   */
  async remember(id: ExecutionId, change: Partial<RunMemory>): Promise<void> {
    const record = this.#records.get(id)
    if (record?.memory === undefined || record.ending) return
    record.memory = { ...record.memory, ...change }
    try {
      await this.#save(record, record.observed)
      // The program begins only when this survives a power cut, too.
      if (change.phase === 'starting') await syncToDisk(record.dirs.stateFile, record.dirs.root)
    } catch (error) {
      throw unwritable(error)
    }
  }

  /** Resolves when the acceptance survives a power cut; rejects when the disk cannot promise that. */
  async untilDurable(id: ExecutionId): Promise<void> {
    await this.#records.get(id)?.durable
  }

  /**
   * Ends the execution: written first, then reported. Executions that were never accepted leave nothing on disk.
   * A second end is ignored.
   */
  async end(
    id: ExecutionId,
    change: Partial<ObservedExecution>,
    event?: EventDraft,
    log: { bytes: number; truncated: boolean } = { bytes: 0, truncated: false },
  ): Promise<void> {
    const record = this.#records.get(id)
    if (record === undefined || record.ending) return
    record.ending = true
    record.logBytes = log.bytes
    record.outputTruncated = log.truncated
    const full = { ...change, endTimeMs: this.#clock.now() }
    const after: Draft = { ...record, events: [...record.events] }
    delete after.memory
    this.#change(after, full, event)
    try {
      if (record.saved) await this.#write(record, stateOf(after, after.observed))
      delete record.memory
    } catch (error) {
      // Reported all the same; after a crash the node would report it as lost, which the orchestrator then ignores.
      this.#logger.error({ error, executionId: id }, 'the state of an execution could not be written')
    }
    Object.assign(record, { observed: after.observed, events: after.events, eventIndex: after.eventIndex })
    this.#onChange('now')
    if (record.saved) this.#track(syncToDisk(record.dirs.stateFile, record.dirs.root))
  }

  /** Reports that were not acknowledged, oldest change first, at most `bytesMax` of JSON but at least one. */
  reports(bytesMax: number): { reports: ObservedReport[]; more: boolean } {
    const reports: ObservedReport[] = []
    let bytes = 0
    for (const { executionId, jobId, observed, events, acknowledged } of this.#records.values()) {
      if (observed.sequence <= acknowledged) continue
      const report = { executionId, jobId, observed, events: events.map(({ event }) => event) }
      bytes += Buffer.byteLength(JSON.stringify(report))
      if (bytes > bytesMax && reports.length > 0) return { reports, more: true }
      reports.push(report)
    }
    return { reports, more: false }
  }

  acknowledge(sequences: Readonly<Record<ExecutionId, number>>): void {
    for (const [id, sequence] of Object.entries(sequences)) {
      const record = this.#records.get(id)
      if (record === undefined || !(sequence > record.acknowledged)) continue
      if (sequence > record.observed.sequence) {
        this.#surpass(record, sequence)
        continue
      }
      record.acknowledged = Math.min(sequence, record.observed.sequence)
      record.events = record.events.filter((entry) => entry.sequence > record.acknowledged)
      if (record.acknowledged >= record.observed.sequence) this.#settle(record)
    }
  }

  /** The orchestrator asks for something that has ended here: tell it again. */
  async repeat(id: ExecutionId): Promise<void> {
    const record = this.#records.get(id)
    if (record === undefined || record.acknowledged < record.observed.sequence) return
    const saved = record.saved ? await this.#readState(record.dirs) : undefined
    if (saved !== undefined) record.observed = { ...saved.observed, sequence: record.observed.sequence }
    record.observed = { ...record.observed, sequence: record.observed.sequence + 1 }
    this.#onChange('soon')
  }

  /** Removes the record and everything on disk. */
  async forget(id: ExecutionId): Promise<void> {
    const record = this.#records.get(id)
    this.#records.delete(id)
    await this.idle()
    if (record?.saved === true) await removeTree(record.dirs.root)
  }

  /** Resolves when nothing is being written any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#writing)
  }

  /**
   * The orchestrator has heard more than is known here: an earlier process was ahead of what a power cut left of its files,
   * and what this one said was taken for old. It is said again, above all that was heard.
   */
  #surpass(record: Draft, sequence: number): void {
    record.acknowledged = sequence
    record.observed = { ...record.observed, sequence: sequence + 1 }
    // An event took a sequence, so none that was heard has a higher index. Which of them were is not known: only the end,
    // which nobody told before, is told now.
    record.eventIndex = sequence + 1
    record.events = (hasEnded(record) ? record.events.slice(-1) : []).map(({ event }) => ({
      event: { ...event, index: sequence + 1 },
      sequence: sequence + 1,
    }))
    this.#onChange('now')
  }

  /** Nobody waits for the record any more: what was sent need not stay in memory, nor be sent after a restart. */
  #settle(record: Draft): void {
    if (!isTerminalObservedState(record.observed.state)) return
    if (record.saved) this.#track(this.#write(record, stateOf(record, record.observed)))
    const { runOutput: _output, egress: _egress, publishedResult: _result, ...slim } = record.observed
    record.observed = slim
  }

  #track(writing: Promise<void>): void {
    const tracked = writing
      .catch((error: unknown) => this.#logger.debug({ error }, 'a state file was not written to the end'))
      .finally(() => this.#writing.delete(tracked))
    this.#writing.add(tracked)
  }

  #change(record: Draft, change: Partial<ObservedExecution>, event?: EventDraft): void {
    const sequence = record.observed.sequence + 1
    record.observed = { ...record.observed, ...change, sequence }
    if (event === undefined) return
    const { topic, message, details = {} } = event
    record.eventIndex += 1
    const line = { index: record.eventIndex, topic, message, details, timeMs: this.#clock.now() }
    record.events = [...record.events, { event: line, sequence }]
  }

  async #save(record: Draft, observed: ObservedExecution): Promise<void> {
    await this.#write(record, stateOf(record, observed))
    record.saved = true
  }

  /** One after the other: the file has the state of the last call. */
  #write(record: Draft, state: string): Promise<void> {
    const before = record.lastWrite ?? Promise.resolve()
    const writing = before.catch(() => undefined).then(() => writeAtomically(record.dirs.stateFile, state))
    record.lastWrite = writing
    return writing
  }

  async #readState(dirs: ExecutionDirs): Promise<SavedState | undefined> {
    try {
      if ((await stat(dirs.stateFile)).size > STATE_BYTES_MAX) return undefined
      const state = JSON.parse(await readFile(dirs.stateFile, 'utf8')) as SavedState
      return state.format === 1 && typeof state.observed?.sequence === 'number' ? state : undefined
    } catch {
      // Missing, or cut by a crash before it was ever reported: nobody knows of it.
      return undefined
    }
  }
}

const NOTES_MAX = 200
const STATE_BYTES_MAX = 16 * 1024 ** 2

/** More than one process can have added in memory. */
const RESTART_STEP = 1_000_000

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

interface Draft extends Mutable<ExecutionRecord> {
  eventIndex: number
  notes: number
  /** The end is being written, or was: nothing changes any more. */
  ending: boolean
  /** There is a state file. */
  saved: boolean
  /** The state file is being written until then. */
  lastWrite?: Promise<void>
  /** Its first version survives a power cut. */
  durable?: Promise<void>
}

interface SavedState {
  format: 1
  executionId: ExecutionId
  jobId: JobId
  observed: ObservedExecution
  events: { event: ExecutionEvent; sequence: number }[]
  eventIndex: number
  acknowledged: number
  logBytes: number
  outputTruncated: boolean
  /** The specification is in a file of its own: it never changes and may be large. */
  run?: Omit<RunMemory, 'desired'>
}

function withoutDesired({ desired: _desired, ...run }: RunMemory): Omit<RunMemory, 'desired'> {
  return run
}

function unwritable(error: unknown): WeirError {
  return new WeirError(
    'compute.disk',
    `The node cannot write down how far the execution has come: ${toWeirError(error).message}`,
    { retryable: true, hint: 'Make room on the disk of the data directory', cause: error },
  )
}

function memoryOf(
  run: SavedState['run'],
  desired: DesiredExecution | undefined,
): Pick<Draft, 'memory' | 'unreadable'> {
  const isWhole =
    desired !== undefined &&
    ['accepted', 'starting', 'exited'].includes(run?.phase ?? '') &&
    typeof run?.resources?.memoryBytes === 'number' &&
    (run.phase !== 'exited' || run.exited !== undefined)
  return isWhole
    ? { memory: { ...run, desired } }
    : { unreadable: 'its record of the execution is damaged or was written by an older version' }
}

async function readDesired(dirs: ExecutionDirs, id: ExecutionId): Promise<DesiredExecution | undefined> {
  try {
    if ((await stat(dirs.desiredFile)).size > STATE_BYTES_MAX) return undefined
    const desired = JSON.parse(await readFile(dirs.desiredFile, 'utf8')) as DesiredExecution
    return desired.executionId === id && Array.isArray(desired.jobSpec?.Tasks) ? desired : undefined
  } catch {
    // Missing or cut: the execution is lost, and is reported so.
    return undefined
  }
}

function stateOf(record: Draft, observed: ObservedExecution): string {
  const { executionId, jobId, events, eventIndex, acknowledged, logBytes, outputTruncated } = record
  const state: SavedState = {
    format: 1,
    executionId,
    jobId,
    observed,
    events: [...events],
    eventIndex,
    acknowledged,
    logBytes,
    outputTruncated,
    ...(record.memory !== undefined && { run: withoutDesired(record.memory) }),
  }
  return JSON.stringify(state)
}

function revive(saved: SavedState, dirs: ExecutionDirs, desired: DesiredExecution | undefined): Draft {
  const { executionId, jobId, observed, events, eventIndex, acknowledged, logBytes, outputTruncated } = saved
  const ended = isTerminalObservedState(observed.state)
  const step = ended ? 0 : RESTART_STEP
  return {
    executionId,
    jobId,
    dirs,
    observed: { ...observed, sequence: observed.sequence + step },
    events,
    eventIndex: eventIndex + step,
    // For an end it may be behind the truth: then the last report is sent once more, which is harmless. What was active
    // may have come further than what is written here: nothing is said of it before it is known how it goes on.
    acknowledged: ended ? acknowledged : observed.sequence + step,
    notes: 0,
    ending: ended,
    logBytes,
    outputTruncated,
    saved: true,
    ...(ended ? {} : memoryOf(saved.run, desired)),
  }
}
