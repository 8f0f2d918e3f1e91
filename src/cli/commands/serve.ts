import { printable } from '../../model/printable.js'
import { WeirError } from '../../errors.js'
import { readConfig, suggest } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { aborted, listenForInterrupts } from '../interrupt.js'
import { readJoinSecret } from '../join-secret.js'
import { serveFlagSettings } from '../serve-flags.js'
import type { RunningNode } from '../../node/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ServeFlags } from '../serve-flags.js'
import type { Terminal } from '../terminal.js'

/** `weir serve`: a node in this process until Ctrl-C; a second Ctrl-C leaves without waiting for running jobs. */
export async function serve(flags: GlobalFlags & ServeFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  if (flags.join !== undefined && flags.orchestrator === true) {
    throw new WeirError(
      'cli.usage',
      'Cannot use --join and --orchestrator at once: an orchestrator joins nobody',
      {
        hint: 'Leave one of them out',
      },
    )
  }
  const settings = [...serveFlagSettings(flags), ...(flags.config ?? [])]
  const config = await readConfig({ ...flags, config: settings }, context)
  const joinSecret = await readJoinSecret(flags.tokenFile, terminal)
  const { startNode } = await import('../../node/index.js')
  const interrupts = listenForInterrupts()
  try {
    const node = await startNode({
      config,
      roles: rolesOf(config.values),
      ...(flags.name === undefined ? {} : { name: flags.name }),
      ...(joinSecret === undefined ? {} : { joinSecret }),
    })
    terminal.talk(`weir serves as node ${node.nodeId} on ${node.apiUrl} (data in ${config.dataDir})`)
    sayHowToLogIn(node, terminal)
    await nextSteps(node, terminal)
    await aborted(interrupts.first)
    terminal.talk('Stopping… (Ctrl-C again: leave at once)')
    if (config.values['Compute.OnStop'] === 'keep') sayWhatRunsOn(node, terminal)
    await Promise.race([node.close(), aborted(interrupts.second)])
    return interrupts.second.aborted ? interrupts.exitCode : EXIT.ok
  } finally {
    interrupts.dispose()
  }
}

function sayWhatRunsOn(node: RunningNode, terminal: Terminal): void {
  const { runningExecutions } = node.nodeInfo()
  if (runningExecutions === 0) return
  terminal.talk(
    `${runningExecutions === 1 ? 'One job is' : `${runningExecutions} jobs are`} running: containers run on, and the next start takes them up`,
  )
  suggest(terminal, [['To end jobs at a stop:', 'weir config set Compute.OnStop=stop']])
}

/** The token itself is never shown: only where it is. */
function sayHowToLogIn(node: RunningNode, terminal: Terminal): void {
  if (node.fingerprint !== undefined) terminal.talk(`The fingerprint of its key is ${node.fingerprint}`)
  if (!node.asks) return
  const pin = node.fingerprint === undefined ? '' : ` --fingerprint ${node.fingerprint}`
  const file = node.rootTokenFile ?? 'FILE-WITH-YOUR-TOKEN'
  if (node.rootTokenFile !== undefined)
    terminal.talk(
      `Callers have to authenticate. The first token is in ${printable(file)}: make others with it`,
    )
  suggest(terminal, [['Log in:', `weir auth login ${node.apiUrl} --token-file ${printable(file)}${pin}`]])
}

/** What to type next. A join token is made on request only: nothing here is a secret. */
async function nextSteps(node: RunningNode, terminal: Terminal): Promise<void> {
  const { clientExports } = await import('../../node/index.js')
  if (node.networkStatus !== undefined) {
    const { state, server, problem } = node.networkStatus()
    if (state === 'connected') terminal.talk(`It belongs to the network at ${server ?? ''}`)
    else
      terminal.talk(
        problem === undefined ? 'It is connecting to its network' : `${problem.message}; it keeps trying`,
      )
    return suggest(terminal, [['Stop:', 'Ctrl-C']])
  }
  suggest(terminal, [
    ...clientExports(node.apiUrl).map((line, index) => [index === 0 ? 'Elsewhere:' : '', line] as const),
    ['Try:', 'weir node list'],
    ...(node.network === undefined
      ? []
      : ([
          ['Add a machine:', 'weir node token create > token'],
          ['', `there: weir serve --join ${node.network.joinUrl} --token-file token`],
        ] as const)),
    ['Stop:', 'Ctrl-C'],
  ])
}

/** Neither role enabled means both. */
function rolesOf(values: { 'Orchestrator.Enabled': boolean; 'Compute.Enabled': boolean }): {
  orchestrator: boolean
  compute: boolean
} {
  const { 'Orchestrator.Enabled': orchestrator, 'Compute.Enabled': compute } = values
  return orchestrator || compute ? { orchestrator, compute } : { orchestrator: true, compute: true }
}
