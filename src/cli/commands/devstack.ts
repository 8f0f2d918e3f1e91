import { isAbsolute, join } from 'node:path'
import { WeirError } from '../../errors.js'
import { configSources, suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { aborted, listenForInterrupts } from '../interrupt.js'
import { wholeNumber } from '../whole-number.js'
import { serveFlagSettings } from '../serve-flags.js'
import type { Devstack } from '../../node/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ServeFlags } from '../serve-flags.js'

export interface DevstackFlags
  extends GlobalFlags,
    Pick<ServeFlags, 'acceptNetworkedJobs' | 'allowDomain' | 'allowListedLocalPaths'> {
  computeNodes?: string
  computes?: string
  hybridNodes?: string
  hybrids?: string
  orchestrators?: string
  requesterNodes?: string
  stackRepo?: string
  standardPorts?: boolean
}

/** `weir devstack`: several nodes on this machine until Ctrl-C. */
export async function devstack(flags: DevstackFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const counts = readCounts(flags)
  const settings = [...serveFlagSettings(flags), ...(flags.config ?? [])]
  const sources = configSources({ ...flags, config: settings }, context)
  const { clientExports, startDevstack } = await import('../../node/index.js')
  const interrupts = listenForInterrupts()
  try {
    terminal.talk(
      terminal.talkStyle.dim(`Starting ${counts.computeNodes + (counts.isHybrid ? 1 : 0)} nodes…`),
    )
    const starting = startDevstack({
      sources,
      ...counts,
      ...directoryOf(flags.stackRepo, context.cwd),
      hasStandardPorts: flags.standardPorts === true || isSet(context.environment.PREDICTABLE_API_PORT),
      onGone: (name, reason) => terminal.talk(`Node ${name} has ended: ${reason}`),
    })
    const stack = await starting
    showStack(stack, context)
    suggest(terminal, [
      ...clientExports(stack.orchestrator.apiUrl).map(
        (line, index) => [index === 0 ? 'Use it:' : '', line] as const,
      ),
      ['Try:', 'weir node list'],
      ['Stop:', 'Ctrl-C'],
    ])
    await aborted(interrupts.first)
    terminal.talk('Stopping all nodes… (Ctrl-C again: leave at once)')
    await Promise.race([stack.close(), aborted(interrupts.second)])
    return interrupts.second.aborted ? interrupts.exitCode : EXIT.ok
  } finally {
    interrupts.dispose()
  }
}

function showStack({ members, directory }: Devstack, { terminal }: CliContext): void {
  terminal.talk('Every node is connected')
  for (const { name, pid, apiUrl, dataDir } of members)
    terminal.talk(`  ${name}  pid ${pid}  ${apiUrl}  ${dataDir}`)
  terminal.talk(terminal.talkStyle.dim(`Data and logs: ${directory}`))
}

function readCounts(flags: DevstackFlags): { computeNodes: number; isHybrid: boolean } {
  const orchestrators = wholeNumber('--orchestrators', flags.orchestrators ?? flags.requesterNodes) ?? 1
  const hybrids = wholeNumber('--hybrid-nodes', flags.hybridNodes ?? flags.hybrids) ?? 0
  if (orchestrators + hybrids < 1 || orchestrators > 1 || hybrids > 1) {
    throw new WeirError('cli.usage', 'Cannot start a stack without exactly one orchestrator', {
      hint: 'Leave --orchestrators out; --hybrid-nodes 1 makes the orchestrator run jobs as well',
    })
  }
  const computeNodes = wholeNumber('--compute-nodes', flags.computeNodes ?? flags.computes) ?? 3
  return { computeNodes, isHybrid: hybrids === 1 }
}

function directoryOf(stackRepo: string | undefined, cwd: string): { directory?: string } {
  if (stackRepo === undefined) return {}
  return { directory: isAbsolute(stackRepo) ? stackRepo : join(cwd, stackRepo) }
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '' && value !== '0' && value.toLowerCase() !== 'false'
}
