import { isWeirError, WeirError } from '../errors.js'
import { coversNamespace } from '../model/access.js'
import { isFullId, isLearning, type Job, type JobId, SUBMITTER_META, submitterOf } from '../model/index.js'
import type { AdminLog, JobQuery, JobService, JobView, SubmitRequest } from '../ports/index.js'
import type { Caller, CallerScope } from './caller.js'
import { ForeignTouches } from './foreign-touches.js'

export interface ScopedJobsOptions {
  jobs: JobService
  scope: CallerScope
  /** Absent: nothing is recorded. */
  adminLog: AdminLog | undefined
  /** Log and egress streams of one principal at the same time. */
  streamsMax: number
}

/**
 * The jobs as the caller of the request may see them. All routes work with this and with nothing else, so what a principal
 * may not see does not exist for it: by id, prefix or name, in lists, streams and pages. Each call looks again whether
 * the principal still has its rights.
 */
export function scopedJobs(options: ScopedJobsOptions): JobService {
  const { jobs, scope, adminLog, streamsMax } = options
  const streams = new Map<string, number>()
  const touches = new ForeignTouches()

  /** The caller, while it still is one. */
  const caller = (): Caller => {
    const current = scope.current()
    if (current.ended.aborted) throw ended()
    return current
  }
  const isLimited = ({ principal }: Caller): boolean => principal.namespaces !== '*'
  const isVisible = ({ principal }: Caller, job: Job): boolean =>
    coversNamespace(principal.namespaces, job.spec.Namespace)

  /** The id to ask for instead: what the words of the caller mean among the jobs that it may see. */
  const resolve = async (idOrPrefix: string, view: Pick<JobView, 'namespace'> = {}): Promise<string> => {
    const who = caller()
    return isLimited(who) ? visibleId(who, idOrPrefix, view) : idOrPrefix
  }
  const visibleId = async (
    who: Caller,
    idOrPrefix: string,
    view: Pick<JobView, 'namespace'>,
  ): Promise<JobId> => {
    try {
      const job = await jobs.job(idOrPrefix, { namespace: view.namespace })
      if (isVisible(who, job)) return job.id
      if (job.id === idOrPrefix || isFullId(idOrPrefix)) throw unknownJob(idOrPrefix)
    } catch (error) {
      // Several begin like this; perhaps only one of them is for the caller to see.
      if (!isWeirError(error, 'job.ambiguous')) throw error
    }
    const accept = (job: Job): boolean => isVisible(who, job) && job.id.startsWith(idOrPrefix)
    const query: JobQuery = { orderBy: 'created_at', reverse: true, limit: 2, offset: 0, accept }
    const [found, ...others] = (await jobs.jobs({ ...query, namespace: onlyNamespace(who) })).jobs
    if (found === undefined || idOrPrefix === '') throw unknownJob(idOrPrefix)
    if (others.length > 0) throw ambiguousJob(idOrPrefix)
    return found.id
  }

  const scoped = (request: SubmitRequest): SubmitRequest => {
    const who = caller()
    const { principal } = who
    const { Namespace: namespace } = request.spec
    if (!coversNamespace(principal.namespaces, namespace)) throw foreignNamespace(namespace)
    if (principal.kind === 'everyone') return request
    return {
      ...request,
      idempotencyToken: ownToken(request.idempotencyToken, 'submit', namespace),
      clientMeta: { ...request.clientMeta, [SUBMITTER_META]: principal.id },
    }
  }

  /** Whoever touches the job of somebody else is recorded first. */
  const noteForeign = async (id: string, action: string, view: Pick<JobView, 'namespace'>): Promise<void> => {
    const { principal, address } = caller()
    if (principal.kind === 'everyone' || adminLog === undefined) return
    const job = await jobs.job(id, { namespace: view.namespace })
    const owner = job.spec.Meta[SUBMITTER_META] ?? ''
    if (owner === principal.id || !touches.take(principal, action, job.id)) return
    await adminLog.append({
      principal: principal.id,
      principalName: principal.name,
      address,
      action,
      object: job.id,
      outcome: 'allowed',
      details: { owner, namespace: job.spec.Namespace },
    })
  }

  /** Every host was opened for the one who asked: nobody else's wish can open them again. Tells which version was judged. */
  const refuseForeignLearning = async (id: string, view: JobView): Promise<number> => {
    const { spec, version } = await jobs.job(id, view)
    if (isLearning(spec) && submitterOf(spec) !== caller().principal.id) throw foreignLearning()
    return version
  }

  /** A submission that replaces the job of its name touches that one. */
  const noteUpdate = async ({ spec, updatesByName }: SubmitRequest): Promise<void> => {
    const { Name: name, Namespace: namespace } = spec
    if (updatesByName !== true || name === '') return
    const known = await jobs.job(name, { namespace }).catch((error: unknown) => {
      if (isWeirError(error, 'job.not_found', 'job.ambiguous')) return undefined
      throw error
    })
    // The words could also have meant an id.
    if (known?.spec.Name === name && known.spec.Namespace === namespace)
      await noteForeign(known.id, 'job.update', {})
  }

  async function* bounded<Item>(
    open: (signal: AbortSignal) => Promise<AsyncIterable<Item>>,
    signal: AbortSignal,
  ): AsyncGenerator<Item> {
    const who = caller()
    const { id, kind } = who.principal
    const count = streams.get(id) ?? 0
    if (kind !== 'everyone' && count >= streamsMax) throw tooManyStreams(count)
    streams.set(id, count + 1)
    try {
      if (kind === 'everyone') yield* await open(signal)
      else yield* untilEnded(await open(AbortSignal.any([signal, who.ended])), who.ended)
    } finally {
      const left = (streams.get(id) ?? 1) - 1
      if (left > 0) streams.set(id, left)
      else streams.delete(id)
    }
  }

  return {
    submit: async (request) => {
      const allowed = scoped(request)
      await noteUpdate(allowed)
      return jobs.submit(allowed)
    },
    diff: async (request) => jobs.diff(scoped(request)),
    rerun: async (idOrPrefix, request) => {
      const id = await resolve(idOrPrefix, request)
      const jobVersion = await refuseForeignLearning(id, request)
      await noteForeign(id, 'job.rerun', request)
      const idempotencyToken =
        caller().principal.kind === 'everyone'
          ? request.idempotencyToken
          : ownToken(request.idempotencyToken, 'rerun', id)
      // The version that was judged, whichever is the latest by now.
      return jobs.rerun(id, { ...request, jobVersion, idempotencyToken })
    },
    stop: async (idOrPrefix, reason, view = {}) => {
      const id = await resolve(idOrPrefix, view)
      await noteForeign(id, 'job.stop', view)
      return jobs.stop(id, reason, view)
    },
    versions: async (idOrPrefix, view) => jobs.versions(await resolve(idOrPrefix, view), view),
    job: async (idOrPrefix, view) => jobs.job(await resolve(idOrPrefix, view), view),
    executions: async (idOrPrefix, view) => jobs.executions(await resolve(idOrPrefix, view), view),
    history: async (idOrPrefix, query, view) => jobs.history(await resolve(idOrPrefix, view), query, view),
    results: async (idOrPrefix, view) => jobs.results(await resolve(idOrPrefix, view), view),
    jobs: async (query) => {
      const who = caller()
      if (!isLimited(who)) return jobs.jobs(query)
      const { namespace, accept = () => true } = query
      const wanted = namespace === undefined || namespace === '*' ? onlyNamespace(who) : namespace
      return jobs.jobs({
        ...query,
        namespace: wanted,
        accept: (job) => isVisible(who, job) && accept(job),
      })
    },
    logs: (idOrPrefix, query, signal) =>
      bounded(async (either) => jobs.logs(await resolve(idOrPrefix, query), query, either), signal),
    egress: (idOrPrefix, query, signal) =>
      bounded(async (either) => jobs.egress(await resolve(idOrPrefix, query), query, either), signal),
    // Nodes belong to no namespace: the rule of the route decides.
    nodes: async (query) => {
      caller()
      return jobs.nodes(query)
    },
    node: async (idOrPrefix) => {
      caller()
      return jobs.node(idOrPrefix)
    },
    checkEgress: async (request) => {
      const { principal } = caller()
      const { spec } = request
      if (spec === undefined || principal.kind === 'everyone') return jobs.checkEgress(request)
      // Who asks would submit it.
      const Meta = { ...spec.Meta, [SUBMITTER_META]: principal.id }
      return jobs.checkEgress({ ...request, spec: { ...spec, Meta } })
    },
    explainEgress: async (idOrPrefix, question) => {
      caller()
      return jobs.explainEgress(idOrPrefix, question)
    },
    networkEgress: () => {
      caller()
      return jobs.networkEgress()
    },
    updateNode: async (id, action, message) => {
      const { principal, address } = caller()
      const line = {
        principal: principal.id,
        principalName: principal.name,
        address,
        action: `node.${action}`,
        object: id,
        ...(message === '' ? {} : { details: { message } }),
      }
      await adminLog?.append({ ...line, outcome: 'allowed' })
      try {
        await jobs.updateNode(id, action, message)
      } catch (error) {
        const reason = isWeirError(error) ? error.code : 'internal'
        await adminLog?.append({ ...line, outcome: 'failed', details: { ...line.details, reason } })
        throw error
      }
    },
  }
}

/** The one namespace of a principal that has just one: the store looks for it by an index. */
function onlyNamespace({ principal }: Caller): string | undefined {
  const { namespaces } = principal
  return namespaces !== '*' && namespaces.length === 1 ? namespaces[0] : undefined
}

/**
 * The same token in another namespace, or for another way to start a job, is another token: nobody learns of, or gets, a job
 * of somebody else by it. Written so that no two of them can be spelled alike.
 */
function ownToken(token: string | undefined, ...of: ['submit' | 'rerun', string]): string | undefined {
  return token === undefined || token === '' ? undefined : JSON.stringify([...of, token])
}

/** Ends with `api.unauthorized` as soon as the principal does, also while the source is silent. */
async function* untilEnded<Item>(items: AsyncIterable<Item>, end: AbortSignal): AsyncGenerator<Item> {
  const iterator = items[Symbol.asyncIterator]()
  let giveUp = (): void => {}
  const onEnd = (): void => giveUp()
  end.addEventListener('abort', onEnd, { once: true })
  try {
    for (;;) {
      if (end.aborted) throw ended()
      // No race against one promise for all: each would keep a trace of every item.
      const result = await new Promise<IteratorResult<Item>>((resolve, reject) => {
        giveUp = () => reject(ended())
        iterator.next().then(resolve, reject)
      })
      if (result.done === true) return
      if (end.aborted) throw ended()
      yield result.value
    }
  } finally {
    end.removeEventListener('abort', onEnd)
    // Not awaited: a source that hangs must not hold the stream.
    void Promise.resolve(iterator.return?.()).catch(() => {
      // Nobody reads it any more.
    })
  }
}

function ended(): WeirError {
  return new WeirError('api.unauthorized', 'Request Unauthorized', {
    hint: 'Log in again with `weir auth login`.',
    details: { reason: 'the credential was revoked or has expired' },
  })
}

/** In the words for a job that does not exist. */
function unknownJob(idOrPrefix: string): WeirError {
  return new WeirError('job.not_found', `Cannot find job ${quote(idOrPrefix)}`, {
    hint: 'List the jobs with "weir job list".',
  })
}

function ambiguousJob(idOrPrefix: string): WeirError {
  return new WeirError(
    'job.ambiguous',
    `Cannot tell which job ${quote(idOrPrefix)} means: several ids begin with it`,
    { hint: 'Use more characters of the id, or all of it.' },
  )
}

export function foreignNamespace(namespace: string): WeirError {
  return new WeirError('api.forbidden', 'Request Forbidden', {
    hint: 'Submit with --namespace into a namespace of your token; `weir auth whoami` lists them.',
    details: { reason: `the credential does not hold in the namespace ${quote(namespace)}` },
  })
}

function foreignLearning(): WeirError {
  return new WeirError('api.forbidden', 'Request Forbidden', {
    hint: 'Submit the job yourself with --learn, or run a version of it that names its hosts.',
    details: { reason: 'a learning job can only be run again by whoever submitted it' },
  })
}

function tooManyStreams(count: number): WeirError {
  return new WeirError('api.overload', `Cannot open another stream: this credential has ${count} open`, {
    hint: 'Close streams that are no longer read, or try again later.',
    retryable: true,
    details: { retryAfterSeconds: 5 },
  })
}

function quote(id: string): string {
  return JSON.stringify(id.length > 80 ? `${id.slice(0, 79)}…` : id)
}
