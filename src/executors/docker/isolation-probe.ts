import type Docker from 'dockerode'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { isPublicAddress, parseIpAddress } from '../../model/index.js'
import type { NodeId } from '../../model/index.js'
import { entryPoint } from '../../package-root.js'
import { hardening } from './container-options.js'
import type { EngineFacts } from './engine-connection.js'
import { nodeResolvers } from './full-network.js'
import { PAUSE_COMMAND } from './holder-image.js'
import { runHostCommand } from './host-command.js'
import { isolationFindings, readRights } from './isolation-report.js'
import type { Attempt, AttemptsReport } from './isolation-report.js'
import { ownLabels } from './labels.js'
import type { CanaryOptions, DockerLimits, DockerLog } from './options.js'
import type { DockerNetworkSlot } from './network-slot.js'
import { removeContainer } from './running-container.js'

export interface IsolationProbeInput {
  docker: Docker
  nodeId: NodeId
  facts: EngineFacts
  limits: DockerLimits
  dropCapabilities: readonly string[]
  /** The holder image; its program is all the canary runs. */
  image: string
  canary: CanaryOptions
  /** Addresses of other jobs that run now. */
  otherJobs: readonly string[]
  log: DockerLog
}

/**
 * Starts a throw-away container exactly as a job is started, in the given slot, and tries to get out of it. Returns
 * what was found, one sentence each; empty = isolated. Rejects when the probe itself cannot be done.
 *
 * The attempts are made by a Node.js program that enters the canary's network namespace and gives up its rights: that
 * needs nothing but what the gateway needs as well (root, nsenter, Node.js), while a program inside the container would
 * need an image with one. What the container itself may do is read from the kernel's account of its process.
 */
export async function probeIsolation(slot: DockerNetworkSlot, input: IsolationProbeInput): Promise<string[]> {
  const container = await input.docker.createContainer({
    Image: input.image,
    Entrypoint: [PAUSE_COMMAND],
    Labels: ownLabels(input.nodeId, 'canary'),
    HostConfig: { ...hardening(input), NetworkMode: slot.networkMode, Memory: 64 * 1024 * 1024 },
  })
  try {
    await container.start()
    const { State } = await container.inspect()
    const rights = readRights(readFileSync(`/proc/${State.Pid}/status`, 'latin1'))
    const report = await attempt(State.Pid, isolationAttempts(slot.mode, input))
    return isolationFindings(slot.mode, report, rights)
  } finally {
    await removeContainer(container, input.log)
  }
}

/** What is tried in a mode. */
export function isolationAttempts(
  mode: 'none' | 'http' | 'full',
  { canary, otherJobs }: Pick<IsolationProbeInput, 'canary' | 'otherJobs'>,
): Attempt[] {
  const tcp = (address: string, port: number, what: string): Attempt => ({
    protocol: 'tcp',
    address,
    port,
    what,
  })
  const ports = [...new Set([...(canary.selfPorts ?? [1234]), 22, 2375])]
  const internet = mode === 'full' ? [] : [canary.internet ?? '1.1.1.1:443']
  return [
    ...machineAddresses().flatMap((address) => ports.map((port) => tcp(address, port, 'this machine'))),
    ...['169.254.169.254', '168.63.129.16', '100.100.100.200'].map((address) =>
      tcp(address, 80, 'cloud metadata'),
    ),
    ...nodeResolvers()
      .filter((address) => isIP(address) !== 0 && (mode !== 'full' || !isPublic(address)))
      .map((address): Attempt => ({ protocol: 'udp', address, port: 53, what: "the node's name server" })),
    ...(canary.forbidden ?? []).flatMap((text) =>
      pair(text).map(([host, port]) => tcp(host, port, 'the network itself')),
    ),
    ...internet.flatMap((text) => pair(text).map(([host, port]) => tcp(host, port, 'the internet'))),
    ...otherJobs.map((address) => tcp(address, 80, 'another job')),
  ].slice(0, ATTEMPTS_MAX)
}

const ATTEMPTS_MAX = 200
const ATTEMPT_TIMEOUT_MS = 1500

async function attempt(pid: number, attempts: Attempt[]): Promise<AttemptsReport> {
  if (process.getuid?.() !== 0) return { interfaces: interfacesOf(pid), results: [] }
  const printed = await runHostCommand(
    'nsenter',
    [`--net=/proc/${pid}/ns/net`, process.execPath, entryPoint('executors/docker/isolation-attempts.js')],
    { stdin: JSON.stringify({ attempts, timeoutMs: ATTEMPT_TIMEOUT_MS }), timeoutMs: 20_000 },
  )
  return JSON.parse(printed) as AttemptsReport
}

/** Without root nobody can look from inside, but the kernel tells which interfaces there are. */
function interfacesOf(pid: number): string[] {
  const table = readFileSync(`/proc/${pid}/net/dev`, 'utf8')
  return [...table.matchAll(/^\s*([^\s:]+):/gm)].map(([, name]) => name ?? '')
}

function machineAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
    .map(({ address }) => address)
}

function pair(text: string): [string, number][] {
  const at = text.lastIndexOf(':')
  const host = text.slice(0, at).replace(/^\[(.*)\]$/, '$1')
  const port = Number(text.slice(at + 1))
  return isIP(host) !== 0 && port > 0 && port <= 65_535 ? [[host, port]] : []
}

function isPublic(text: string): boolean {
  const address = parseIpAddress(text)
  return address !== undefined && isPublicAddress(address)
}
