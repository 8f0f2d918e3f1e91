import { WeirError } from '../../errors.js'
import { ROLES } from '../../model/access.js'
import { printable } from '../../model/printable.js'
import { withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { OBJECT_FORMATS, printList, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { readLifetime } from '../read-lifetime.js'
import { dateTime } from '../times.js'
import type { WireToken } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface TokenFlags {
  name?: string
  role?: string
  namespace?: string[]
  expiresIn?: string
  output?: string
  pretty?: boolean
}

/** `weir auth token create`: the token goes to standard output, once; everything else to standard error. */
export async function tokenCreate(flags: GlobalFlags & TokenFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const role = readChoice('--role', flags.role ?? 'submitter', ROLES)
  const namespaces = flags.namespace?.flatMap((one) => one.split(',')).map((one) => one.trim())
  const seconds = flags.expiresIn === undefined ? undefined : readLifetime('--expires-in', flags.expiresIn)
  const made = await withClient(flags, context, (client) =>
    client.createToken({
      Name: flags.name ?? `${role} token`,
      Role: role,
      ...(namespaces === undefined
        ? role === 'admin'
          ? {}
          : { Namespaces: ['default'] }
        : { Namespaces: namespaces }),
      ...(seconds === undefined ? {} : { ExpiresInSeconds: seconds }),
    }),
  )
  if (flags.output !== undefined) {
    const format = readChoice('--output', flags.output, OBJECT_FORMATS)
    await printObject(terminal, made, format, flags.pretty ?? terminal.outIsTerminal)
    return EXIT.ok
  }
  const { Record: record } = made
  const until =
    record.ExpiresAt === undefined ? 'does not expire' : `until ${dateTime(Date.parse(record.ExpiresAt))}`
  terminal.talk(
    printable(
      `Token ${record.ID} "${record.Name}": ${record.Role}, ${namespacesText(record.Namespaces)}, ${until}`,
    ),
  )
  terminal.talk('It is shown this once; the server keeps only its hash:')
  await terminal.data(`${made.Token}\n`)
  return EXIT.ok
}

function namespacesText(namespaces: readonly string[]): string {
  if (namespaces.includes('*')) return 'all namespaces'
  return `${namespaces.length === 1 ? 'namespace' : 'namespaces'} ${namespaces.join(', ')}`
}

/** `weir auth token list`. */
export async function tokenList(
  flags: GlobalFlags & ListFlags & { all?: boolean },
  context: CliContext,
): Promise<number> {
  const found = await withClient(flags, context, (client) => client.tokens())
  const now = Date.now()
  const items = flags.all === true ? found : found.filter((token) => stateOf(token, now) === 'usable')
  await printList(context.terminal, { rows: items, columns: COLUMNS, items }, flags)
  return EXIT.ok
}

/** `weir auth token revoke <ID>`. */
export async function tokenRevoke(id: string, flags: GlobalFlags, context: CliContext): Promise<number> {
  const record = await withClient(flags, context, (client) => client.revokeToken(id))
  context.terminal.talk(
    printable(`Token ${record.ID} "${record.Name}" is revoked; its open streams are closed`),
  )
  return EXIT.ok
}

/** `weir auth hash-password`: reads a password and prints what `Password` of a configured user takes. */
export async function authHashPassword(_flags: GlobalFlags, context: CliContext): Promise<number> {
  const password = (
    context.ask === undefined
      ? await context.readStandardInput()
      : await context.ask('Password (not shown): ', { hidden: true })
  ).replace(/\r?\n$/, '')
  if (password.length < 10 || password.length > 255)
    throw new WeirError('cli.usage', 'Cannot take the password: it must have 10 to 255 characters')
  const { hashPassword } = await import('../../node/index.js')
  await context.terminal.data(`${await hashPassword(password)}\n`)
  return EXIT.ok
}

function stateOf(token: WireToken, now: number): 'usable' | 'revoked' | 'expired' {
  if (token.RevokedAt !== undefined) return 'revoked'
  return token.ExpiresAt !== undefined && Date.parse(token.ExpiresAt) <= now ? 'expired' : 'usable'
}

const COLUMNS: readonly Column<WireToken>[] = [
  { header: 'ID', value: ({ ID }) => ID, cutFirst: 0 },
  { header: 'NAME', value: ({ Name }) => Name, cutFirst: 3 },
  { header: 'ROLE', value: ({ Role }) => Role, cutFirst: 1 },
  { header: 'NAMESPACES', value: ({ Namespaces }) => Namespaces.join(','), cutFirst: 4 },
  { header: 'STATE', value: (token) => stateOf(token, Date.now()), cutFirst: 1 },
  { header: 'EXPIRES', value: ({ ExpiresAt = '' }) => day(ExpiresAt), cutFirst: 2 },
  { header: 'LAST USED', value: ({ LastUsedAt = '' }) => day(LastUsedAt), cutFirst: 2 },
]

function day(time: string): string {
  return time === '' ? '-' : dateTime(Date.parse(time))
}
