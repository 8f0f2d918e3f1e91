import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { nearestName } from '../model/nearest-name.js'
import { shellWord } from './shell-word.js'
import { blobSource, readLocalBlob, type LocalBlob } from './local-blobs.js'
import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'
import { OBJECT_FORMATS } from './output-format.js'
import { requireLocalPath } from './read-local-file.js'
import type { SpecConfig } from '../model/job-spec.js'
import type { packDirectory } from '../client/index.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { ObjectFormat } from './output-format.js'
import type { Upload } from './job-from-flags.js'
import type { RunFlags } from './run-job.js'
import type { SignFlags } from './signing-key.js'

export type AllRunFlags = GlobalFlags & RunFlags & SignFlags & { dryRun?: boolean; hideWarnings?: boolean }

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

/** Files from this size on are uploaded; smaller ones travel inside the job. */
const INLINE_BYTES_MAX = 64 * 1024

/**
 * Programs, and files that are not small, become content that is sent before the job (it is added to `blobs`); the job
 * names it by its CID. Small files and directories travel inside the job.
 */
export function uploader(
  context: Pick<CliContext, 'cwd'>,
  pack: typeof packDirectory,
  blobs: LocalBlob[],
): Upload {
  return async (path, what): Promise<SpecConfig> => {
    const full = resolve(context.cwd, path)
    await requireLocalPath(full, `the ${what}`, await hintForMissing(path, full, what))
    const stats = await stat(full)
    const isProgram = what === 'program'
    if (stats.isDirectory() && isProgram) throw isDirectory(path)
    if (!stats.isFile() || (!isProgram && stats.size <= INLINE_BYTES_MAX))
      return { Type: 'inline', Params: { URL: await pack(full) } }
    const blob = await readLocalBlob(full, path, isProgram)
    if (!blobs.some(({ cid }) => cid === blob.cid)) blobs.push(blob)
    return blobSource(blob)
  }
}

function isDirectory(path: string): WeirError {
  return new WeirError('cli.usage', `Cannot run ${quoted(path, 200)}: it is a directory`, {
    hint: 'Name the compiled module in it, a file that usually ends in .wasm',
  })
}

const NAMES_MAX = 10_000

/** What to do when there is nothing at the path; made before it is looked for, so that it costs one directory listing. */
async function hintForMissing(
  path: string,
  full: string,
  what: 'program' | 'input',
): Promise<string | undefined> {
  if (await exists(full)) return undefined
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(path) ?? []
  if (scheme !== undefined) return `${scheme}: is no scheme that is fetched; use https://, ipfs:// or s3://`
  if (/^(?:Qm|baf)[A-Za-z0-9]{20,}$/.test(path))
    return 'It looks like a CID, but is none: a part is missing or too much. `weir wasm list` shows what was uploaded'
  const names = (await readdir(dirname(full)).catch(() => [])).slice(0, NAMES_MAX)
  const near = nearestName(basename(full), names) ?? names.find((name) => name === `${basename(full)}.wasm`)
  if (near !== undefined) return `Did you mean ${shellWord(join(dirname(path), near))}?`
  return what === 'program' ? 'Name the compiled .wasm file, a URL, or a CID' : undefined
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
