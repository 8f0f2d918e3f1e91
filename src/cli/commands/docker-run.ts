import { packDirectory } from '../../client/index.js'
import { FlagProblems } from '../flag-problems.js'
import { dockerJob } from '../job-from-flags.js'
import { splitOutputFlag, uploader } from '../run-flags.js'
import { withFlagPlaces } from '../flag-places.js'
import { signedByFlags } from '../signing-key.js'
import { submitJob } from '../submit.js'
import type { LocalBlob } from '../local-blobs.js'
import type { CliContext } from '../context.js'
import type { DockerFlags } from '../job-from-flags.js'
import type { AllRunFlags } from '../run-flags.js'

/** `weir docker run [flags] IMAGE [COMMAND…]`. */
export async function dockerRun(
  image: string,
  parameters: readonly string[],
  flags: DockerFlags & AllRunFlags,
  context: CliContext,
): Promise<number> {
  const { format, results } = splitOutputFlag(flags.output)
  const problems = new FlagProblems()
  const blobs: LocalBlob[] = []
  const job = await dockerJob({ ...flags, output: results }, image, parameters, {
    problems,
    upload: uploader(context, packDirectory, blobs),
  })
  const parsed = await signedByFlags(problems.parse(job), flags, context)
  return withFlagPlaces(() =>
    submitJob(
      parsed,
      { flags, format, blobs, mayEmbed: true, showWarnings: flags.hideWarnings !== true },
      context,
    ),
  )
}
