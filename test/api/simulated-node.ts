import { setTimeout as delay } from 'node:timers/promises'
import {
  executionTimeoutMs,
  isTerminalObservedState,
  type AuditRecord,
  type DesiredExecution,
  type NodeInfo,
  type ObservedExecution,
  type ObservedReport,
  type SyncRequest,
  type SyncResponse,
} from '../../src/model/index.js'
import {
  egressSubject,
  nudgeSubject,
  outputSubject,
  SYNC_SUBJECT,
  type EgressReadResponse,
  type OutputReadResponse,
  type Transport,
} from '../../src/ports/index.js'

/** What the simulated program does. */
export interface Program {
  stdout?: string
  stderr?: string
  exitCode?: number
  /** Runs until it is stopped. */
  endless?: boolean
  audit?: AuditRecord[]
}

/** A compute node that talks to a real orchestrator and pretends to run programs. */
export class SimulatedNode {
  readonly #transport: Transport
  readonly #info: NodeInfo
  readonly #program: Program
  readonly #runs = new Map<string, { desired: DesiredExecution; observed: ObservedExecution }>()
  #known = 0
  #syncing: Promise<void> = Promise.resolve()

  constructor(transport: Transport, info: NodeInfo, program: Program) {
    this.#transport = transport
    this.#info = info
    this.#program = program
  }

  async start(): Promise<void> {
    const { nodeId } = this.#info
    await this.#transport.serve(nudgeSubject(nodeId), async () => {
      void this.sync()
      return {}
    })
    await this.#transport.serve(outputSubject(nodeId), async (body) =>
      this.#output(
        (body as { executionId: string; cursor: number }).executionId,
        (body as { cursor: number }).cursor,
      ),
    )
    await this.#transport.serve(egressSubject(nodeId), async (body) =>
      this.#egress(body as { after: number }),
    )
    await this.sync()
  }

  /** One after the other; ends when there is nothing to report. */
  sync(): Promise<void> {
    this.#syncing = this.#syncing.then(() => this.#exchange()).catch(() => delay(5))
    return this.#syncing
  }

  async #exchange(): Promise<void> {
    for (let reports: ObservedReport[] = []; ; ) {
      const request: SyncRequest = {
        nodeId: this.#info.nodeId,
        incarnation: 'one',
        info: this.#info,
        knownRevision: this.#known,
        observed: reports,
        leaving: false,
      }
      const response = (await this.#transport.request(SYNC_SUBJECT, request, 5000)) as SyncResponse
      this.#known = response.revision
      for (const desired of response.desired) this.#want(desired)
      reports = [...this.#runs.values()].flatMap((run) => this.#advance(run))
      if (reports.length === 0) return
    }
  }

  #want(desired: DesiredExecution): void {
    const run = this.#runs.get(desired.executionId)
    const observed = run?.observed ?? { ...NEW, sequence: desired.observedSequence ?? 0 }
    this.#runs.set(desired.executionId, { desired, observed })
  }

  /** One step of an execution, as a report; nothing when it waits. */
  #advance(run: { desired: DesiredExecution; observed: ObservedExecution }): ObservedReport[] {
    const { desired, observed } = run
    if (isTerminalObservedState(observed.state)) return []
    const next = this.#next(desired, observed)
    if (next === undefined) return []
    run.observed = { ...observed, ...next, sequence: observed.sequence + 1 }
    return [{ executionId: desired.executionId, jobId: desired.jobId, observed: run.observed, events: [] }]
  }

  #next(desired: DesiredExecution, observed: ObservedExecution): Partial<ObservedExecution> | undefined {
    if (desired.state === 'Stopped')
      return { state: 'Cancelled', message: desired.message, endTimeMs: Date.now() }
    if (observed.state === 'New') return { state: 'Running', startTimeMs: Date.now() }
    if (this.#program.endless === true || (executionTimeoutMs(desired.jobSpec) ?? 1) === 0) return undefined
    const { stdout = '', stderr = '', exitCode = 0 } = this.#program
    return {
      state: 'Completed',
      endTimeMs: Date.now(),
      runOutput: {
        stdout,
        stdoutTruncated: false,
        stderr,
        stderrTruncated: false,
        exitCode,
        errorMessage: '',
      },
    }
  }

  #output(executionId: string, cursor: number): OutputReadResponse {
    const { stdout = '', stderr = '' } = this.#program
    const all = (
      [
        ['stdout', stdout],
        ['stderr', stderr],
      ] as const
    ).map(([stream, text]) => ({ stream, data: Buffer.from(text).toString('base64'), timeMs: Date.now() }))
    const run = this.#runs.get(executionId)
    const done = run === undefined || isTerminalObservedState(run.observed.state)
    return { chunks: all.slice(cursor), cursor: all.length, done, truncated: false }
  }

  #egress(request: { after: number }): EgressReadResponse {
    const records = (this.#program.audit ?? []).filter((record) => record.sequence > request.after)
    return { records, done: true }
  }
}

const NEW: ObservedExecution = {
  state: 'New',
  sequence: 0,
  message: '',
  code: '',
  hint: '',
  retryable: false,
}
