import { packDirectory } from '../../client/index.js'
import { FlagProblems } from '../flag-problems.js'
import { checkLocalProgram } from '../local-program.js'
import { isLocalProgram, wasmJob } from '../job-from-flags.js'
import { splitOutputFlag, uploader } from '../run-flags.js'
import { withFlagPlaces } from '../flag-places.js'
import { signedByFlags } from '../signing-key.js'
import { submitJob } from '../submit.js'
import type { LocalBlob } from '../local-blobs.js'
import type { CliContext } from '../context.js'
import type { WasmFlags } from '../job-from-flags.js'
import type { AllRunFlags } from '../run-flags.js'

/** `weir wasm run [flags] {FILE.wasm|URL|CID} [ARGUMENT…]`. */
export async function wasmRun(
  program: string,
  parameters: readonly string[],
  flags: WasmFlags & AllRunFlags,
  context: CliContext,
): Promise<number> {
  const { format, results } = splitOutputFlag(flags.output)
  const problems = new FlagProblems()
  const blobs: LocalBlob[] = []
  const job = await wasmJob({ ...flags, output: results }, program, parameters, {
    problems,
    upload: uploader(context, packDirectory, blobs),
  })
  if (isLocalProgram(program)) await checkLocalProgram(program, flags, problems, context)
  const parsed = await signedByFlags(problems.parse(job), flags, context)
  return withFlagPlaces(() =>
    submitJob(
      parsed,
      { flags, format, blobs, mayEmbed: true, showWarnings: flags.hideWarnings !== true },
      context,
    ),
  )
}
