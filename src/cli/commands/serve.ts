import { readConfig } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { listenForInterrupts } from '../interrupt.js'
import { serveFlagSettings } from '../serve-flags.js'
import { suggest } from '../context.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ServeFlags } from '../serve-flags.js'

/** `weir serve`: a node in this process until Ctrl-C; a second Ctrl-C leaves without waiting for running jobs. */
export async function serve(flags: GlobalFlags & ServeFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const settings = [...serveFlagSettings(flags), ...(flags.config ?? [])]
  const config = await readConfig({ ...flags, config: settings }, context)
  const { startNode } = await import('../../node/index.js')
  const interrupts = listenForInterrupts()
  try {
    const node = await startNode({ config, roles: rolesOf(config.values) })
    terminal.talk(`weir serves as node ${node.nodeId} on ${node.apiUrl} (data in ${config.dataDir})`)
    suggest(terminal, [
      ['Try:', 'weir node list'],
      ['Stop:', 'Ctrl-C'],
    ])
    await aborted(interrupts.first)
    terminal.talk('Stopping… (Ctrl-C again: leave at once)')
    await Promise.race([node.close(), aborted(interrupts.second)])
    return interrupts.second.aborted ? interrupts.exitCode : EXIT.ok
  } finally {
    interrupts.dispose()
  }
}

/** Neither role enabled means both. */
function rolesOf(values: { 'Orchestrator.Enabled': boolean; 'Compute.Enabled': boolean }): {
  orchestrator: boolean
  compute: boolean
} {
  const { 'Orchestrator.Enabled': orchestrator, 'Compute.Enabled': compute } = values
  return orchestrator || compute ? { orchestrator, compute } : { orchestrator: true, compute: true }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
