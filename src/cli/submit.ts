import { WeirError, isWeirError } from '../errors.js'
import { configSources, isServerConfigured, readClientConfig } from './context.js'
import { serverAccess } from './client-options.js'
import { EXIT } from './exit-codes.js'
import { listenForInterrupts } from './interrupt.js'
import { printObject } from './output-format.js'
import { readPlan, runJob } from './run-job.js'
import { WeirClient } from '../client/index.js'
import { sendBlobs, type LocalBlob } from './local-blobs.js'
import { printable } from '../model/printable.js'
import type { JobSpec } from '../model/job-spec.js'
import type { ParsedJob } from '../model/parse-job.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { ObjectFormat } from './output-format.js'
import type { RunFlags } from './run-job.js'

export interface SubmitOptions {
  flags: GlobalFlags & RunFlags & { dryRun?: boolean }
  format?: ObjectFormat
  /** Start a server in this process when none is configured and none answers. */
  mayEmbed: boolean
  /** Files of this machine that the job names by their content; sent first. Absent = none. */
  blobs?: readonly LocalBlob[]
  /** Print the warnings of parsing. */
  showWarnings: boolean
}

/**
 * What `docker run`, `wasm run` and `job run` share once they have a specification: dry run, the server, the run.
 * Resolves with the exit code.
 */
export async function submitJob(
  parsed: ParsedJob,
  options: SubmitOptions,
  context: CliContext,
): Promise<number> {
  const { flags, format, mayEmbed } = options
  const { terminal } = context
  const plan = readPlan(flags)
  if (options.showWarnings) {
    for (const warning of parsed.warnings)
      terminal.talk(`${terminal.talkStyle.yellow('Warning:')} ${printable(warning)}`)
  }
  if (flags.dryRun === true) {
    await printObject(terminal, parsed.spec, format ?? 'yaml', terminal.outIsTerminal)
    return EXIT.ok
  }
  const config = await readClientConfig(flags, context)
  const { options: access } = await serverAccess(config, context)
  const client = new WeirClient(access)
  try {
    if (mayEmbed && !isServerConfigured(config) && !(await answers(client))) {
      if (!plan.waits) throw nobodyToLeaveItWith()
      return await runEmbedded(parsed.spec, options, context)
    }
    const say = flags.idOnly === true ? () => undefined : (line: string) => terminal.talk(line)
    const spec = await sendBlobs(client, parsed.spec, options.blobs ?? [], say)
    return await runJob(client, withDownload(spec, flags), { flags, format, isEmbedded: false }, context)
  } finally {
    client.close()
  }
}

/** `--download` of a job that publishes nowhere: the node keeps the results for the download. */
function withDownload(spec: JobSpec, flags: RunFlags): JobSpec {
  const [task] = spec.Tasks
  if (flags.download !== true || task.Publisher.Type !== '') return spec
  return { ...spec, Tasks: [{ ...task, Publisher: { Type: 'local' } }] }
}

async function answers(client: WeirClient): Promise<boolean> {
  try {
    await client.alive()
    return true
  } catch (error) {
    if (isWeirError(error, 'api.unreachable')) return false
    throw error
  }
}

async function runEmbedded(
  spec: JobSpec,
  { flags, format, blobs = [] }: SubmitOptions,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  if (flags.idOnly !== true) {
    terminal.talk(
      terminal.talkStyle.dim('No server is running: this job runs in a node of its own, gone afterwards'),
    )
  }
  // Results would be gone with the node, so they are kept for the download that follows.
  const keepsResults = spec.Tasks[0].ResultPaths.length > 0
  const { startEmbedded } = await import('../node/index.js')
  // From here on there is something to clean up, so signals must not end the process.
  const interrupts = listenForInterrupts()
  try {
    const node = await startEmbedded(configSources(flags, context), { engine: spec.Tasks[0].Engine.Type })
    const client = new WeirClient({ baseUrl: node.apiUrl })
    try {
      if (interrupts.first.aborted) {
        terminal.talk('Interrupted before the job was submitted')
        return interrupts.exitCode
      }
      // Where everything is gone afterwards, nobody needs to know how to name it.
      await sendBlobs(client, spec, blobs, () => undefined)
      const complete = withDownload(spec, { download: keepsResults || flags.download === true })
      return await runJob(client, complete, { flags, format, isEmbedded: true }, context)
    } finally {
      client.close()
      await Promise.race([node.close(), outOfPatience(interrupts.second)])
    }
  } finally {
    interrupts.dispose()
  }
}

/** After a second Ctrl-C the node gets so long to end its program and to clean up. */
const PATIENCE_MS = 5000

function outOfPatience(second: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const start = (): void => {
      setTimeout(resolve, PATIENCE_MS).unref()
    }
    if (second.aborted) start()
    else second.addEventListener('abort', start, { once: true })
  })
}

function nobodyToLeaveItWith(): WeirError {
  return new WeirError(
    'cli.usage',
    'Cannot leave the job running: no server is configured, and none answers on this machine',
    {
      hint: 'Start one with `weir serve`, or run the job without --detach and --wait=false',
    },
  )
}
