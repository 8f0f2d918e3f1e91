/** Something that a job must not be able to reach. */
export interface Attempt {
  protocol: 'tcp' | 'udp'
  address: string
  port: number
  /** For people: `this machine`, `cloud metadata`, … */
  what: string
}

export interface AttemptResult extends Attempt {
  /** `answered` also means "connection refused": whoever refuses was reached. */
  outcome: 'answered' | 'unreachable' | 'silence'
  /** The answer came from the namespace itself (local and remote address are the same). */
  stayedInside: boolean
}

/** What the program inside the namespace prints. */
export interface AttemptsReport {
  interfaces: string[]
  results: AttemptResult[]
}

/** The rights of a process, from `/proc/PID/status`. */
export interface ProcessRights {
  /** Upper bound of its capabilities, as a bit mask. */
  capabilities: bigint
  noNewPrivileges: boolean
  seccompFilter: boolean
}

/** Reads the lines that matter of `/proc/PID/status`; what is missing counts as the worst. */
export function readRights(status: string): ProcessRights {
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? ''
  const bounding = field('CapBnd')
  return {
    capabilities: /^[0-9a-f]+$/i.test(bounding) ? BigInt(`0x${bounding}`) : ~0n,
    noNewPrivileges: field('NoNewPrivs') === '1',
    seccompFilter: field('Seccomp') === '2',
  }
}

/**
 * What is wrong with a namespace, one sentence each; empty = isolated.
 *
 * In modes `none` and `http` an interface beside loopback is a finding whether or not anything answers, and with
 * loopback alone an answer can only come from the namespace itself: in mode `http` the gateway's listeners there accept
 * connections to every address, and answer what their lease allows.
 */
export function isolationFindings(
  mode: 'none' | 'http' | 'full',
  report: AttemptsReport,
  rights: ProcessRights,
): string[] {
  const others = report.interfaces.filter((name) => name !== 'lo')
  const findings: string[] = []
  if (mode !== 'full' && others.length > 0) findings.push(`the job has the interface ${others.join(', ')}`)
  for (const { outcome, stayedInside, what, address, port, protocol } of report.results) {
    const onlyLoopback = mode !== 'full' && others.length === 0
    if (outcome !== 'answered' || stayedInside || onlyLoopback) continue
    findings.push(`${what} answers a job at ${address} port ${port} (${protocol})`)
  }
  for (const [name, bit] of FORBIDDEN_CAPABILITIES) {
    if ((rights.capabilities & (1n << bit)) !== 0n) findings.push(`the job has the capability ${name}`)
  }
  if (!rights.noNewPrivileges) findings.push('the job can gain privileges')
  if (!rights.seccompFilter) findings.push('the system calls of the job are not filtered')
  return findings
}

/** linux/capability.h: with one of these a job could make raw sockets or change networks and namespaces. */
const FORBIDDEN_CAPABILITIES: [string, bigint][] = [
  ['NET_ADMIN', 12n],
  ['NET_RAW', 13n],
  ['SYS_MODULE', 16n],
  ['SYS_PTRACE', 19n],
  ['SYS_ADMIN', 21n],
  ['BPF', 39n],
]
