import { printable } from '../../model/printable.js'
import { withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { OBJECT_FORMATS, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import type { CliContext, GlobalFlags } from '../context.js'

type AgentFlags = GlobalFlags & { output?: string; pretty?: boolean }

/** `weir agent alive`. */
export async function agentAlive(flags: AgentFlags, context: CliContext): Promise<number> {
  return show(await withClient(flags, context, (client) => client.alive()), flags, context)
}

/** `weir agent node`. */
export async function agentNode(flags: AgentFlags, context: CliContext): Promise<number> {
  return show(await withClient(flags, context, (client) => client.agentNode()), flags, context)
}

/** `weir agent config`. */
export async function agentConfig(flags: AgentFlags, context: CliContext): Promise<number> {
  return show(await withClient(flags, context, (client) => client.config()), flags, context)
}

/** `weir agent version`: three lines, or the structured form with `--output`. */
export async function agentVersion(flags: AgentFlags, context: CliContext): Promise<number> {
  const version = await withClient(flags, context, (client) => client.version())
  if (flags.output !== undefined) return show(version, flags, context)
  const name =
    version.WeirVersion === undefined ? `Bacalhau ${version.GitVersion}` : `weir ${version.WeirVersion}`
  const lines = [name, `BuildDate ${version.BuildDate}`, `GitCommit ${version.GitCommit}`]
  await context.terminal.data(lines.map((line) => `${printable(line)}\n`).join(''))
  return EXIT.ok
}

async function show(value: unknown, flags: AgentFlags, { terminal }: CliContext): Promise<number> {
  const format = readChoice('--output', flags.output ?? 'yaml', OBJECT_FORMATS)
  await printObject(terminal, value, format, flags.pretty ?? terminal.outIsTerminal)
  return EXIT.ok
}
