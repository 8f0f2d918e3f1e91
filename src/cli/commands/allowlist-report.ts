import { quoted } from '../../model/printable.js'
import { EXIT } from '../exit-codes.js'
import { printObject, readObjectOutput } from '../output-format.js'
import type { ImportedList, ListChange, ListedPattern, RefusedEntry } from '../../model/index.js'
import type { Terminal } from '../terminal.js'
import type { Column } from '../table.js'

/** What a change of an allowlist has to say. */
export interface AllowlistOutcome {
  change: ListChange
  /** Where it was written, or would be. */
  place: string
  dryRun: boolean
  /** What is printed for machines; what an import refused is added. */
  object: Record<string, unknown>
  imported: ImportedList | undefined
}

/** Says what `allowlist add`, `remove` or `import` did, or would do; in the format of `--output`, prints it for machines. */
export async function printOutcome(
  terminal: Terminal,
  { change, place, dryRun, object, imported }: AllowlistOutcome,
  flags: { output?: string; pretty?: boolean },
): Promise<number> {
  const format = readObjectOutput(flags)
  if (format === undefined) reportChange(terminal, change, { place, dryRun })
  else {
    const refused =
      imported === undefined ? {} : { Format: imported.format, Refused: refusedObjects(imported) }
    await printObject(terminal, { ...object, ...refused }, format, flags.pretty ?? terminal.outIsTerminal)
  }
  return EXIT.ok
}

/** Says what a change of an allowlist did, or would do, one fact per line. */
function reportChange(
  terminal: Terminal,
  change: ListChange,
  { place, dryRun }: { place: string; dryRun: boolean },
): void {
  const { added, removed, present, covered, redundant, absent, stillAllowed } = change
  const would = (done: string, planned: string): string => (dryRun ? planned : done)
  const many = (lines: readonly string[]): void => {
    for (const line of lines.slice(0, LINES_MAX)) terminal.talk(line)
    if (lines.length > LINES_MAX) terminal.talk(`… and ${lines.length - LINES_MAX} more`)
  }
  many(added.map((pattern) => `${would('Added', 'Would add')} ${pattern}`))
  many(removed.map((pattern) => `${would('Removed', 'Would remove')} ${pattern}`))
  many(present.map(({ pattern, where }) => `${pattern} is there already (${where})`))
  many(
    covered.map(({ pattern, by, where }) => `${pattern} is allowed already by ${by} (${where}); not added`),
  )
  many(redundant.map(({ pattern, by, where }) => `${pattern} (${where}) is now allowed by ${by} as well`))
  many(absent.map((pattern) => `${pattern} is not in the list`))
  many(
    stillAllowed.map(
      ({ pattern, by, where }) =>
        `What ${pattern} means is still allowed, at least in part, by ${by} (${where})`,
    ),
  )
  const isSame = added.length === 0 && removed.length === 0
  if (isSame) terminal.talk(`Nothing to change in ${place}`)
  else if (dryRun) terminal.talk(`Nothing was written to ${place}: this was --dry-run`)
  else terminal.talk(`Written to ${place}`)
}

const LINES_MAX = 50

/** As it is printed for machines. */
export function changeObject(change: ListChange): Record<string, unknown> {
  const where = (one: { pattern: string; by?: string; where: string }): Record<string, string> => ({
    Pattern: one.pattern,
    ...(one.by === undefined ? {} : { By: one.by }),
    Where: one.where,
  })
  return {
    Added: change.added,
    Removed: change.removed,
    Present: change.present.map(where),
    Covered: change.covered.map(where),
    Redundant: change.redundant.map(where),
    Absent: change.absent,
    StillAllowed: change.stillAllowed.map(where),
  }
}

/** One refused entry: where, what, why, and what to do. */
export function refusedLine({ line, text, reason, advice }: RefusedEntry): string {
  return `line ${line}: ${quoted(text)}: ${reason}. ${advice}`
}

/** The refused entries for machines. */
function refusedObjects({ refused }: ImportedList): Record<string, unknown>[] {
  return refused.map(({ line, text, reason, advice }) => ({
    Line: line,
    Text: text,
    Reason: reason,
    Advice: advice,
  }))
}

export const LISTED_COLUMNS: readonly Column<ListedPattern>[] = [
  { header: 'PATTERN', value: ({ text }) => text, cutFirst: 0 },
  { header: 'STANDS IN', value: ({ where }) => where, cutFirst: 2 },
  { header: 'COMMENT', value: ({ comment }) => comment, cutFirst: 3 },
]
