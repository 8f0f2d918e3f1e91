import { listFlags, objectFlags } from './output-flags.js'
import type { WeirCommand } from './command.js'
import type { CliContext, GlobalFlags } from './context.js'
import type { Leaf } from './program.js'

/** `weir auth …`. */
export function addAuthCommands(leaf: Leaf, auth: WeirCommand, context: CliContext): void {
  leaf<import('./commands/auth-login.js').LoginFlags>(
    auth,
    'login [URL]',
    'Log in to a server with a token, and remember its key',
    async (operands, flags) =>
      (await import('./commands/auth-login.js')).authLogin(operands[0], flags, context),
  )
    .option('--token-file <FILE>', 'file with the token; - reads standard input (default: ask)')
    .option('--fingerprint <SHA256:…>', 'of the server’s key, as it says it at its start')
  leaf<{ forgetServer?: boolean }>(
    auth,
    'logout [URL]',
    'Forget the token for a server',
    async (operands, flags) =>
      (await import('./commands/auth-login.js')).authLogout(operands[0], flags, context),
  ).option('--forget-server', 'forget the server’s key as well')
  objectFlags(
    leaf<{ output?: string; pretty?: boolean }>(
      auth,
      'whoami',
      'Whom the server takes you for, and what you may do',
      async (_operands, flags) => (await import('./commands/auth-login.js')).authWhoAmI(flags, context),
    ),
  )
  addTokenCommands(
    leaf,
    auth.command('token').description('Tokens with which people and programs log in') as WeirCommand,
    context,
  )
  listFlags(
    leaf<Parameters<typeof import('./commands/auth-audit.js').authAudit>[0]>(
      auth,
      'audit',
      'Who changed what: tokens, nodes, jobs of others, refused credentials',
      async (_operands, flags) => (await import('./commands/auth-audit.js')).authAudit(flags, context),
    )
      .option('--limit <NUMBER>', 'the newest so many (default 50)')
      .option('--next-token <TOKEN>', 'the page that this token begins')
      .option('--verify', 'recompute the chain of hashes; exit code 1 when it is broken') as WeirCommand,
  )
  leaf<GlobalFlags>(
    auth,
    'hash-password',
    'Hash a password for API.Auth.Users; it is asked for or read from standard input',
    async (_operands, flags) => (await import('./commands/auth-tokens.js')).authHashPassword(flags, context),
  )
}

function addTokenCommands(leaf: Leaf, token: WeirCommand, context: CliContext): void {
  objectFlags(
    leaf<import('./commands/auth-tokens.js').TokenFlags>(
      token,
      'create',
      'Make a token; it is printed once',
      async (_operands, flags) => (await import('./commands/auth-tokens.js')).tokenCreate(flags, context),
    )
      .option('--name <NAME>', 'whose it is, or what it is for')
      .option('--role <ROLE>', 'admin, submitter or reader (default submitter)')
      .collected('--namespace <NAME>', 'where it holds; * = everywhere; repeatable (default "default")')
      .option('--expires-in <DURATION>', 'for example 12h, 30d or 8w (default never)') as WeirCommand,
  )
  listFlags(
    leaf<Parameters<typeof import('./commands/auth-tokens.js').tokenList>[0]>(
      token,
      'list',
      'List the tokens that can be used',
      async (_operands, flags) => (await import('./commands/auth-tokens.js')).tokenList(flags, context),
    ).option('--all', 'revoked and expired ones too') as WeirCommand,
  )
  leaf<GlobalFlags>(
    token,
    'revoke <ID>',
    'Make a token useless at once, and close its streams',
    async (operands, flags) =>
      (await import('./commands/auth-tokens.js')).tokenRevoke(operands[0] ?? '', flags, context),
  )
}
