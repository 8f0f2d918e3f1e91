import type { ConfigValues } from '../config/index.js'
import { editWhole, FileBusy } from '../edit-whole.js'
import { isWeirError, WeirError } from '../errors.js'
import {
  editPatternFile,
  type ListChange,
  type ListEdit,
  type ListedPattern,
  listedPatterns,
  type ListRules,
  readPresets,
} from '../model/index.js'
import { quoted } from '../model/printable.js'
import { LIST_BYTES_MAX, listOptions, readListFile } from './egress-policy.js'

/** One allowlist: a key of the configuration, and the file beside it that commands edit. */
export interface AllowListPlace {
  key: 'Egress.Allow' | 'Orchestrator.Egress.Allow'
  values: ConfigValues
  /** Used where the configuration names no file. */
  standardFile: string
}

export interface AllowList {
  /** What commands edit; it need not be there yet. */
  file: string
  /** Those of the configuration first, then those of the file. */
  patterns: ListedPattern[]
}

/** Rejects with `config.invalid` or `pattern.invalid`, with every mistake by line. */
export async function readAllowList(place: AllowListPlace): Promise<AllowList> {
  const { file, isOptional } = fileOf(place)
  const rules = rulesOf(place, file)
  const text = await readListFile(file, `${place.key}File`, isOptional)
  return { file, patterns: [...(rules.elsewhere ?? []), ...listedPatterns(text ?? '', rules)] }
}

/**
 * Changes the file of an allowlist as a whole: it is judged first as the node would read it, and on any mistake nothing is
 * written. `dryRun` writes nothing and says the same. Whoever follows the file has the change in force within 100 ms.
 * Rejects with `pattern.invalid`, `preset.unknown` or `config.invalid`.
 */
export async function editAllowList(
  place: AllowListPlace,
  edit: ListEdit,
  {
    dryRun = false,
    check,
  }: { dryRun?: boolean; check?: (change: ListChange, text: string) => Promise<void> } = {},
): Promise<ListChange & { file: string }> {
  const { file, isOptional } = fileOf(place)
  const rules = rulesOf(place, file)
  let change: ListChange | undefined
  const apply = async (before: string | undefined): Promise<string> => {
    const edited = editPatternFile(before ?? '', edit, rules)
    change = edited.change
    const bytes = Buffer.byteLength(edited.text)
    if (bytes > LIST_BYTES_MAX)
      throw new WeirError('config.invalid', `The list would have ${bytes} bytes, more than ${LIST_BYTES_MAX}`)
    await check?.(edited.change, edited.text)
    return edited.text
  }
  const text = await readListFile(file, `${place.key}File`, isOptional)
  if (dryRun) await apply(text)
  else
    await editWhole(file, async (before) => {
      const after = await apply(before)
      return after === (before ?? '') ? undefined : after
    }).catch((error: unknown) => {
      throw unwritable(error, file)
    })
  if (change === undefined) throw new WeirError('internal', 'An allowlist was not edited')
  return { file, ...change }
}

function fileOf({ key, values, standardFile }: AllowListPlace): { file: string; isOptional: boolean } {
  const named = values[`${key}File`]
  return { file: named === '' ? standardFile : named, isOptional: named === '' }
}

function rulesOf({ key, values }: AllowListPlace, file: string): ListRules {
  const rules = { file, presets: readPresets(values['Egress.Presets']), ...listOptions(key, values) }
  const elsewhere = values[key].flatMap((text, index) => {
    const where = `${key}[${index}]`
    return listedPatterns(text, { ...rules, file: where }).map((one) => ({ ...one, where, comment: '' }))
  })
  return { ...rules, elsewhere }
}

/** Why a list of the operator could not be changed, as `config.invalid`. */
export function unwritable(error: unknown, file: string): unknown {
  if (isWeirError(error)) return error
  if (error instanceof FileBusy)
    return new WeirError('config.invalid', `Cannot change ${quoted(file, 200)}: ${error.message}`, {
      hint: `try again; if no other command is running here or on a machine that shares the directory, remove ${error.lock}`,
      retryable: true,
      cause: error,
    })
  return new WeirError('config.invalid', `Cannot change ${quoted(file, 200)}: ${(error as Error).message}`, {
    hint: 'the list is as it was; check the directory and its permissions',
    cause: error,
  })
}
