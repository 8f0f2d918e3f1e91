import { WeirError } from '../errors.js'
import { isTerminalJobState } from '../model/index.js'
import type { Job, JobId, JobSpec } from '../model/index.js'
import type { Change, JobDiff, RerunRequest, SubmitRequest, SubmitResponse } from '../ports/index.js'
import { requireBlobs } from './blob-desk.js'
import { findJob, findNamedJob, findVersion } from './id-lookup.js'
import { newVersion, type NewVersion } from './new-version.js'
import type { OrchestratorLimits, OrchestratorOptions } from './options.js'
import { ProgramChecks } from './program-check.js'
import { diffSpecs } from './spec-diff.js'
import { completeSpec, prepareSubmission, presetDetails, readToken, requireSignatures } from './submission.js'
import { Turns } from './turns.js'
import { clip } from './wording.js'
import type { Writer } from './writer.js'

const REASON_LENGTH_MAX = 1_024
const REPLAY_WARNING = 'this idempotency token was used before: the answer names the job that it made'

/** Takes jobs in: new ones, updates of named ones, and those that run again. Holds no more than it may. */
export class Submissions {
  readonly #options: OrchestratorOptions
  readonly #writer: Writer
  readonly #limits: OrchestratorLimits
  /** Jobs that have not ended, with the bytes of their specifications. */
  readonly #unfinished = new Map<JobId, { version: number; bytes: number }>()
  #unfinishedBytes = 0
  readonly #submitting = new Map<string, Promise<SubmitResponse>>()
  readonly #turns = new Turns()
  readonly #programChecks: ProgramChecks | undefined

  constructor(options: OrchestratorOptions, writer: Writer, limits: OrchestratorLimits) {
    this.#options = options
    this.#writer = writer
    this.#limits = limits
    const { readContent } = options
    this.#programChecks = readContent === undefined ? undefined : new ProgramChecks(readContent)
  }

  async submit(request: SubmitRequest): Promise<SubmitResponse> {
    return this.#once(request.idempotencyToken, async (idempotencyToken) => {
      await this.#checkContent(request.spec)
      return this.#submit({ ...request, idempotencyToken })
    })
  }

  async diff(request: SubmitRequest): Promise<JobDiff> {
    const { store } = this.#options
    const { Name, Namespace } = request.spec
    if (Name === '') {
      throw new WeirError('spec.invalid', 'Cannot compare a job without a name', {
        hint: 'Give the job a Name: the job of this name is what it is compared with.',
      })
    }
    const existing = await findNamedJob(store, Name, Namespace)
    const lines = diffSpecs(existing?.spec, completeSpec(request, this.#options, existing?.id ?? ''))
    const isNew = existing === undefined
    return {
      diff: lines.map((line) => `${line}\n`).join(''),
      warnings: isNew ? [`no job is called ${JSON.stringify(Name)}: this would be a new one`] : [],
    }
  }

  async rerun(idOrPrefix: string, request: RerunRequest): Promise<SubmitResponse> {
    const { store } = this.#options
    const { id } = await findJob(store, idOrPrefix, request.namespace)
    return this.#once(request.idempotencyToken, async (idempotencyToken) => {
      const { spec, version } = await findVersion(store, await findJob(store, id), request.jobVersion)
      requireSignatures(spec, this.#options.clock.now())
      await requireBlobs(spec, this.#options.blobs)
      const reason = clip(request.reason, REASON_LENGTH_MAX)
      const details = { FromVersion: String(version), ...(reason === '' ? {} : { Reason: reason }) }
      const next = { spec, trigger: 'job-rerun', details, idempotencyToken } as const
      const stored = await this.#nextVersion(id, () => next)
      if (stored !== undefined) return stored
      throw new WeirError('job.not_found', `Cannot find job "${id}"`)
    })
  }

  /** To be told of every job that is stored, and of those that are there at the start. */
  count(job: Job): void {
    const known = this.#unfinished.get(job.id)
    if (!isTerminalJobState(job.state) && known?.version === job.version) return
    this.#unfinished.delete(job.id)
    this.#unfinishedBytes -= known?.bytes ?? 0
    if (isTerminalJobState(job.state)) return
    const bytes = Buffer.byteLength(JSON.stringify(job.spec))
    this.#unfinished.set(job.id, { version: job.version, bytes })
    this.#unfinishedBytes += bytes
  }

  /** The same token twice is one job, also when both come at the same time. */
  async #once(
    text: string | undefined,
    work: (token: string | undefined) => Promise<SubmitResponse>,
  ): Promise<SubmitResponse> {
    const token = readToken(text)
    if (token === undefined) return work(undefined)
    const underWay = this.#submitting.get(token)
    if (underWay !== undefined) return replay(await underWay)
    const existing = await this.#jobOfToken(token)
    if (existing !== undefined) return replay(existing)
    // Somebody else may have come while the store was asked.
    const meanwhile = this.#submitting.get(token)
    if (meanwhile !== undefined) return replay(await meanwhile)
    const storing = work(token)
    this.#submitting.set(token, storing)
    try {
      return await storing
    } finally {
      this.#submitting.delete(token)
    }
  }

  async #jobOfToken(token: string): Promise<{ jobId: JobId; jobVersion: number } | undefined> {
    const { store } = this.#options
    const jobId = await store.jobByIdempotencyToken(token)
    if (jobId === undefined) return undefined
    const now = (await store.snapshot()).job(jobId)
    if (now !== undefined && now.idempotencyToken === token) return { jobId, jobVersion: now.version }
    const replaced = await store.replacedVersions(jobId)
    return { jobId, jobVersion: replaced.find((one) => one.idempotencyToken === token)?.version ?? 1 }
  }

  async #submit(request: SubmitRequest): Promise<SubmitResponse> {
    const { Name, Namespace } = request.spec
    if (request.updatesByName !== true || Name === '') return this.#store(request)
    // Two at a time would both find no job of the name, and make two.
    return this.#turns.take(JSON.stringify([Namespace, Name]), async () => {
      const existing = await findNamedJob(this.#options.store, Name, Namespace)
      if (existing === undefined) return this.#store(request)
      const { idempotencyToken } = request
      const spec = completeSpec(request, this.#options, existing.id)
      const stored = await this.#nextVersion(existing.id, (before) => {
        if (request.force !== true && diffSpecs(before.spec, spec).length === 0) throw unchanged(before)
        return { spec, trigger: 'job-update', details: presetDetails(request), idempotencyToken }
      })
      // Forgotten since it was found.
      return stored ?? this.#store(request)
    })
  }

  /** Undefined when the job is no longer there. Runs what `next` says of the version before. */
  async #nextVersion(id: JobId, next: (before: Job) => NewVersion): Promise<SubmitResponse | undefined> {
    const { clock, chance } = this.#options
    return this.#writer.transact<SubmitResponse | undefined>((snapshot) => {
      const before = snapshot.job(id)
      if (before === undefined) return { result: undefined }
      const wanted = next(before)
      if (isTerminalJobState(before.state)) this.#checkRoom()
      const executions = snapshot.executionsOfJob(id)
      const { job, evaluationId, change } = newVersion(before, executions, wanted, clock.now(), chance)
      return { change, result: { jobId: id, jobVersion: job.version, evaluationId, warnings: [] } }
    })
  }

  /** What the job names must be there, and its program must be able to run. */
  async #checkContent(spec: JobSpec): Promise<void> {
    requireSignatures(spec, this.#options.clock.now())
    await requireBlobs(spec, this.#options.blobs)
    await this.#programChecks?.check(spec)
  }

  /** Throws `job.too_many`. */
  #checkRoom(): void {
    const { activeJobBytesMax } = this.#limits
    if (this.#unfinished.size < this.#limits.activeJobsMax && this.#unfinishedBytes < activeJobBytesMax)
      return
    const count = this.#unfinished.size
    throw new WeirError('job.too_many', `Cannot take another job: ${count} have not ended`, {
      hint: 'Try again when some have ended, or stop jobs that are no longer needed.',
      retryable: true,
    })
  }

  async #store(request: SubmitRequest): Promise<SubmitResponse> {
    this.#checkRoom()
    const { job, evaluation, event } = prepareSubmission(request, this.#options, this.#options.clock.now())
    const change: Change = { jobs: [job], evaluations: [evaluation], history: [event] }
    await this.#writer.transact(() => ({ change, result: undefined }))
    return { jobId: job.id, jobVersion: job.version, evaluationId: evaluation.id, warnings: [] }
  }
}

function unchanged({ id, version, spec }: Job): WeirError {
  const job = JSON.stringify(clip(spec.Name, 80))
  return new WeirError('job.unchanged', `Cannot update job ${job}: it is the same already`, {
    hint: 'Change it, submit it with --force, or run it again with "weir job rerun".',
    details: { jobId: id, jobVersion: version },
  })
}

function replay({ jobId, jobVersion }: { jobId: JobId; jobVersion: number }): SubmitResponse {
  return { jobId, jobVersion, evaluationId: '', warnings: [REPLAY_WARNING] }
}
