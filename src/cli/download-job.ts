import { formatBytes } from '../model/resources.js'
import { downloadResults } from '../client/index.js'
import type { DownloadProgress, WeirClient } from '../client/index.js'
import type { CliContext } from './context.js'

/** Downloads what a job published, with a progress bar on a terminal. Rejects with `results.*`. */
export async function downloadJob(
  client: WeirClient,
  jobId: string,
  target: { outputDir: string; raw: boolean; path: string },
  { terminal }: CliContext,
  signal: AbortSignal,
): Promise<void> {
  const { Items } = await client.results(jobId, { signal })
  const { files } = await downloadResults(Items, {
    ...target,
    signal,
    onProgress: (progress) => terminal.progress(progressBar(progress)),
  })
  const count = files.length === 1 ? '1 file' : `${files.length} files`
  terminal.talk(terminal.talkStyle.green(`Downloaded ${count} to ${target.outputDir}`))
}

const BAR_WIDTH = 24

/** `[████████        ]  1.2 MB of 3.4 MB, 1 of 2 results`. */
export function progressBar({ receivedBytes, totalBytes, finished, results }: DownloadProgress): string {
  const counted = results > 1 ? `, ${finished} of ${results} results` : ''
  if (totalBytes === undefined) return `${formatBytes(receivedBytes)}${counted}`
  const share = totalBytes === 0 ? 1 : Math.min(1, receivedBytes / totalBytes)
  const filled = Math.round(share * BAR_WIDTH)
  const bar = `[${'█'.repeat(filled)}${' '.repeat(BAR_WIDTH - filled)}]`
  return `${bar}  ${formatBytes(receivedBytes)} of ${formatBytes(totalBytes)}${counted}`
}
