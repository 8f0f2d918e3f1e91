import type Docker from 'dockerode'
import { join, posix } from 'node:path'
import { WeirError } from '../../errors.js'
import type { DockerEngineParams, NodeId } from '../../model/index.js'
import type { RunSpec } from '../../ports/index.js'
import type { EngineFacts } from './engine-connection.js'
import type { LocalImage } from './image-store.js'
import { LABEL_EXECUTION, LABEL_JOB, containerName, ownLabels } from './labels.js'
import { keptOutputLog } from './kept-output.js'
import type { DockerLimits } from './options.js'
import { seccompProfile } from './seccomp-profile.js'

/** What ordinary images need to install packages and change user; never NET_RAW, NET_ADMIN or SYS_ADMIN. */
export const JOB_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
] as const

/** Name of every job's machine: says nothing about node or job. */
export const JOB_HOSTNAME = 'weir-job'

/** A job may listen on low ports and send pings in its own network without the capabilities for that. */
export const NETWORK_SYSCTLS: Readonly<Record<string, string>> = {
  'net.ipv4.ip_unprivileged_port_start': '0',
  'net.ipv4.ping_group_range': '0 2147483647',
}

export interface ContainerInput {
  run: RunSpec
  /** What this node's containers are labelled with. */
  nodeId: NodeId
  params: DockerEngineParams
  image: LocalImage
  /** The engine's network mode: `container:<id>` or `none`. */
  networkMode: string
  facts: EngineFacts
  limits: DockerLimits
  dropCapabilities: readonly string[]
  /** True: the engine keeps a copy of the output, so that the run can be taken up by another process. */
  keepOutput: boolean
  /** Files that replace `/etc/hosts` and `/etc/resolv.conf`. */
  hostsFile: string
  resolvFile: string
}

/** Everything the engine is told about a job's container: the one place where a job's rights are written down. */
export function jobContainerOptions(input: ContainerInput): Docker.ContainerCreateOptions {
  const { run, params, image } = input
  const joins = input.networkMode.startsWith('container:')
  return {
    name: containerName(run.executionId),
    Image: image.id,
    Labels: {
      ...ownLabels(input.nodeId, 'job'),
      [LABEL_JOB]: run.jobId,
      [LABEL_EXECUTION]: run.executionId,
    },
    ...program(params, image),
    Env: environment(run.env, params.EnvironmentVariables, input.facts),
    // A container that joins another one's network has its host name from there.
    ...(joins ? {} : { Hostname: JOB_HOSTNAME }),
    AttachStdin: false,
    OpenStdin: false,
    Tty: false,
    // The image's own choices that must not count for a job.
    Healthcheck: { Test: ['NONE'] } as Docker.HealthConfig,
    StopSignal: 'SIGTERM',
    HostConfig: {
      ...hardening(input),
      ...resourceLimits(input),
      ...(input.keepOutput ? { LogConfig: keptOutputLog(run.outputBytesMax ?? KEPT_BYTES_DEFAULT) } : {}),
      NetworkMode: input.networkMode,
      // Whoever joins another network has its settings.
      ...(joins ? {} : { Sysctls: { ...NETWORK_SYSCTLS } }),
      Mounts: mounts(input),
    },
  }
}

/** The rights of a job, without what differs from run to run; the isolation probe's container has the same. */
export function hardening(
  input: Pick<ContainerInput, 'limits' | 'dropCapabilities' | 'facts'>,
): Docker.HostConfig {
  const { openFiles } = input.limits
  const seccomp = seccompProfile(input.facts)
  const taken = new Set(input.dropCapabilities.map((name) => name.toUpperCase().replace(/^CAP_/, '')))
  return {
    CapDrop: ['ALL'],
    CapAdd: JOB_CAPABILITIES.filter((name) => !taken.has(name)),
    SecurityOpt: ['no-new-privileges:true', ...(seccomp === undefined ? [] : [`seccomp=${seccomp}`])],
    Privileged: false,
    PublishAllPorts: false,
    IpcMode: 'private',
    CgroupnsMode: 'private',
    RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
    // Output is read from the running program and kept by weir; the engine keeps none unless a job's says so.
    LogConfig: { Type: 'none', Config: {} },
    AutoRemove: false,
    ...(input.facts.hasInit ? { Init: true } : {}),
    PidsLimit: input.limits.pids,
    OomScoreAdj: 500,
    Ulimits: [
      ...(openFiles > 0 ? [{ Name: 'nofile', Soft: openFiles, Hard: openFiles }] : []),
      { Name: 'core', Soft: 0, Hard: 0 },
    ],
  } as Docker.HostConfig
}

function resourceLimits({ run: { resources }, limits, facts }: ContainerInput): Docker.HostConfig {
  const memory = Math.max(
    SMALLEST_MEMORY_BYTES,
    Math.floor(resources.memoryBytes) || limits.memoryBytesDefault,
  )
  const cpus = Math.min(facts.cpus, Math.max(SMALLEST_CPUS, resources.cpu || limits.cpuDefault))
  return {
    Memory: memory,
    // Memory and swap together: equal means no swap.
    MemorySwap: memory,
    NanoCpus: Math.round(cpus * 1e9),
    ShmSize: Math.min(limits.shmBytes, memory),
  }
}

/** For a run that comes without a bound. */
const KEPT_BYTES_DEFAULT = 1024 ** 3

/** The engine's own minima. */
const SMALLEST_MEMORY_BYTES = 6 * 1024 * 1024
const SMALLEST_CPUS = 0.01

function program(
  params: DockerEngineParams,
  image: LocalImage,
): Pick<Docker.ContainerCreateOptions, 'Entrypoint' | 'Cmd' | 'WorkingDir'> {
  const directory = params.WorkingDirectory === '' ? image.workingDirectory : params.WorkingDirectory
  checkDirectory(directory)
  return {
    // An empty list means "no entry point", which the engine spells as one empty string.
    ...(params.Entrypoint === null
      ? {}
      : { Entrypoint: params.Entrypoint.length === 0 ? [''] : params.Entrypoint }),
    ...(params.Parameters.length === 0 ? {} : { Cmd: params.Parameters }),
    ...(directory === '' ? {} : { WorkingDir: directory }),
  }
}

/** A working directory under /proc can be a descriptor that leaked from the runtime (CVE-2024-21626). */
function checkDirectory(directory: string): void {
  const normal = posix.normalize(directory)
  if (directory === '' || (directory.startsWith('/') && !/^\/(?:proc|sys|dev)(?:\/|$)/.test(normal))) return
  throw new WeirError('engine.failed', `Cannot use the working directory ${JSON.stringify(directory)}`, {
    hint: 'Use an absolute path outside /proc, /sys and /dev',
  })
}

/**
 * Precedence, lowest first: the image's own environment, the engine's list, the run's environment. Proxy variables of
 * the image never count: a name without value removes it.
 */
function environment(
  env: Record<string, string>,
  engineList: readonly string[],
  facts: EngineFacts,
): string[] {
  const values = new Map<string, string | undefined>()
  for (const name of PROXY_VARIABLES) values.set(name, undefined)
  for (const pair of engineList) {
    const at = pair.indexOf('=')
    values.set(at === -1 ? pair : pair.slice(0, at), at === -1 ? '' : pair.slice(at + 1))
  }
  for (const [name, value] of Object.entries(env)) values.set(name, value)
  // With that runtime the environment alone would decide which GPUs a container gets.
  if (facts.hasNvidiaRuntime) values.set('NVIDIA_VISIBLE_DEVICES', 'void')
  return [...values].map(([name, value]) => (value === undefined ? name : `${name}=${value}`))
}

const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'all_proxy', 'ftp_proxy', 'no_proxy'].flatMap(
  (name) => [name, name.toUpperCase()],
)

function mounts({ run, hostsFile, resolvFile }: ContainerInput): Docker.MountSettings[] {
  return [
    ...run.volumes.map(({ hostPath, target, writable }) => bind(hostPath, target, !writable)),
    ...run.outputs.map(({ hostDir, path }) => bind(hostDir, path, false)),
    bind(hostsFile, join('/etc', 'hosts'), true),
    bind(resolvFile, join('/etc', 'resolv.conf'), true),
  ]
}

function bind(source: string, target: string, readOnly: boolean): Docker.MountSettings {
  return {
    Type: 'bind',
    Source: source,
    Target: target,
    ReadOnly: readOnly,
    BindOptions: { Propagation: 'rprivate' },
  }
}
