import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { printList } from '../output-format.js'
import { readAllowlistImport } from '../read-allowlist-import.js'
import { LISTED_COLUMNS, printOutcome } from './allowlist-report.js'
import type { WireListChange } from '../../client/index.js'
import type { ImportedList, ListChange, ListEdit } from '../../model/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { AllowlistEditFlags, AllowlistImportFlags } from './node-allowlist.js'

type EditFlags = AllowlistEditFlags & { begin?: boolean }

/** `weir network allowlist list`: what the network lets jobs reach, and where each pattern stands. */
export async function networkAllowlistList(
  flags: GlobalFlags & ListFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const list = await withClient(flags, context, (client) => client.networkAllowlist())
  const rows = list.Patterns.map(({ Pattern, Where, Comment }) => ({
    text: Pattern,
    where: Where,
    comment: Comment,
  }))
  const format = await printList(terminal, { rows, columns: LISTED_COLUMNS, items: list }, flags)
  if (format !== 'table') return EXIT.ok
  if (list.Limited) terminal.talk(`Version ${list.Version}: jobs reach what this list and a node's own allow`)
  else {
    terminal.talk('The network has no list: jobs reach whatever a node allows')
    suggest(terminal, [['Begin one:', 'weir network allowlist add --begin example.com']])
  }
  return EXIT.ok
}

/** `weir network allowlist add PATTERN…`. */
export function networkAllowlistAdd(
  patterns: readonly string[],
  flags: AllowlistEditFlags,
  context: CliContext,
): Promise<number> {
  return edit({ add: patterns }, flags, context)
}

/** `weir network allowlist remove PATTERN…`. */
export function networkAllowlistRemove(
  patterns: readonly string[],
  flags: AllowlistEditFlags,
  context: CliContext,
): Promise<number> {
  return edit({ remove: patterns }, flags, context)
}

/** `weir network allowlist import FILE`. */
export async function networkAllowlistImport(
  file: string,
  flags: AllowlistImportFlags,
  context: CliContext,
): Promise<number> {
  const list = await readAllowlistImport(file, { skipRefused: flags.skipRefused === true }, context)
  return edit({ add: list.taken.map(({ pattern }) => pattern) }, flags, context, list)
}

async function edit(
  { add, remove }: ListEdit,
  flags: EditFlags,
  context: CliContext,
  imported?: ImportedList,
): Promise<number> {
  const dryRun = flags.dryRun === true
  const asked = { add, remove, comment: flags.comment, dryRun, begin: flags.begin }
  const answer = await withClient(flags, context, (client) => client.editNetworkAllowlist(asked))
  const place = `the list of the network, version ${answer.Version}`
  const outcome = { change: changeOf(answer), place, dryRun, object: { ...answer }, imported }
  return printOutcome(context.terminal, outcome, flags)
}

function changeOf(change: WireListChange): ListChange {
  const places = (all: WireListChange['Covered']): ListChange['covered'] =>
    all.map(({ Pattern, By, Where }) => ({ pattern: Pattern, by: By, where: Where }))
  return {
    added: change.Added,
    removed: change.Removed,
    present: places(change.Present),
    covered: places(change.Covered),
    redundant: places(change.Redundant),
    absent: change.Absent,
    stillAllowed: places(change.StillAllowed),
  }
}
