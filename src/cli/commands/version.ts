import { VERSION } from '../../version.js'
import { printable } from '../../model/printable.js'
import { EXIT } from '../exit-codes.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'

const SERVER_TIMEOUT_MS = 3000

/** `weir version`: this program and the server, as far as it answers. Never fails for want of a server. */
export async function version(
  flags: GlobalFlags & ListFlags & { client?: boolean },
  context: CliContext,
): Promise<number> {
  if (flags.client === true && flags.output === undefined) {
    await context.terminal.data(`${VERSION}\n`)
    return EXIT.ok
  }
  const { printList } = await import('../output-format.js')
  const server = flags.client === true ? '' : await serverVersion(flags, context)
  const row = { client: VERSION, ...(flags.client === true ? {} : { server }) }
  const columns = [
    { header: 'CLIENT', value: () => row.client },
    ...(flags.client === true ? [] : [{ header: 'SERVER', value: () => server || 'none' }]),
  ]
  await printList(context.terminal, { rows: [row], columns, items: row }, flags)
  return EXIT.ok
}

async function serverVersion(flags: GlobalFlags, context: CliContext): Promise<string> {
  const { withClient } = await import('../context.js')
  try {
    const signal = AbortSignal.timeout(SERVER_TIMEOUT_MS)
    const answer = await withClient(flags, context, (client) => client.version({ signal }))
    return printable(answer.WeirVersion ?? `Bacalhau ${answer.GitVersion}`)
  } catch {
    return '' // Whatever the reason is, the answer is that no server told its version.
  }
}
