import { constants, existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { WeirError } from '../../errors.js'
import { egressSummaryFields } from '../../model/egress-summary-fields.js'
import { parseHostPattern } from '../../model/host-pattern.js'
import { askedEgressLimits } from '../../model/network-limits.js'
import { formatBytes } from '../../model/resources.js'
import { egressLimits } from '../egress-limit-flags.js'
import { type EgressPatternFlags, egressPatterns } from '../egress-pattern-flags.js'
import { suggest } from '../context.js'
import { groupDomains } from '../../model/suggest-domains.js'
import { FlagProblems } from '../flag-problems.js'
import { destinationRows, EGRESS_COLUMNS } from '../egress-lines.js'
import { domainFlags, sayContacted, suggestionFields } from '../learned.js'
import { jsonOf, tableLayout, yamlOf } from '../output-format.js'
import { renderTable } from '../table.js'
import type { FileHandle } from 'node:fs/promises'
import type { EgressSummary } from '../../model/state.js'
import type { DomainSuggestion } from '../../model/suggest-domains.js'
import type { ExecResult } from '../../standalone/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { Terminal } from '../terminal.js'

export interface ExecFlags extends GlobalFlags, EgressPatternFlags {
  policy?: string
  learn?: boolean
  group?: boolean
  rate?: string
  budget?: string[]
  requests?: string
  allowWrite?: string[]
  hide?: string[]
  env?: string[]
  clearEnv?: boolean
  unixSockets?: boolean
  auditDir?: string
  summary?: string
  output?: string
  quiet?: boolean
}

/** `weir egress exec -- COMMAND`: runs it with no way out but a gateway, and says at the end where it went. */
export async function egressExec(
  command: readonly string[],
  flags: ExecFlags,
  context: CliContext,
): Promise<number> {
  const { terminal, cwd } = context
  const problems = new FlagProblems()
  const domains = await egressPatterns(flags, problems, context)
  const variables = problems.readAll('-e', flags.env ?? [], readVariable)
  const wanted = readLimits(flags, problems)
  problems.throwAny()
  // Opened before the program runs: it may write where the file will be.
  const file = flags.summary === undefined ? undefined : await openSummary(resolve(cwd, flags.summary))
  const signals = new ProgramSignals()
  try {
    const { execConfined, limitsOf, NO_BOUND, parsePolicy, readPolicyFile } = await import(
      '../../standalone/index.js'
    )
    const policy =
      flags.policy === undefined ? parsePolicy('') : await readPolicyFile(resolve(cwd, flags.policy))
    const allow = [...new Set([...policy.allow, ...domains])]
    const dnsServers = policy.dnsServers.length === 0 ? {} : { dnsServers: policy.dnsServers }
    if (flags.learn === true && flags.quiet !== true)
      terminal.talk(terminal.talkStyle.yellow('Learning: every public host is open to the program'))
    const result = await execConfined({
      command,
      files: {
        cwd,
        home: homedir(),
        allowWrite: flags.allowWrite,
        hide: hidden(flags, context),
        ...(flags.policy === undefined ? {} : { policyFile: flags.policy }),
      },
      environment: context.environment,
      environmentWishes: { clear: flags.clearEnv, set: Object.fromEntries(variables) },
      unixSockets: flags.unixSockets,
      lease: {
        mode: 'http',
        allow,
        ...(flags.learn === true && { learning: true }),
        limits: { ...limitsOf(policy.limits), ...wanted },
      },
      limits: NO_BOUND,
      // Whoever runs a program of this machine here is its operator.
      policy: {
        allow,
        deny: policy.deny,
        privateExceptions: policy.privateExceptions,
        self: [],
        ...(flags.learn === true && { learning: true }),
      },
      hosts: policy.hosts,
      ...dnsServers,
      ...(flags.auditDir === undefined ? {} : { auditDir: flags.auditDir }),
      onNote: (note) => flags.quiet !== true && terminal.talk(terminal.talkStyle.yellow(note)),
      onBegin: (program) => signals.give(program),
    })
    await file?.writeFile(`${jsonOf(report(command, result, flags), true)}\n`)
    if (flags.quiet !== true) await say(command, result, flags, terminal)
    return result.exitCode
  } finally {
    signals.dispose()
    await file?.close()
  }
}

/**
 * Signals for the program. Those of a terminal reach it by themselves, as the whole foreground group gets them; others
 * come to this process alone and are passed on. Before the program begins they end the command.
 */
class ProgramSignals {
  readonly #passed = new Map<NodeJS.Signals, () => void>()

  give(program: { signal: (name: NodeJS.Signals) => void }): void {
    const hasTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY
    for (const name of [
      'SIGINT',
      'SIGQUIT',
      'SIGTERM',
      'SIGHUP',
      'SIGUSR1',
      'SIGUSR2',
      'SIGWINCH',
    ] as const) {
      const fromTerminal = hasTerminal && ['SIGINT', 'SIGQUIT', 'SIGWINCH'].includes(name)
      const take = (): void => {
        if (!fromTerminal) program.signal(name)
      }
      this.#passed.set(name, take)
      process.on(name, take)
    }
  }

  dispose(): void {
    for (const [name, take] of this.#passed) process.off(name, take)
  }
}

/** Budgets of domains hold for canonical patterns. */
function readLimits(
  { rate, budget, requests }: ExecFlags,
  problems: FlagProblems,
): ReturnType<typeof askedEgressLimits> {
  const flags = { egressRate: rate, egressBudget: budget, egressRequests: requests }
  const asked = askedEgressLimits(egressLimits(flags, problems, '--'))
  const budgets = asked.budgets?.flatMap((one) =>
    problems.read('--budget', () => [{ ...one, domain: parseHostPattern(one.domain).text }], []),
  )
  return budgets === undefined ? asked : { ...asked, budgets }
}

/** What it was told to hide, and weir's own state with its tokens. */
function hidden(flags: ExecFlags, { cwd, environment }: CliContext): string[] {
  const own = resolve(cwd, flags.dataDir ?? environment.WEIR_DIR ?? join(homedir(), '.weir'))
  return [...(flags.hide ?? []), ...(existsSync(own) && !`${cwd}/`.startsWith(`${own}/`) ? [own] : [])]
}

function readVariable(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at > 0 && !text.includes('\0')) return [text.slice(0, at), text.slice(at + 1)]
  throw new WeirError('cli.usage', `Cannot read the environment variable "${text}"`, {
    hint: 'Write NAME=VALUE',
  })
}

/** Not through a link: an earlier run of the program may have made it, to have a file outside overwritten. */
async function openSummary(path: string): Promise<FileHandle> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
  const follow = path.startsWith('/dev/') ? 0 : O_NOFOLLOW
  return await open(path, O_WRONLY | O_CREAT | O_TRUNC | follow, 0o600).catch((error: Error) => {
    const reason = (error as NodeJS.ErrnoException).code === 'ELOOP' ? 'it is a symbolic link' : error.message
    throw new WeirError('cli.usage', `Cannot write the summary to ${path}: ${reason}`, { cause: error })
  })
}

function report(
  command: readonly string[],
  { exitCode, summary, executionId, learned }: ExecResult,
  flags: ExecFlags,
): object {
  return {
    Command: command,
    ExitCode: exitCode,
    ExecutionID: executionId,
    Egress: egressSummaryFields(summary),
    ...(learned === undefined
      ? {}
      : { Learned: { Allow: allowOf(learned, flags), ...suggestionFields(learned) } }),
  }
}

/** What a policy file would allow. */
function allowOf({ domains }: DomainSuggestion, { group }: ExecFlags): string[] {
  const exact = domains.map(({ domain }) => domain)
  return group === true ? groupDomains(exact) : exact
}

async function say(
  command: readonly string[],
  result: ExecResult,
  flags: ExecFlags,
  terminal: Terminal,
): Promise<void> {
  const { summary, learned } = result
  const { output } = flags
  if (output === 'json') return terminal.talk(jsonOf(report(command, result, flags), false))
  if (output === 'yaml') return terminal.talk((await yamlOf(report(command, result, flags))).trimEnd())
  terminal.talk(terminal.talkStyle.dim(`── ${headline(summary)}`))
  if (learned !== undefined) return sayLearned(learned, flags, terminal)
  const rows = destinationRows(summary.destinations)
  if (rows.length === 0) return suggestUnixSockets(result, flags, terminal)
  const layout = { ...tableLayout(terminal, {}), plain: true, style: terminal.talkStyle }
  for (const line of renderTable(rows, EGRESS_COLUMNS, layout).trimEnd().split('\n')) terminal.talk(line)
}

/** A program that failed, and not for a host: what it may have lacked is nowhere on record. */
function suggestUnixSockets({ exitCode }: ExecResult, { unixSockets }: ExecFlags, terminal: Terminal): void {
  if (exitCode === 0 || exitCode >= PROGRAM_NOT_RUN || unixSockets === true) return
  suggest(terminal, [
    ['If it wants a Unix socket (EAFNOSUPPORT, "Address family not supported"):', '--unix-sockets'],
  ])
}

/** From here on a shell says that there was no program, or that a signal ended it. */
const PROGRAM_NOT_RUN = 126

/** Ready to paste: the flags for the next run, and the lines of a policy file. */
function sayLearned(learned: DomainSuggestion, flags: ExecFlags, terminal: Terminal): void {
  sayContacted(learned, terminal)
  const allow = allowOf(learned, flags)
  if (allow.length === 0) return terminal.talk('It reached nothing, so it needs no network')
  suggest(terminal, [
    ['Run it with:', domainFlags(allow)],
    ['In a policy file:', `allow: [${allow.map((domain) => JSON.stringify(domain)).join(', ')}]`],
  ])
}

function headline({ allowed, refused, bytesUp, bytesDown, records }: EgressSummary): string {
  if (records === 0) return 'Nothing tried to leave'
  const bytes = `${formatBytes(bytesUp)} up, ${formatBytes(bytesDown)} down`
  return `${allowed} allowed, ${refused} refused; ${bytes}`
}
