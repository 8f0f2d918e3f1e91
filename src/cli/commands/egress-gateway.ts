import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { printable } from '../../model/printable.js'
import { suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { type EgressPatternFlags, egressPatterns } from '../egress-pattern-flags.js'
import { FlagProblems } from '../flag-problems.js'
import { aborted, listenForInterrupts } from '../interrupt.js'
import type { ServedListener } from '../../standalone/index.js'
import type { CliContext, GlobalFlags } from '../context.js'

export interface GatewayFlags extends GlobalFlags, EgressPatternFlags {
  listen?: string[]
  policy?: string
  auditDir?: string
  insecure?: boolean
}

const GRACE_MS = 10_000

/** `weir egress gateway`: the gateway alone, as a forward proxy, until Ctrl-C; a second one cuts what is under way. */
export async function egressGateway(flags: GatewayFlags, context: CliContext): Promise<number> {
  const { terminal, cwd, environment } = context
  const problems = new FlagProblems()
  const allow = await egressPatterns(flags, problems, context)
  problems.throwAny()
  const dataDir = flags.dataDir ?? environment.WEIR_DIR ?? join(homedir(), '.weir')
  const auditDir = resolve(cwd, flags.auditDir ?? join(dataDir, 'egress-gateway'))
  const { serveGateway } = await import('../../standalone/index.js')
  const interrupts = listenForInterrupts()
  try {
    const gateway = await serveGateway({
      ...(flags.policy === undefined ? {} : { policyFile: resolve(cwd, flags.policy) }),
      allow,
      listen: flags.listen ?? [],
      auditDir,
      insecure: flags.insecure === true,
      onNote: (note) =>
        note.split('\n').forEach((line) => terminal.talk(terminal.talkStyle.yellow(printable(line)))),
    })
    for (const { proxyUrl, identity } of gateway.listeners)
      terminal.talk(
        `weir listens on ${proxyUrl} for ${identity === '' ? 'clients with a credential' : identity}`,
      )
    terminal.talk(`Records are in ${printable(auditDir)}`)
    suggest(terminal, [...trying(gateway.listeners), ['Stop:', 'Ctrl-C']])
    await aborted(interrupts.first)
    terminal.talk('Stopping… (Ctrl-C again: cut what is under way)')
    await Promise.race([gateway.close(GRACE_MS), aborted(interrupts.second)])
    return interrupts.second.aborted ? interrupts.exitCode : EXIT.ok
  } finally {
    interrupts.dispose()
  }
}

/** What a client of the first listener that lets anything out would write. */
function trying(listeners: readonly ServedListener[]): [string, string][] {
  const open = listeners.find(({ exampleUrl }) => exampleUrl !== undefined)
  if (open === undefined)
    return [['Nothing leaves:', 'no host is listed; --domain lists one, or the policy file']]
  const { proxyUrl, identity, exampleUrl = '' } = open
  const credential = identity === '' ? ' --proxy-user NAME:SECRET' : ''
  return [['Try:', `curl --proxy ${proxyUrl}${credential} ${exampleUrl}`]]
}
