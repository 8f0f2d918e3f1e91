import { printable } from '../../model/printable.js'
import { readConfig, suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { printList } from '../output-format.js'
import { readAllowlistImport } from '../read-allowlist-import.js'
import { changeObject, LISTED_COLUMNS, printOutcome } from './allowlist-report.js'
import type { ImportedList, ListEdit } from '../../model/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'

export interface AllowlistEditFlags extends GlobalFlags {
  comment?: string
  dryRun?: boolean
  output?: string
  pretty?: boolean
}

export interface AllowlistImportFlags extends AllowlistEditFlags {
  skipRefused?: boolean
}

/** `weir node allowlist list`: what the configuration of this machine lets jobs reach, and where each pattern stands. */
export async function nodeAllowlistList(
  flags: GlobalFlags & ListFlags,
  context: CliContext,
): Promise<number> {
  const { readNodeAllowlist } = await import('../../node/index.js')
  const config = await readConfig(flags, context)
  const { file, patterns } = await readNodeAllowlist(config)
  const mode = config.values['Egress.Mode']
  const items = {
    Mode: mode,
    File: file,
    Patterns: patterns.map(({ text, where, comment }) => ({ Pattern: text, Where: where, Comment: comment })),
  }
  const format = await printList(context.terminal, { rows: patterns, columns: LISTED_COLUMNS, items }, flags)
  if (format !== 'table') return EXIT.ok
  if (mode !== 'list') context.terminal.talk(`Egress.Mode is ${mode}: this list does not count`)
  if (!config.values['JobAdmissionControl.AcceptNetworkedJobs'])
    context.terminal.talk(
      'This configuration accepts no jobs with network access (JobAdmissionControl.AcceptNetworkedJobs)',
    )
  if (patterns.length === 0)
    suggest(context.terminal, [['Add a host:', 'weir node allowlist add example.com']])
  return EXIT.ok
}

/** `weir node allowlist add PATTERN…`. */
export function nodeAllowlistAdd(
  patterns: readonly string[],
  flags: AllowlistEditFlags,
  context: CliContext,
): Promise<number> {
  return edit({ add: patterns, comment: flags.comment }, flags, context)
}

/** `weir node allowlist remove PATTERN…`. */
export function nodeAllowlistRemove(
  patterns: readonly string[],
  flags: AllowlistEditFlags,
  context: CliContext,
): Promise<number> {
  return edit({ remove: patterns }, flags, context)
}

/** `weir node allowlist import FILE`. */
export async function nodeAllowlistImport(
  file: string,
  flags: AllowlistImportFlags,
  context: CliContext,
): Promise<number> {
  const list = await readAllowlistImport(file, { skipRefused: flags.skipRefused === true }, context)
  const add = list.taken.map(({ pattern }) => pattern)
  return edit({ add, comment: flags.comment }, flags, context, list)
}

async function edit(
  asked: ListEdit,
  flags: AllowlistEditFlags,
  context: CliContext,
  imported?: ImportedList,
): Promise<number> {
  const dryRun = flags.dryRun === true
  const { editNodeAllowlist } = await import('../../node/index.js')
  const { file, ...change } = await editNodeAllowlist(await readConfig(flags, context), asked, { dryRun })
  const object = { File: file, DryRun: dryRun, ...changeObject(change) }
  const outcome = { change, place: printable(file), dryRun, object, imported }
  return printOutcome(context.terminal, outcome, flags)
}
