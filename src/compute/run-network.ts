import { WeirError, toWeirError } from '../errors.js'
import { judgeSignatures, signatureError, vouchingKeys } from '../model/job-signature.js'
import type { JobSpec } from '../model/job-spec.js'
import { isLearning, submitterOf } from '../model/learning.js'
import { askedEgressLimits, type EgressLimits } from '../model/network-limits.js'
import type { EgressSummary } from '../model/state.js'
import { task } from '../model/task-accessors.js'
import type { EgressLease, LeasePolicy, NetworkSlot } from '../ports/index.js'
import { kind } from './admission.js'
import { bounded } from './bounded-work.js'
import type { Run } from './run.js'

/** The network of one run: a place to be, and for http the right to leave it. */
export interface RunNetwork {
  slot: NetworkSlot
  /** For the job's environment; empty without http. */
  env: Record<string, string>
  /** Resolves when the network cannot be guarded, or is not admitted, any more. Absent: that cannot happen. */
  lost?: Promise<WeirError>
  /** For the moment before a program begins: throws what `lost` has resolved with. Absent: nothing to throw. */
  throwIfLost?(): void
  /** What the gateway holds the job to; absent without http. */
  limits?: EgressLimits
  /** Ends the right to leave; the final summary, or undefined without http. Never rejects. Idempotent. */
  closeEgress(): Promise<EgressSummary | undefined>
}

/**
 * Takes a slot from the engine and, for http, a lease from the gateway. Both are closed with the run's stack.
 * Fails closed: without gateway, attachment or lease nothing runs (`egress.unavailable`).
 */
export async function openNetwork(run: Run): Promise<RunNetwork> {
  const slot = await acquireSlot(run)
  return withLease(run, slot, { again: false, signal: run.signal })
}

/**
 * Takes over the slot of a program that an earlier process has started, and opens its lease again: the same policy, judged
 * by the lists of now. Until then nothing has left, and if it cannot be done nothing will: rejects with `egress.unavailable`
 * or `engine.unavailable`, and the program must be stopped. With `ended` the program is gone: only its records are settled.
 */
export async function adoptNetwork(
  run: Run,
  { ended, signal }: { ended: boolean; signal: AbortSignal },
): Promise<RunNetwork> {
  const slot = await adoptSlot(run, { ended, signal })
  if (!ended) return withLease(run, slot, { again: true, signal })
  run.closing.add('network slot', () => giveBack(run, slot))
  return { slot, env: {}, closeEgress: () => settleEgress(run) }
}

/** The final summary of an execution whose lease died with an earlier gateway. Never rejects. */
export async function settleEgress({ parts, desired }: Run): Promise<EgressSummary | undefined> {
  const { gateway, clock, limits } = parts
  const { jobId, executionId, jobSpec } = desired
  if (gateway?.settle === undefined || modeOf(jobSpec) !== 'http') return undefined
  try {
    return await bounded(async () => gateway.settle?.({ jobId, executionId }), {
      clock,
      signal: new AbortController().signal,
      ms: limits.checkTimeoutMs,
      timeout: () => new WeirError('egress.unavailable', 'The egress gateway does not answer'),
    })
  } catch (error) {
    parts.logger.error({ error, executionId }, 'the egress records of an execution could not be settled')
    return undefined
  }
}

async function withLease(run: Run, slot: NetworkSlot, how: Opening): Promise<RunNetwork> {
  run.closing.add('network slot', () => giveBack(run, slot))
  if (slot.mode === 'full') return withFullAccess(run, slot)
  if (slot.mode !== 'http') return { slot, env: {}, closeEgress: async () => undefined }
  const lease = await openLease(run, slot, how)
  if (isLearning(run.desired.jobSpec) && !how.again) announceLearning(run)
  let closed: Promise<EgressSummary | undefined> | undefined
  const closeEgress = () => (closed ??= closeLease(run, lease))
  run.closing.add('egress lease', closeEgress)
  const { env, lost, limits } = lease
  return {
    slot,
    env,
    ...(lost !== undefined && { lost }),
    ...(limits !== undefined && { limits }),
    closeEgress,
  }
}

/** Throws `compute.network` when the rules of now admit none. */
function withFullAccess({ parts, closing }: Run, slot: NetworkSlot): RunNetwork {
  const access = parts.fullAccess()
  access.throwIfAborted()
  const lost = new Promise<WeirError>((resolve) => {
    const withdrawn = () => resolve(toWeirError(access.reason))
    access.addEventListener('abort', withdrawn, { once: true })
    closing.add('full network access', () => access.removeEventListener('abort', withdrawn))
  })
  const throwIfLost = () => access.throwIfAborted()
  return { slot, env: {}, lost, throwIfLost, closeEgress: async () => undefined }
}

/** In the history of the job and in the log of the node. */
function announceLearning(run: Run): void {
  const { jobId, executionId, jobSpec } = run.desired
  const message = 'Learning: every public host is open to the program, and recorded'
  run.note({ topic: 'Preparing Environment', message })
  run.parts.logger.warn({ jobId, executionId, user: submitterOf(jobSpec) }, message)
}

/** A program that goes on without us keeps its network. */
async function giveBack(run: Run, slot: NetworkSlot): Promise<void> {
  await (run.isLeft && slot.leave !== undefined ? slot.leave() : slot.release())
}

async function adoptSlot(
  { desired, parts }: Run,
  { ended, signal }: { ended: boolean; signal: AbortSignal },
): Promise<NetworkSlot> {
  const { executionId, jobSpec } = desired
  const mode = modeOf(jobSpec)
  const provider = parts.executors.get(kind(task(jobSpec).Engine.Type))?.network
  if (provider === undefined && mode === 'none') return NO_NETWORK
  if (provider?.adopt === undefined)
    throw new WeirError('engine.unavailable', `The engine cannot take over ${mode} network access`)
  return bounded(async (inner) => provider.adopt?.(mode, { executionId, ended }, inner) ?? NO_NETWORK, {
    clock: parts.clock,
    signal,
    ms: parts.limits.startTimeoutMs,
    timeout: () =>
      new WeirError('engine.unavailable', 'Cannot take over the network of the run in time', RETRY),
    late: (made) => made.leave?.(),
  })
}

async function acquireSlot({ desired, parts, signal }: Run): Promise<NetworkSlot> {
  const { Engine, Network } = task(desired.jobSpec)
  const mode = MODES[Network.Type]
  const provider = parts.executors.get(kind(Engine.Type))?.network
  if (provider === undefined) {
    if (mode === 'none') return NO_NETWORK
    throw new WeirError(
      'compute.network',
      `Engine "${Engine.Type}" cannot be given ${mode} network access here`,
    )
  }
  const slot = await bounded((inner) => provider.acquire(mode, { executionId: desired.executionId }, inner), {
    clock: parts.clock,
    signal,
    ms: parts.limits.startTimeoutMs,
    timeout: () => new WeirError('engine.unavailable', 'Cannot make the network of the run in time', RETRY),
    late: (made) => made.release(),
  })
  if (slot.mode === mode) return slot
  await slot.release()
  throw new WeirError('internal', `The engine gave network "${slot.mode}" where "${mode}" was asked for`)
}

interface Opening {
  /** There was a lease before, of a gateway that is gone. */
  again: boolean
  signal: AbortSignal
}

async function openLease(
  { desired, parts }: Run,
  slot: NetworkSlot,
  { again, signal }: Opening,
): Promise<EgressLease> {
  const { jobId, executionId, jobSpec } = desired
  const { gateway, clock, limits } = parts
  const { attachment } = slot
  if (gateway === undefined || attachment === undefined) {
    throw new WeirError(
      'egress.unavailable',
      'Cannot give the job http network access: no gateway is attached',
      {
        hint: 'Choose another node, or ask the operator to start the gateway',
        retryable: true,
      },
    )
  }
  const { Domains, Limits } = task(jobSpec).Network
  const policy = {
    mode: 'http' as const,
    allow: Domains,
    ...(isLearning(jobSpec) && { learning: true }),
    limits: askedEgressLimits(Limits, jobSpec.Count),
    ...signersOf(jobSpec, { again, nowMs: clock.now() }),
  }
  try {
    return await bounded(() => gateway.open({ jobId, executionId }, policy, attachment, { again }), {
      clock,
      signal,
      ms: limits.checkTimeoutMs,
      timeout: () => new WeirError('egress.unavailable', 'The egress gateway does not answer', RETRY),
      late: (made) => made.close(),
    })
  } catch (error) {
    signal.throwIfAborted()
    throw toWeirError(error, 'egress.unavailable', 'Cannot open the egress lease')
  }
}

/**
 * By whom the job was signed, and until when that counts. Admission has judged it; by now a signature may have expired, and
 * then nothing begins. A program that runs already keeps what is open without it, and hears of the rest that the signature
 * expired. Throws `signature.…`.
 */
function signersOf(
  spec: JobSpec,
  { again, nowMs }: { again: boolean; nowMs: number },
): Pick<LeasePolicy, 'signedBy'> {
  const verdicts = judgeSignatures(spec, nowMs)
  const fault = again ? undefined : signatureError(verdicts)
  if (fault !== undefined) throw fault
  const signedBy = vouchingKeys(verdicts, nowMs)
  return signedBy.length === 0 ? {} : { signedBy }
}

async function closeLease({ parts, desired }: Run, lease: EgressLease): Promise<EgressSummary | undefined> {
  try {
    return await bounded(() => lease.close(), {
      clock: parts.clock,
      signal: new AbortController().signal,
      ms: LEASE_CLOSE_MS,
      timeout: () => new WeirError('egress.unavailable', 'The egress gateway does not close the lease'),
    })
  } catch (error) {
    parts.logger.error({ error, executionId: desired.executionId }, 'an egress lease could not be closed')
    return undefined
  }
}

function modeOf(jobSpec: JobSpec): NetworkSlot['mode'] {
  return MODES[task(jobSpec).Network.Type]
}

const MODES = { None: 'none', HTTP: 'http', Full: 'full' } as const
const LEASE_CLOSE_MS = 10_000
const RETRY = { retryable: true, hint: 'Try again; see the log of the node' }

/** For engines whose runs have no sockets at all. */
const NO_NETWORK: NetworkSlot = Object.freeze({ mode: 'none' as const, release: async () => {} })
