import { randomUUID } from 'node:crypto'
import { existsSync, realpathSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { WeirError } from '../../errors.js'
import type { GatewayLimits } from '../../egress/index.js'
import { NAME_SERVER, proxyEnvironment, proxyUrlOf, startGateway } from '../../egress/index.js'
import type { AuditRecord, EgressSummary } from '../../model/index.js'
import { type DomainSuggestion, suggestDomains } from '../../model/suggest-domains.js'
import type { AuditLog, LeasePolicy, NodeEgressPolicy } from '../../ports/index.js'
import { createAuditFile } from '../../stores/index.js'
import { confinedEnvironment, type EnvironmentWishes } from './environment.js'
import { type FileView, type FileWishes, fileView, isBelow } from './mounts.js'
import { type ConfinedProgram, prepareProgram } from './confined-program.js'
import { findConfiningPrograms } from './programs.js'
import { makeRunDirectory } from '../../run-directory.js'

/** One program, what it may reach, and what it may write. */
export interface ExecOptions {
  /** Program and arguments, at least one word. */
  command: readonly string[]
  files: FileWishes
  /** The caller's environment. */
  environment: Readonly<Record<string, string | undefined>>
  environmentWishes?: EnvironmentWishes
  /**
   * It may make Unix sockets, for its own processes; then it also reaches services that begin to listen, while it runs, in
   * directories that it sees. Default false.
   */
  unixSockets?: boolean
  /** What the program asked for; an empty list lets nothing out. */
  lease: LeasePolicy
  /** What this machine allows besides. */
  policy: NodeEgressPolicy
  hosts?: Record<string, string | string[]>
  dnsServers?: string[]
  limits?: Partial<GatewayLimits>
  /** Where the records stay. Default: a temporary directory, removed at the end. */
  auditDir?: string
  /** Told when the gateway died and is started again, and why the working directory is read-only. */
  onNote?: (note: string) => void
  /** Called once, just before the program begins. */
  onBegin?: (program: Pick<ConfinedProgram, 'signal'>) => void
}

export interface ExecResult {
  exitCode: number
  summary: EgressSummary
  /** Name of the file of records in the audit directory. */
  executionId: string
  /** What a learning program needs; absent: it did not learn. */
  learned?: DomainSuggestion
}

/**
 * Runs a program of this machine in namespaces without any interface but loopback, with a gateway of its own as the only
 * way out. Resolves after its end, when everything that it started is gone, with its exit code and what it reached.
 *
 * Rejects before the program begins: `exec.unavailable` (a part is missing or forbidden), `cli.usage` (paths),
 * `pattern.invalid`, `egress.unavailable`, `egress.audit_failed`.
 */
export async function execConfined(options: ExecOptions): Promise<ExecResult> {
  const programs = findConfiningPrograms()
  const view = fileView(options.files)
  const executionId = `e-${randomUUID()}`
  const temporary = await makeRunDirectory(temporaryPlace(view), 'weir-exec')
  const auditDir = resolve(options.files.cwd, options.auditDir ?? join(temporary, 'audit'))
  const closing: (() => unknown)[] = [() => rm(temporary, { recursive: true, force: true })]
  try {
    if (view.writable.some((path) => isBelow(auditDir, path)))
      throw new WeirError(
        'cli.usage',
        `Cannot keep the records in ${auditDir}: the program can write there`,
        {
          hint: 'Name a directory outside of what it may write',
        },
      )
    if (view.cwdReadOnly !== undefined)
      options.onNote?.(
        `The working directory is read-only: ${view.cwdReadOnly}; --allow-write opens directories`,
      )
    if (view.canReplacePolicy)
      options.onNote?.(
        `The program can replace its policy file ${options.files.policyFile ?? ''} for its next run; keep it where the program cannot write`,
      )
    const { hosts, dnsServers, limits } = options
    const audit = createAuditFile({ dir: auditDir })
    const gateway = await startGateway({
      nodeId: 'exec',
      auditDir,
      audit,
      ...(hosts === undefined ? {} : { hosts }),
      ...(dnsServers === undefined ? {} : { dnsServers }),
      ...(limits === undefined ? {} : { limits }),
      onTrouble: ({ message }) => options.onNote?.(message),
    })
    closing.push(() => gateway.close())
    await gateway.setNodePolicy(options.policy)
    const program = await prepareProgram({
      programs,
      command: options.command,
      cwd: options.files.cwd,
      env: confinedEnvironment(
        options.environment,
        proxyEnvironment(proxyUrlOf()),
        options.environmentWishes ?? {},
      ),
      mounts: [...view.args, ...(await nameServerMount(temporary))],
      unixSockets: options.unixSockets === true,
    })
    closing.push(() => program.close())
    const attachment = await gateway.attach(program.netnsPath, program.usernsPath)
    const lease = await gateway.open({ jobId: 'exec', executionId }, options.lease, attachment)
    if (attachment.onlyProxy !== undefined)
      options.onNote?.(`Programs that ignore proxy variables reach nothing: ${attachment.onlyProxy}`)
    options.onBegin?.(program)
    const exitCode = await program.run()
    const summary = await lease.close()
    if (options.lease.learning !== true) return { exitCode, summary, executionId }
    return { exitCode, summary, executionId, learned: await learnedFrom(audit, executionId) }
  } finally {
    for (const close of closing.toReversed()) await close()
  }
}

async function learnedFrom(audit: AuditLog, executionId: string): Promise<DomainSuggestion> {
  const records: AuditRecord[] = []
  for (;;) {
    const page = await audit.read(executionId, records.length, RECORDS_PAGE)
    if (page.length === 0) return suggestDomains(records)
    records.push(...page)
  }
}

/** The file of records is bounded, and so is their number. */
const RECORDS_PAGE = 1_000

/** The gateway answers DNS inside, for programs that know nothing of proxies. */
async function nameServerMount(temporary: string): Promise<string[]> {
  const file = join(temporary, 'resolv.conf')
  await writeFile(file, `nameserver ${NAME_SERVER}\noptions ndots:1 timeout:2 attempts:2\n`)
  // Often a link into /run, which is empty inside.
  return existsSync('/etc/resolv.conf') ? ['--ro-bind', file, realpathSync('/etc/resolv.conf')] : []
}

/** Where the program cannot write, wherever the caller keeps temporary files. */
function temporaryPlace({ writable }: FileView): string {
  const places = [tmpdir(), '/tmp', '/var/tmp'].map((place) => realpathSync(place))
  return places.find((place) => !writable.some((path) => isBelow(place, path))) ?? '/tmp'
}
