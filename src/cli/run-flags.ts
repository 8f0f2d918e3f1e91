import { resolve } from 'node:path'
import { OBJECT_FORMATS } from './output-format.js'
import { requireLocalPath } from './read-local-file.js'
import type { SpecConfig } from '../model/job-spec.js'
import type { packDirectory } from '../client/index.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { ObjectFormat } from './output-format.js'
import type { Upload } from './job-from-flags.js'
import type { RunFlags } from './run-job.js'

export type AllRunFlags = GlobalFlags & RunFlags & { dryRun?: boolean; hideWarnings?: boolean }

/**
 * `--output` of the run commands names a result path (`name:/path`), or how to print at the end (`json`, `yaml`): a
 * result path always has a colon, a format never.
 */
export function splitOutputFlag(values: readonly string[] | undefined): {
  format: ObjectFormat | undefined
  results: string[]
} {
  const formats = (values ?? []).flatMap((value) =>
    OBJECT_FORMATS.filter((format) => format === value.toLowerCase()),
  )
  const results = (values ?? []).filter(
    (value) => !OBJECT_FORMATS.some((format) => format === value.toLowerCase()),
  )
  return { format: formats.at(-1), results }
}

/** Local files travel inside the job. A module that is not tiny is compressed. */
export function uploader(context: Pick<CliContext, 'cwd'>, pack: typeof packDirectory): Upload {
  return async (path): Promise<SpecConfig> => {
    const full = resolve(context.cwd, path)
    await requireLocalPath(full, path.endsWith('.wasm') ? 'the program' : 'the input')
    return { Type: 'inline', Params: { URL: await pack(full, { compressFile: path.endsWith('.wasm') }) } }
  }
}
