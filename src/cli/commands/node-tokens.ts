import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { wholeNumber } from '../whole-number.js'
import { printList, printObject, readObjectOutput } from '../output-format.js'
import { readTimeout } from '../read-timeout.js'
import { dateTime } from '../times.js'
import type { WireNodeToken } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface TokenCreateFlags extends GlobalFlags {
  description?: string
  expires?: string
  uses?: string
  output?: string
  pretty?: boolean
}

/** `weir node token create`: the token alone on standard output, so that it can go straight into a file. */
export async function nodeTokenCreate(flags: TokenCreateFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const wish = {
    ...(flags.description === undefined ? {} : { description: flags.description }),
    ...(flags.expires === undefined ? {} : { expiresAfterSeconds: secondsOf(flags.expires) }),
    ...(flags.uses === undefined ? {} : { usesMax: wholeNumber('--uses', flags.uses) ?? 0 }),
  }
  const format = readObjectOutput(flags)
  const made = await withClient(flags, context, (client) => client.createNodeToken(wish))
  if (format !== undefined) {
    await printObject(terminal, made, format, flags.pretty ?? terminal.outIsTerminal)
    return EXIT.ok
  }
  await terminal.data(`${made.Secret}\n`)
  terminal.talk(
    `Join token ${made.Token.ID}: ${usesText(made.Token)}, ${expiryText(made.Token)}. It is not shown again.`,
  )
  suggest(terminal, [['Use:', `weir serve --join ${made.JoinURL} --token-file FILE`]])
  return EXIT.ok
}

/** `weir node token list`. */
export async function nodeTokenList(flags: ListFlags & GlobalFlags, context: CliContext): Promise<number> {
  const tokens = await withClient(flags, context, (client) => client.nodeTokens())
  const format = await printList(context.terminal, { rows: tokens, columns: COLUMNS, items: tokens }, flags)
  if (format === 'table' && tokens.length === 0)
    suggest(context.terminal, [['Make one:', 'weir node token create']])
  return EXIT.ok
}

/** `weir node token revoke ID`. */
export async function nodeTokenRevoke(id: string, flags: GlobalFlags, context: CliContext): Promise<number> {
  await withClient(flags, context, (client) => client.revokeNodeToken(id))
  await context.terminal.data('Ok\n')
  return EXIT.ok
}

const COLUMNS: readonly Column<WireNodeToken>[] = [
  { header: 'ID', value: ({ ID }) => ID, cutFirst: 0 },
  { header: 'CREATED', value: ({ CreatedAt }) => dateTime(Date.parse(CreatedAt)), cutFirst: 2 },
  {
    header: 'EXPIRES',
    value: ({ ExpiresAt }) => (ExpiresAt === undefined ? 'never' : dateTime(Date.parse(ExpiresAt))),
  },
  {
    header: 'USES',
    value: ({ Uses, UsesMax }) => `${Uses} / ${UsesMax === 0 ? 'any' : UsesMax}`,
    cutFirst: 0,
  },
  { header: 'DESCRIPTION', value: ({ Description }) => Description, cutFirst: 3 },
]

/** 0 and `never` mean no end. */
function secondsOf(text: string): number {
  if (text.trim().toLowerCase() === 'never') return 0
  return Math.round((readTimeout('--expires', text) ?? 0) / 1000)
}

function usesText({ UsesMax }: WireNodeToken): string {
  return UsesMax === 0
    ? 'for any number of machines'
    : UsesMax === 1
      ? 'for one machine'
      : `for ${UsesMax} machines`
}

function expiryText({ ExpiresAt }: WireNodeToken): string {
  return ExpiresAt === undefined ? 'without end' : `until ${dateTime(Date.parse(ExpiresAt))}`
}
