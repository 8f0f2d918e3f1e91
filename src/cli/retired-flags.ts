import { resolve } from 'node:path'
import { Option } from 'commander'
import type { ConfigName } from '../config/index.js'
import type { WeirCommand } from './command.js'
import type { CliContext, GlobalFlags } from './context.js'

/** A flag of older tools: it does not stand in the help, and using it says what to write now. */
interface Retired {
  flags: string
  /** The key that it sets; without one it has no effect, and `why` says the reason. */
  key?: ConfigName
  why?: string
  /** What the key gets when the flag takes no value. */
  value?: string
  isPath?: boolean
}

const GLOBAL: readonly Retired[] = [
  { flags: '--tls', key: 'API.TLS.UseTLS', value: 'true' },
  { flags: '--cacert <FILE>', key: 'API.TLS.CAFile', isPath: true },
  { flags: '--insecure', key: 'API.TLS.Insecure', value: 'true' },
  { flags: '--log-level <LEVEL>', key: 'Logging.Level' },
  { flags: '--log-mode <MODE>', why: 'a node writes its log as lines of JSON' },
]

const UNLIMITED = 'a job may use whatever the node offers; see Compute.AllocatedCapacity'
const NO_CLUSTER = 'a network has one orchestrator'
const NO_CACHE = 'descriptions of images are not cached'
const NO_PAGES = 'this version has no pages for browsers'
const CAPACITY = 'Compute.AllocatedCapacity'

const SERVE: readonly Retired[] = [
  { flags: '--host <HOST>', key: 'API.Host' },
  { flags: '--port <PORT>', key: 'API.Port' },
  { flags: '--tlscert <FILE>', key: 'API.TLS.CertFile', isPath: true },
  { flags: '--tlskey <FILE>', key: 'API.TLS.KeyFile', isPath: true },
  { flags: '--self-signed', key: 'API.TLS.SelfSigned', value: 'true' },
  { flags: '--autocert <DOMAIN>', key: 'API.TLS.AutoCert' },
  { flags: '--limit-total-cpu <CORES>', key: `${CAPACITY}.CPU` },
  { flags: '--limit-total-memory <BYTES>', key: `${CAPACITY}.Memory` },
  { flags: '--limit-total-gpu <NUMBER>', key: `${CAPACITY}.GPU` },
  { flags: '--limit-job-cpu <CORES>', why: UNLIMITED },
  { flags: '--limit-job-memory <BYTES>', why: UNLIMITED },
  { flags: '--limit-job-disk <BYTES>', why: UNLIMITED },
  { flags: '--limit-job-gpu <NUMBER>', why: UNLIMITED },
  { flags: '--ignore-physical-resource-limits', why: 'a node never offers more than it has' },
  { flags: '--disable-engine <LIST>', key: 'Engines.Disabled' },
  { flags: '--disabled-publisher <LIST>', key: 'Publishers.Disabled' },
  { flags: '--disable-storage <LIST>', key: 'InputSources.Disabled' },
  { flags: '--docker-manifest-cache-size <NUMBER>', why: NO_CACHE },
  { flags: '--docker-manifest-cache-duration <DURATION>', why: NO_CACHE },
  { flags: '--docker-manifest-cache-frequency <DURATION>', why: NO_CACHE },
  { flags: '--network-host <HOST>', key: 'Orchestrator.Host' },
  { flags: '--network-port <PORT>', key: 'Orchestrator.Port' },
  { flags: '--orchestrators <LIST>', key: 'Compute.Orchestrators' },
  { flags: '--advertised-address <ADDRESS>', key: 'Orchestrator.Advertise' },
  { flags: '--cluster-name <NAME>', why: NO_CLUSTER },
  { flags: '--cluster-host <HOST>', why: NO_CLUSTER },
  { flags: '--cluster-port <PORT>', why: NO_CLUSTER },
  { flags: '--cluster-peers <LIST>', why: NO_CLUSTER },
  { flags: '--cluster-advertised-address <ADDRESS>', why: NO_CLUSTER },
  {
    flags: '--name-provider <NAME>',
    why: 'a node is named with --name, or gets a random name that it keeps',
  },
  { flags: '--local-publisher-address <ADDRESS>', key: 'Publishers.Types.Local.Address' },
  { flags: '--local-publisher-port <PORT>', key: 'Publishers.Types.Local.Port' },
  {
    flags: '--job-selection-accept-networked',
    key: 'JobAdmissionControl.AcceptNetworkedJobs',
    value: 'true',
  },
  {
    flags: '--job-selection-reject-stateless',
    key: 'JobAdmissionControl.RejectStatelessJobs',
    value: 'true',
  },
  { flags: '--job-selection-probe-exec <COMMAND>', key: 'JobAdmissionControl.ProbeExec' },
  { flags: '--job-selection-probe-http <URL>', key: 'JobAdmissionControl.ProbeHTTP' },
  { flags: '--job-selection-data-locality <WORD>', why: 'inputs are fetched to wherever there is room' },
  { flags: '--default-publisher <NAME>', key: 'JobDefaults.Batch.Task.Publisher.Type' },
  {
    flags: '--default-job-execution-timeout <DURATION>',
    key: 'JobDefaults.Batch.Task.Timeouts.ExecutionTimeout',
  },
  { flags: '--min-job-execution-timeout <DURATION>', why: 'any time limit is accepted' },
  { flags: '--max-job-execution-timeout <DURATION>', why: 'any time limit is accepted' },
  { flags: '--job-negotiation-timeout <DURATION>', why: 'nodes are not asked for offers' },
  { flags: '--web-ui', why: NO_PAGES },
  { flags: '--web-ui-listen <ADDRESS>', why: NO_PAGES },
]

/** Retired flags of every command; those that the command has a meaning of its own for are left out. */
export function addRetiredFlags(command: WeirCommand): void {
  addHidden(command, [{ flags: '--repo <DIR>' }, ...GLOBAL])
}

/** Retired flags of `serve`, and `--node-type requester,compute`. */
export function addRetiredServeFlags(command: WeirCommand): void {
  addHidden(command, [{ flags: '--node-type <LIST>' }, ...SERVE])
}

function addHidden(command: WeirCommand, retired: readonly Pick<Retired, 'flags'>[]): void {
  for (const { flags } of retired) {
    const option = new Option(flags).hideHelp()
    if (command.options.every(({ long }) => long !== option.long)) command.addOption(option)
  }
}

/**
 * The flags with what the retired ones among them mean, as `-c` settings; says once for each what to write instead. A
 * flag that the command has a meaning of its own for is left alone.
 */
export function withoutRetired<Flags extends GlobalFlags>(
  flags: Flags,
  command: WeirCommand,
  { terminal, cwd }: CliContext,
): Flags {
  const settings: string[] = []
  let { dataDir } = flags
  const warn = (text: string): void => terminal.talk(`${terminal.talkStyle.yellow('Warning:')} ${text}`)
  for (const option of command.options) {
    const raw = (flags as Record<string, unknown>)[option.attributeName()]
    if (!option.hidden || raw === undefined) continue
    const text = typeof raw === 'string' ? raw : 'true'
    if (option.long === '--repo') {
      dataDir ??= resolve(cwd, text)
      warn('--repo is --data-dir now')
    } else if (option.long === '--node-type') {
      settings.push(`Orchestrator.Enabled=${/requester|orchestrator/i.test(text)}`)
      settings.push(`Compute.Enabled=${/compute/i.test(text)}`)
      warn('--node-type is --orchestrator and --compute now')
    }
    const retired = [...GLOBAL, ...SERVE].find(({ flags: names }) => names.split(' ')[0] === option.long)
    if (retired?.key !== undefined) {
      const value = retired.value ?? (retired.isPath === true ? resolve(cwd, text) : text)
      settings.push(`${retired.key}=${value}`)
      warn(`${option.long} is -c ${retired.key}=${retired.value ?? 'VALUE'} now`)
    } else if (retired?.why !== undefined) {
      warn(`${option.long} has no effect: ${retired.why}`)
    }
  }
  if (settings.length === 0 && dataDir === flags.dataDir) return flags
  return { ...flags, dataDir, config: [...settings, ...(flags.config ?? [])] }
}
