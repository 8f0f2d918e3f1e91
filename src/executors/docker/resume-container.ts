import type Docker from 'dockerode'
import { readFileSync } from 'node:fs'
import { WeirError } from '../../errors.js'
import type { ExecutionId, NodeId } from '../../model/index.js'
import type { Clock, ResumeSpec } from '../../ports/index.js'
import { engineMessage, engineStatus, rejection } from './engine-connection.js'
import { keptFileBytes } from './kept-output.js'
import { LABEL_EXECUTION, LABEL_KIND, LABEL_NODE } from './labels.js'
import type { DockerLog } from './options.js'
import { RunningContainer, removeContainer } from './running-container.js'

/**
 * The container of an execution of this node. Undefined when there is none; rejects with `engine.unavailable` when the
 * engine does not say.
 */
export async function findContainer(
  docker: Docker,
  nodeId: NodeId,
  executionId: ExecutionId,
  signal: AbortSignal,
): Promise<Docker.ContainerInspectInfo | undefined> {
  const label = [`${LABEL_NODE}=${nodeId}`, `${LABEL_KIND}=job`, `${LABEL_EXECUTION}=${executionId}`]
  const find = async () => {
    const [found] = await docker.listContainers({ all: true, filters: { label } })
    return found === undefined ? undefined : await docker.getContainer(found.Id).inspect()
  }
  try {
    signal.throwIfAborted()
    return await Promise.race([find(), rejection(signal)])
  } catch (error) {
    signal.throwIfAborted()
    if (engineStatus(error) === 404) return undefined
    throw new WeirError(
      'engine.unavailable',
      `Cannot look for the container of an execution: ${engineMessage(error)}`,
      { retryable: true, hint: 'Look at the Docker engine of the node', cause: error },
    )
  }
}

/** The holder that a container with this network mode has joined. */
export function holderOf(docker: Docker, networkMode: string): Docker.Container | undefined {
  const id = joinedId(networkMode)
  return id === '' ? undefined : docker.getContainer(id)
}

/** The id of the container whose network a network mode means; empty for other modes. */
export function joinedId(networkMode: string): string {
  return networkMode.startsWith('container:') ? networkMode.slice('container:'.length) : ''
}

/**
 * Watches a container that an earlier process started. One that was made and never started is removed with its network.
 * Rejects with `execution.lost` where the end of the program or its output cannot be known; it is removed then as well.
 */
export async function resumeContainer(input: {
  docker: Docker
  found: Docker.ContainerInspectInfo
  run: ResumeSpec
  clock: Clock
  log: DockerLog
}): Promise<RunningContainer | 'not started'> {
  const { docker, found, run, clock, log } = input
  const container = docker.getContainer(found.Id)
  const startTimeMs = Date.parse(found.State.StartedAt)
  // The engine's word for "never" is the year 1.
  if (!(startTimeMs > 0)) {
    await discard(docker, found, log)
    return 'not started'
  }
  const fileBytes = keptFileBytes(
    found.HostConfig.LogConfig as { Type?: string; Config?: Record<string, string> },
  )
  const reason = fileBytes === 0 ? NOT_KEPT : endedByMachine(found) ? MACHINE_RESTARTED : ''
  if (reason !== '') {
    await discard(docker, found, log)
    throw new WeirError('execution.lost', `The node was restarted, and ${reason}`, {
      retryable: true,
      hint: 'The job is tried again if its type allows',
    })
  }
  return new RunningContainer({
    container,
    stream: undefined,
    keptFileBytes: fileBytes,
    output: run.output,
    details: { container: found.Id, imageId: found.Image },
    found: { startTimeMs, hadEnded: !found.State.Running },
    holder: holderOf(docker, found.HostConfig.NetworkMode ?? ''),
    clock,
    log,
  })
}

/** Nobody takes the run up, so nobody gives its holder back either. */
async function discard(docker: Docker, found: Docker.ContainerInspectInfo, log: DockerLog): Promise<void> {
  await removeContainer(docker.getContainer(found.Id), log)
  const holder = holderOf(docker, found.HostConfig.NetworkMode ?? '')
  if (holder !== undefined) await removeContainer(holder, log)
}

const NOT_KEPT = 'the Docker engine keeps no output of its own, so a part of it is missing'
const MACHINE_RESTARTED = 'so was its machine, which ended the program'

/** The engine finds what ran when the machine went down, and can only say that it runs no more. */
function endedByMachine({ State }: Docker.ContainerInspectInfo): boolean {
  if (State.Running) return false
  const bootMs = bootTimeMs()
  return Date.parse(State.StartedAt) < bootMs && Date.parse(State.FinishedAt) >= bootMs
}

/** When this machine was started; 0 where it does not tell. */
function bootTimeMs(): number {
  try {
    return Number(/^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'latin1'))?.[1] ?? 0) * 1000
  } catch {
    return 0
  }
}
