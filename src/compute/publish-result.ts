import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError, toWeirError } from '../errors.js'
import { type EgressReceipt, RECEIPT_FILE } from '../model/egress-receipt.js'
import type { SpecConfig } from '../model/job-spec.js'
import { task } from '../model/task-accessors.js'
import type { RunExit } from '../ports/index.js'
import { kind, publishesNothing } from './admission.js'
import { bounded } from './bounded-work.js'
import { collectOutputs } from './collect-outputs.js'
import { splitOutput } from './output-log.js'
import type { PreparedOutput } from './prepare-outputs.js'
import type { Run } from './run.js'

/**
 * Lays out the result (`stdout`, `stderr`, `exitCode`, the receipt of what left, one directory per result path) and has the task's publisher
 * upload it. Undefined when the task publishes nothing. Rejects with `publisher.*` or `compute.disk`.
 */
export async function publishResult(
  run: Run,
  outputs: readonly PreparedOutput[],
  ended: ResultFacts,
): Promise<SpecConfig | undefined> {
  const { desired, parts, dirs, signal } = run
  const of = task(desired.jobSpec)
  if (publishesNothing(of)) return undefined
  const publisher = parts.publishers.get(kind(of.Publisher.Type))
  if (publisher === undefined) {
    throw new WeirError('compute.publisher', `This node does not offer publisher "${of.Publisher.Type}"`)
  }
  run.observe({ state: 'Publishing' }, { topic: TOPIC, message: `Publishing results with ${publisher.type}` })
  const { nodeId, clock, limits } = parts
  const { jobId, executionId } = desired
  const upload = async (inner: AbortSignal) => {
    await layOut(run, outputs, ended, inner)
    return publisher.publish({ nodeId, jobId, executionId, dir: dirs.result }, of.Publisher, inner)
  }
  try {
    return await bounded(upload, {
      clock,
      signal,
      ms: limits.publishTimeoutMs,
      timeout: () =>
        new WeirError('publisher.failed', `Cannot publish within ${limits.publishTimeoutMs / 1000} s`, {
          retryable: true,
          hint: 'Leave less in the results',
        }),
    })
  } catch (error) {
    signal.throwIfAborted()
    throw toWeirError(error, 'publisher.failed', 'Cannot publish the results')
  }
}

/** What is known of the program's end. */
export interface ResultFacts {
  exit: RunExit
  /** What left it; absent when the node does not say. */
  receipt: EgressReceipt | undefined
}

async function layOut(
  run: Run,
  outputs: readonly PreparedOutput[],
  { exit: { exitCode }, receipt }: ResultFacts,
  signal: AbortSignal,
): Promise<void> {
  const { dirs, log, parts } = run
  // It is there when the node was restarted in the middle of this.
  const again = (await mkdir(dirs.result, { recursive: true, mode: 0o700 })) === undefined
  await splitOutput(
    log.file,
    { stdout: join(dirs.result, 'stdout'), stderr: join(dirs.result, 'stderr') },
    signal,
  )
  await writeFile(join(dirs.result, 'exitCode'), String(exitCode), { mode: 0o600 })
  if (receipt !== undefined)
    await writeFile(join(dirs.result, RECEIPT_FILE), `${JSON.stringify(receipt)}\n`, { mode: 0o600 })
  const limits = { bytesMax: run.diskBytesMax, filesMax: parts.limits.resultFilesMax }
  const collected = await collectOutputs(
    outputs.map(({ mount: { name, hostDir }, opened }) => ({ name, hostDir, opened })),
    dirs.result,
    limits,
    signal,
    { again },
  )
  for (const { path, reason } of collected.skipped.slice(0, SKIPPED_SHOWN)) {
    run.note({ topic: TOPIC, message: `Not published: ${path} (${reason})` })
  }
  const more = collected.skippedCount - SKIPPED_SHOWN
  if (more > 0) run.note({ topic: TOPIC, message: `Not published: ${more} more` })
}

const TOPIC = 'Publishing Results'
const SKIPPED_SHOWN = 10
