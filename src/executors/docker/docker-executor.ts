import type Docker from 'dockerode'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError, isWeirError, toWeirError } from '../../errors.js'
import { dockerEngine } from '../../model/index.js'
import type { ErrorCode } from '../../errors.js'
import type { ExecutionId, TaskSpec } from '../../model/index.js'
import type { Executor, NetworkSlot, RunSpec } from '../../ports/index.js'
import { notStarted } from './container-exit.js'
import { JOB_HOSTNAME, jobContainerOptions } from './container-options.js'
import { DockerNetwork } from './docker-network.js'
import type { IsolationReport } from './docker-network.js'
import { EngineConnection, engineMessage, engineStatus } from './engine-connection.js'
import { ImageStore } from './image-store.js'
import type { LocalImage } from './image-store.js'
import { DockerNetworkSlot, NO_NAME_SERVERS } from './network-slot.js'
import { keptFileBytes } from './kept-output.js'
import { DEFAULT_LIMITS } from './options.js'
import type { DockerExecutorOptions, DockerLog } from './options.js'
import { reapLeftovers } from './reaper.js'
import { RunningContainer, removeContainer } from './running-container.js'
import { findContainer, holderOf, resumeContainer } from './resume-container.js'
import type { AttachStream } from './running-container.js'
import { systemClock } from './system-clock.js'

/** The Docker engine as an executor. */
export interface DockerExecutor extends Executor {
  readonly network: DockerNetwork
  /** Tries to get out of a job's network now and withdraws what is not tight. `network.modes()` has the same report. */
  isolationProbe(): Promise<IsolationReport>
}

/**
 * Runs jobs as containers of a local Docker engine. Nothing is started or loaded before the first call; `close`
 * removes everything that was made.
 */
export function createDockerExecutor(options: DockerExecutorOptions): DockerExecutor {
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const clock = options.clock ?? systemClock
  const log: DockerLog = options.logger ?? { info: () => {}, warn: () => {} }
  const connection = new EngineConnection(options.socketPath, limits.requestTimeoutMs)
  const images = new ImageStore(connection, options.registries ?? {}, limits)
  const network = new DockerNetwork({ connection, options, limits, clock, log })
  const running = new Map<string, RunningContainer>()
  return {
    engine: 'docker',
    network,
    probe: (signal) => connection.probe(signal),
    isolationProbe: () => network.isolationProbe(),

    async admit(task, signal) {
      return admitImage(task, images, signal)
    },

    async start(run, progress, signal) {
      const params = dockerEngine(run.task)
      refuseGpus(run)
      const facts = await connection.facts()
      const docker = await connection.client()
      const image = await images.ensure(params.Image, progress, signal)
      const slot = slotOf(run.network)
      const files = await writeEtcFiles(run.scratchDir, slot.resolvConf)
      signal.throwIfAborted()
      const settings = jobContainerOptions({
        run,
        nodeId: options.nodeId,
        params,
        image,
        networkMode: slot.networkMode,
        facts,
        limits,
        dropCapabilities: options.dropCapabilities ?? [],
        keepOutput: options.survivesRestart !== false && facts.keepsOutput,
        ...files,
      })
      const container = await createContainer(docker, settings)
      const fileBytes = keptFileBytes(settings.HostConfig?.LogConfig)
      return watched(
        container.id,
        await startContainer({ docker, container, fileBytes, run, image, slot }, signal),
      )
    },

    async resume(run, signal) {
      const docker = await connection.client()
      const found = await findContainer(docker, options.nodeId, run.executionId, signal)
      if (found === undefined) return undefined
      const resumed = await resumeContainer({ docker, found, run, clock, log })
      return resumed === 'not started' ? resumed : watched(found.Id, resumed)
    },

    async reap(keep: ReadonlySet<ExecutionId>) {
      const docker = await connection.client()
      return reapLeftovers({
        docker,
        nodeId: options.nodeId,
        keep,
        inUse: new Set([...running.keys(), ...(await network.holderIds())]),
        keepFullNetwork: await network.hasFullNetwork(),
        log,
      })
    },

    async close() {
      await Promise.all(
        [...running.values()].map(async (execution) => {
          await execution.stop(0)
          await execution.remove()
        }),
      )
      await network.close()
    },
  }

  /** Known to `close` and `reap` until it is removed, or left to the next process. */
  function watched(id: string, execution: RunningContainer): RunningContainer {
    running.set(id, execution)
    const forget = () => void running.delete(id)
    execution.gone.then(forget, forget)
    return execution
  }

  async function startContainer(
    { docker, container, fileBytes, run, image, slot }: StartInput,
    signal: AbortSignal,
  ): Promise<RunningContainer> {
    let stream: AttachStream | undefined
    try {
      stream = (await container.attach({
        stream: true,
        stdout: true,
        stderr: true,
      })) as unknown as AttachStream
      signal.throwIfAborted()
      await run.beforeStart?.()
      signal.throwIfAborted()
      await container.start()
    } catch (error) {
      stream?.destroy()
      await removeContainer(container, log)
      throw startRefusal(error, run)
    }
    const execution = new RunningContainer({
      container,
      stream,
      keptFileBytes: fileBytes,
      output: run.output,
      details: { container: container.id, imageId: image.id, imageDigest: image.digest },
      holder: holderOf(docker, slot.networkMode),
      clock,
      log,
    })
    if (!signal.aborted) return execution
    await execution.stop(0)
    await execution.remove()
    throw signal.reason as Error
  }
}

interface StartInput {
  docker: Docker
  container: Docker.Container
  /** See `keptFileBytes`. */
  fileBytes: number
  run: RunSpec
  image: LocalImage
  slot: { networkMode: string }
}

async function admitImage(
  task: TaskSpec,
  images: ImageStore,
  signal: AbortSignal,
): Promise<{ code: ErrorCode; message: string; hint: string }[]> {
  try {
    const check = images.check(dockerEngine(task).Image)
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ADMIT_TIMEOUT_MS)])
    let late = () => {}
    const tooLate = new Promise<void>((resolve) => {
      late = resolve
      limit.addEventListener('abort', late, { once: true })
    })
    // A name server that does not answer is no reason to refuse: the pull says so when it comes to it.
    await Promise.race([check, tooLate])
    limit.removeEventListener('abort', late)
    return []
  } catch (error) {
    const { code, message, hint = '' } = toWeirError(error, 'engine.failed')
    return [{ code, message, hint }]
  }
}

const ADMIT_TIMEOUT_MS = 3000

function refuseGpus({ resources: { gpu } }: RunSpec): void {
  if (gpu <= 0) return
  throw new WeirError(
    'compute.resources',
    `Cannot give a container ${gpu} GPUs: this node allots none to Docker jobs`,
    {
      hint: 'Run the job without --gpu, or on another node',
    },
  )
}

/** The slot must come from this executor; only the isolated network exists without one. */
function slotOf(slot: NetworkSlot): { networkMode: string; resolvConf: string } {
  if (slot instanceof DockerNetworkSlot) return slot
  if (slot.mode === 'none') return { networkMode: 'none', resolvConf: NO_NAME_SERVERS }
  throw new WeirError(
    'engine.failed',
    `Cannot join a network of mode "${slot.mode}" that another executor made`,
  )
}

async function writeEtcFiles(
  scratchDir: string,
  resolvConf: string,
): Promise<{ hostsFile: string; resolvFile: string }> {
  const hostsFile = join(scratchDir, 'hosts')
  const resolvFile = join(scratchDir, 'resolv.conf')
  const hosts = `127.0.0.1 localhost ${JOB_HOSTNAME}\n::1 localhost ip6-localhost ip6-loopback\n`
  await Promise.all([
    writeFile(hostsFile, hosts, { mode: 0o644 }),
    writeFile(resolvFile, resolvConf, { mode: 0o644 }),
  ])
  return { hostsFile, resolvFile }
}

async function createContainer(
  docker: Docker,
  options: Docker.ContainerCreateOptions,
): Promise<Docker.Container> {
  try {
    return await docker.createContainer(options)
  } catch (error) {
    if (engineStatus(error) === 409) {
      throw new WeirError('engine.failed', `Cannot make the container "${options.name}": it exists already`, {
        hint: 'The execution runs already, or its container is left over and the next clean-up removes it',
        retryable: true,
        cause: error,
      })
    }
    throw new WeirError('engine.failed', `Cannot make the container: ${engineMessage(error)}`, {
      hint: 'Check entry point, working directory and mounts of the job',
      cause: error,
    })
  }
}

/** The engine's long account of a failed start, reduced to what the user did wrong. */
function startRefusal(error: unknown, run: RunSpec): Error {
  if (isWeirError(error) || engineStatus(error) === undefined) return error as Error
  const said = engineMessage(error)
  const [, command, reason] = /exec: \\?"([^"\\]+)\\?": (.*?)(?:: unknown)?$/.exec(said) ?? []
  const { message, hint } =
    command === undefined || reason === undefined
      ? {
          message: `Cannot start the container: ${said}`,
          hint: 'Check image, entry point and working directory',
        }
      : notStarted(command, reason)
  return new WeirError('engine.failed', message, {
    hint,
    details: { executionId: run.executionId },
    cause: error,
  })
}
