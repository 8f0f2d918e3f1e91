import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { WeirError, isWeirError } from '../errors.js'
import { shortId } from '../model/ids.js'
import { printable } from '../model/printable.js'
import { suggest } from './context.js'
import { egressTotals, refusedLines } from './egress-lines.js'
import { eventLine } from './event-line.js'
import { EXIT } from './exit-codes.js'
import { whatToDo } from './egress-check-lines.js'
import { learnFrom, networkFlags, nothingLearned, sayChecked, sayContacted } from './learned.js'
import { followLogs } from './follow-logs.js'
import { listenForInterrupts } from './interrupt.js'
import { wholeNumber } from './whole-number.js'
import { COMPUTE_STATE, outcomeOf } from './outcome.js'
import { printObject } from './output-format.js'
import { readChoice } from './read-choice.js'
import { Reconnection, isLost } from './reconnection.js'
import { printOutputs, writeOutput } from './program-output.js'
import { formatDuration } from './times.js'
import { watchJob } from './watch-job.js'
import type { SubmittedJob, WeirClient, WireExecution, WireHistoryItem, WireJob } from '../client/index.js'
import type { JobSpec } from '../model/job-spec.js'
import type { CliContext } from './context.js'
import type { Interrupts } from './interrupt.js'
import type { ObjectFormat } from './output-format.js'

/** Flags that say how a run is watched. */
export interface RunFlags {
  /** False with `--wait=false`. Default true. */
  wait?: boolean
  detach?: boolean
  follow?: boolean
  idOnly?: boolean
  download?: boolean
  outputDir?: string
  nodeDetails?: boolean
  waitTimeoutSecs?: string
  /** `stop` (default) or `detach`. */
  onInterrupt?: string
  /** Make a new version although nothing changed. */
  force?: boolean
}

export interface RunOptions {
  flags: RunFlags
  /** Print job and executions instead of the program's output. */
  format?: ObjectFormat
  /** The server lives in this process and is gone afterwards. */
  isEmbedded: boolean
}

/**
 * Submits a job, shows its progress, then its output. Resolves with the exit code. The first Ctrl-C stops the job and
 * waits for its end, the second leaves at once, saying what is known.
 */
export async function runJob(
  client: WeirClient,
  spec: JobSpec,
  { flags, format, isEmbedded }: RunOptions,
  context: CliContext,
): Promise<number> {
  const submit = (): Promise<SubmittedJob> =>
    client.submit(spec, { idempotencyToken: randomUUID(), force: flags.force })
  return watchRun(client, submit, spec.Type, { flags, format, isEmbedded }, context)
}

/** Runs a job again, as its next version, and shows it like one that was just submitted. */
export async function rerunJob(
  client: WeirClient,
  id: string,
  request: { namespace?: string; jobVersion?: number; reason?: string },
  flags: RunFlags,
  context: CliContext,
): Promise<number> {
  const { Job } = await client.job(id, { namespace: request.namespace, jobVersion: request.jobVersion })
  const submit = (): Promise<SubmittedJob> =>
    client.rerun(Job.ID, { ...request, idempotencyToken: randomUUID() })
  return watchRun(client, submit, Job.Type, { flags, isEmbedded: false }, context)
}

async function watchRun(
  client: WeirClient,
  submit: () => Promise<SubmittedJob>,
  type: JobSpec['Type'],
  { flags, format, isEmbedded }: RunOptions,
  context: CliContext,
): Promise<number> {
  const plan = readPlan(flags)
  const interrupts = listenForInterrupts()
  try {
    const submitted = await submit()
    const run = new Run(client, submitted, context, interrupts, plan)
    for (const warning of submitted.Warnings ?? [])
      run.say(`${context.terminal.talkStyle.yellow('Warning:')} ${printable(warning)}`)
    return await run.carryOut(type, { flags, format, isEmbedded })
  } finally {
    interrupts.dispose()
  }
}

interface Plan {
  waits: boolean
  quiet: boolean
  waitMs: number | undefined
  onInterrupt: 'stop' | 'detach'
}

/** Throws `cli.usage`. Also called before anything is submitted or started. */
export function readPlan(flags: RunFlags): Plan {
  const waitSeconds = wholeNumber('--wait-timeout-secs', flags.waitTimeoutSecs) ?? 0
  const waits = flags.wait !== false && flags.detach !== true
  if (!waits && (flags.follow === true || flags.download === true)) {
    const flag = flags.follow === true ? '--follow' : '--download'
    throw new WeirError('cli.usage', `Cannot use ${flag} without waiting for the job`, {
      hint: `Leave out --detach (or --wait=false), or leave out ${flag}`,
    })
  }
  return {
    waits,
    quiet: flags.idOnly === true,
    waitMs: waitSeconds > 0 ? waitSeconds * 1000 : undefined,
    onInterrupt: readChoice('--on-interrupt', flags.onInterrupt ?? 'stop', ['stop', 'detach']),
  }
}

/** One submitted job and the process that watches it. */
class Run {
  private readonly client: WeirClient
  private readonly jobId: string
  /** Absent when the server does not say (Bacalhau): then whatever is the latest. */
  private readonly jobVersion: number | undefined
  private readonly context: CliContext
  private readonly interrupts: Interrupts
  private readonly plan: Plan
  private readonly reconnection: Reconnection
  private readonly startedMs = performance.now()
  private isStopping = false
  private heldEvent: WireHistoryItem | undefined

  constructor(
    client: WeirClient,
    { JobID, JobVersion }: SubmittedJob,
    context: CliContext,
    interrupts: Interrupts,
    plan: Plan,
  ) {
    this.client = client
    this.jobId = JobID
    this.jobVersion = JobVersion
    this.context = context
    this.interrupts = interrupts
    this.plan = plan
    this.reconnection = new Reconnection(client, (line) => this.say(context.terminal.talkStyle.yellow(line)))
  }

  /** Talk, unless only the id was asked for. */
  say(line: string): void {
    if (!this.plan.quiet) this.context.terminal.talk(line)
  }

  async carryOut(type: JobSpec['Type'], { flags, format, isEmbedded }: RunOptions): Promise<number> {
    const { terminal } = this.context
    if (flags.idOnly === true || !this.plan.waits) await terminal.data(`${this.jobId}\n`)
    if (!this.plan.waits) {
      if ((this.jobVersion ?? 1) > 1) this.sayVersion()
      this.suggestLooking(['follow', 'describe', 'stop'])
      return EXIT.ok
    }
    this.sayVersion()
    try {
      const ended = await this.watch(type, flags)
      if (ended !== 'ended') return this.leave(ended)
      return await this.finish(flags, format, isEmbedded)
    } catch (error) {
      if (isLost(error) && !isEmbedded) this.sayItGoesOn()
      throw error
    }
  }

  /** The server is gone; the job is not. */
  private sayItGoesOn(): void {
    this.context.terminal.talk(`Job ${this.jobId} was submitted, and its end was not seen`)
    this.suggestLooking(['follow', 'describe'])
  }

  private sayVersion(): void {
    const job = `Job ${this.context.terminal.talkStyle.bold(this.jobId)}`
    const version = this.jobVersion ?? 1
    this.say(version > 1 ? `${job}: version ${version} replaces version ${version - 1}` : `${job} submitted`)
  }

  /** Shows events (or the output, with `--follow`) until the job ends or somebody wants to leave. */
  private async watch(
    type: JobSpec['Type'],
    flags: RunFlags,
  ): Promise<'ended' | 'started' | 'interrupted' | 'timeout'> {
    const leave = new AbortController()
    const followers = new Map<string, Promise<void>>()
    const onFirst = (): void => {
      if (this.plan.onInterrupt === 'detach') leave.abort('interrupted')
      else this.stop()
    }
    const onSecond = (): void => leave.abort('interrupted')
    this.interrupts.first.addEventListener('abort', onFirst)
    this.interrupts.second.addEventListener('abort', onSecond)
    if (this.interrupts.first.aborted) onFirst()
    const timer =
      this.plan.waitMs === undefined ? undefined : setTimeout(() => leave.abort('timeout'), this.plan.waitMs)
    try {
      const runsForever = type === 'service' || type === 'daemon'
      const watched = { id: this.jobId, version: this.jobVersion }
      const items = watchJob(this.client, watched, this.reconnection, leave.signal)
      for await (const item of items) {
        if (flags.follow !== true) this.showEvent(item)
        if (!isStart(item)) continue
        const executionId = item.ExecutionID ?? ''
        if (flags.follow === true && !followers.has(executionId)) {
          const following = this.follow(executionId, leave.signal)
          // Looked at when the job has ended; until then nobody may take it for unhandled.
          following.catch(() => undefined)
          followers.set(executionId, following)
        } else if (runsForever && flags.follow !== true) {
          return 'started'
        }
      }
      await Promise.all(followers.values())
      return 'ended'
    } catch (error) {
      if (!leave.signal.aborted) throw error
      return leave.signal.reason as 'interrupted' | 'timeout'
    } finally {
      clearTimeout(timer)
      this.interrupts.first.removeEventListener('abort', onFirst)
      this.interrupts.second.removeEventListener('abort', onSecond)
      leave.abort('interrupted')
      await Promise.allSettled(followers.values())
    }
  }

  /** What ends the job is said once, at the end: an error of the job waits for the next event. */
  private showEvent(item: WireHistoryItem): void {
    const { talkStyle } = this.context.terminal
    if (this.heldEvent !== undefined) this.say(eventLine(this.heldEvent, talkStyle))
    this.heldEvent = isJobError(item) ? item : undefined
    if (this.heldEvent === undefined) this.say(eventLine(item, talkStyle))
  }

  private async follow(executionId: string, signal: AbortSignal): Promise<void> {
    const { terminal } = this.context
    const whileRead = AbortSignal.any([signal, terminal.outputClosed])
    const request = { executionId, follow: true }
    const chunks = followLogs(this.client, this.jobId, request, this.reconnection, whileRead)
    await writeOutput(chunks, terminal)
  }

  /** Asks the server to stop the job; the watch goes on until it has ended. */
  private stop(): void {
    if (this.isStopping) return
    this.isStopping = true
    const { terminal } = this.context
    terminal.talk(`Stopping job ${shortId(this.jobId)}… (Ctrl-C again: leave without waiting for it)`)
    this.client.stop(this.jobId, 'Stopped by the user who ran it (interrupt)').catch((error: unknown) => {
      if (isWeirError(error, 'job.terminal')) return // It ended by itself meanwhile.
      const reason = error instanceof Error ? printable(error.message, 200) : ''
      terminal.talk(
        `${terminal.talkStyle.red('Error:')} The job could not be stopped and may go on: ${reason}`,
      )
      terminal.talk(`Stop it with: weir job stop ${this.jobId}`)
    })
  }

  private leave(why: 'started' | 'interrupted' | 'timeout'): number {
    const { terminal } = this.context
    if (why === 'started') {
      this.say('The job runs; it goes on until it is stopped')
    } else if (why === 'timeout') {
      terminal.talk(`Waited ${formatDuration(this.plan.waitMs ?? 0)}; the job goes on`)
    } else if (this.isStopping) {
      terminal.talk('The stop was requested, but its end was not waited for')
    } else {
      terminal.talk('The job goes on')
    }
    this.suggestLooking(['follow', 'describe', 'stop'])
    if (why === 'started') return EXIT.ok
    return why === 'timeout' ? EXIT.timeout : this.interrupts.exitCode
  }

  /** After the end: output, what was refused, how it ended. */
  private async finish(
    flags: RunFlags,
    format: ObjectFormat | undefined,
    isEmbedded: boolean,
  ): Promise<number> {
    const { terminal } = this.context
    const { Job, executions } = await this.settled()
    if (format !== undefined) {
      const value = { Job, Executions: executions }
      await printObject(terminal, value, format, terminal.outIsTerminal)
    } else if (flags.follow !== true && flags.idOnly !== true) {
      await printOutputs(this.client, this.jobId, executions, terminal, this.interrupts.second)
    }
    const hasResults = executions.some(({ PublishedResult }) => (PublishedResult?.Type ?? '') !== '')
    if (hasResults && (flags.download === true || isEmbedded)) await this.download(flags)
    const exitCode = this.conclude(Job, executions, { flags, hasResults, isEmbedded })
    const hasLearned = Job.Tasks[0]?.Network.Learn === true && egressTotals(executions) !== undefined
    if (hasLearned && !this.plan.quiet) await this.sayLearned(Job, isEmbedded)
    return exitCode
  }

  /** The list that the job needs; a node of its own is gone afterwards, so that nobody else is to be asked about it. */
  private async sayLearned(job: WireJob, isEmbedded: boolean): Promise<void> {
    const { terminal } = this.context
    const learned = await learnFrom(this.client, job, { checks: !isEmbedded }).catch((error: unknown) => {
      const reason = error instanceof Error ? printable(error.message, 200) : ''
      terminal.talk(terminal.talkStyle.yellow(`What was learnt cannot be read: ${reason}`))
      return undefined
    })
    if (learned === undefined) return
    terminal.talk(terminal.talkStyle.dim('── Learnt'))
    sayContacted(learned.suggestion, terminal)
    sayChecked(learned, terminal)
    if (learned.domains.length === 0) {
      terminal.talk(nothingLearned(learned))
      return
    }
    suggest(terminal, [
      ...(learned.check === undefined ? [] : whatToDo(learned.check)),
      ['Run it with:', networkFlags(learned.domains)],
      ...(isEmbedded
        ? []
        : [['For a job file:', `weir job egress --suggest --output yaml ${shortId(this.jobId)}`] as const]),
    ])
  }

  /**
   * The job and its executions after its end. A job that is stopped or out of time ends before its programs do; what
   * they wrote arrives a moment later.
   */
  private async settled(): Promise<{ Job: WireJob; executions: readonly WireExecution[] }> {
    const end = performance.now() + SETTLE_MS
    for (;;) {
      const { Job, Executions } = await this.client.job(this.jobId, {
        include: ['executions'],
        jobVersion: this.jobVersion,
      })
      const executions = Executions?.Items ?? []
      const isOver = performance.now() > end || this.interrupts.second.aborted
      if (isOver || executions.every(hasEnded)) return { Job, executions }
      await sleep(SETTLE_POLL_MS)
    }
  }

  private conclude(
    job: WireJob,
    executions: readonly WireExecution[],
    { flags, hasResults, isEmbedded }: { flags: RunFlags; hasResults: boolean; isEmbedded: boolean },
  ): number {
    const { terminal } = this.context
    const { talkStyle } = terminal
    for (const line of refusedLines(executions)) this.say(talkStyle.yellow(line))
    if (flags.nodeDetails === true) {
      for (const { ID, NodeID } of executions) this.say(`${shortId(ID)} ran on ${printable(NodeID)}`)
    }
    const outcome = outcomeOf(job, executions)
    const took = formatDuration(performance.now() - this.startedMs)
    if (this.isStopping && job.State.StateType === 'Stopped') {
      this.say(`The job was stopped after ${took}`)
    } else if (outcome.succeeded) {
      this.say(talkStyle.green(`${outcome.summary} in ${took}`))
    } else {
      // Said also with --id-only: the exit code alone does not tell why.
      terminal.talk(
        `${talkStyle.red('Error:')} ${outcome.summary
          .split('\n')
          .map((line) => printable(line))
          .join('\n')}`,
      )
      const hints = isEmbedded ? outcome.hints.map((hint) => ownNodeHint(hint, job)) : outcome.hints
      for (const hint of hints) terminal.talk(`${talkStyle.green('Hint:')} ${printable(hint)}`)
    }
    if (!isEmbedded) {
      const next = [
        'describe',
        ...(hasResults ? ['get'] : []),
        ...(egressTotals(executions) === undefined ? [] : ['egress']),
      ]
      this.suggestLooking(next)
    }
    return this.isStopping && job.State.StateType === 'Stopped' ? this.interrupts.exitCode : outcome.exitCode
  }

  private async download(flags: RunFlags): Promise<void> {
    const { downloadJob } = await import('./download-job.js')
    const outputDir = flags.outputDir ?? `job-${shortId(this.jobId)}`
    await downloadJob(
      this.client,
      this.jobId,
      { outputDir, raw: false, path: '' },
      this.context,
      this.interrupts.second,
    )
  }

  private suggestLooking(commands: readonly string[]): void {
    if (this.plan.quiet) return
    const id = shortId(this.jobId)
    const known: Record<string, readonly [string, string]> = {
      describe: ['Details:', `weir job describe ${id}`],
      follow: ['Output:', `weir job logs --follow ${id}`],
      stop: ['Stop it:', `weir job stop ${id}`],
      get: ['Results:', `weir job get ${id}`],
      egress: ['Network:', `weir job egress ${id}`],
    }
    suggest(
      this.context.terminal,
      commands.flatMap((name) => (known[name] === undefined ? [] : [known[name]])),
    )
  }
}

/** Whoever runs a job in a node of its own is the operator who can allow the network. */
function ownNodeHint(hint: string, { Tasks }: WireJob): string {
  if (!hint.includes('AcceptNetworkedJobs')) return hint
  const domains = Tasks[0]?.Network?.Domains ?? []
  const allow = domains.length === 0 ? '' : ` -c Egress.Allow=${domains.join(',')}`
  return `This node is yours: add -c JobAdmissionControl.AcceptNetworkedJobs=true${allow} before the image or program`
}

/** How long programs are waited for whose job has ended already. */
const SETTLE_MS = 8000
const SETTLE_POLL_MS = 50

/** Nothing more will be reported. */
function hasEnded({ ComputeState }: WireExecution): boolean {
  return Object.values<number>(COMPUTE_STATE).includes(ComputeState.StateType)
}

function isJobError({ ExecutionID = '', Event }: WireHistoryItem): boolean {
  return ExecutionID === '' && Event.Details?.IsError === 'true'
}

/** The moment an execution's program runs. */
function isStart({ ExecutionID, Event }: WireHistoryItem): boolean {
  if (ExecutionID === undefined || ExecutionID === '') return false
  return Event.Message === 'Running' && (Event.Topic === 'Execution' || Event.Topic === 'Running Execution')
}
