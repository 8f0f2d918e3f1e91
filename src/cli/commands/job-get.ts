import { resolve } from 'node:path'
import { WeirError } from '../../errors.js'
import { shortId } from '../../model/ids.js'
import { withClient } from '../context.js'
import { downloadJob } from '../download-job.js'
import { EXIT } from '../exit-codes.js'
import { listenForInterrupts } from '../interrupt.js'
import { readTimeout } from '../read-timeout.js'
import type { CliContext, GlobalFlags } from '../context.js'

/** `weir job get ID[/PATH]`. Interrupted downloads continue where they stopped when the command is given again. */
export async function jobGet(
  target: string,
  path: string | undefined,
  flags: GlobalFlags & { raw?: boolean; outputDir?: string; downloadTimeoutSecs?: string },
  context: CliContext,
): Promise<number> {
  const slash = target.indexOf('/')
  const id = slash < 0 ? target : target.slice(0, slash)
  const selected = slash < 0 ? (path ?? '') : target.slice(slash + 1)
  if (id === '' || (slash >= 0 && path !== undefined)) {
    throw new WeirError('cli.usage', 'Cannot tell which results to download', {
      hint: 'Write weir job get ID, ID/PATH or ID PATH',
    })
  }
  const timeoutMs = readTimeout('--download-timeout-secs', flags.downloadTimeoutSecs)
  const interrupts = listenForInterrupts()
  const late = new AbortController()
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => late.abort(), timeoutMs)
  const signal = AbortSignal.any([interrupts.first, late.signal])
  try {
    await withClient(flags, context, async (client) => {
      const { Job } = await client.job(id, { signal })
      const outputDir = resolve(context.cwd, flags.outputDir ?? `job-${shortId(Job.ID)}`)
      await downloadJob(
        client,
        Job.ID,
        { outputDir, raw: flags.raw ?? false, path: selected },
        context,
        signal,
      )
    })
    return EXIT.ok
  } catch (error) {
    if (!signal.aborted) throw error
    context.terminal.talk('The download was interrupted; the same command continues it')
    return interrupts.first.aborted ? interrupts.exitCode : EXIT.timeout
  } finally {
    clearTimeout(timer)
    interrupts.dispose()
  }
}
