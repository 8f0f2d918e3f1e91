import type Docker from 'dockerode'
import { WeirError } from '../../errors.js'
import type { ExecutionId, NodeId } from '../../model/index.js'
import { engineMessage } from './engine-connection.js'
import { removeFullNetwork } from './full-network.js'
import { LABEL_EXECUTION, LABEL_KIND, LABEL_NODE, LABEL_PROCESS, PROCESS_ID } from './labels.js'
import type { DockerLog } from './options.js'
import { removeContainer } from './running-container.js'

export interface ReapInput {
  docker: Docker
  nodeId: NodeId
  /** Executions whose containers stay, with the holders they joined. */
  keep: ReadonlySet<ExecutionId>
  /** Ids of containers that this process uses now. */
  inUse: ReadonlySet<string>
  /** True when this process uses the node's full network. */
  keepFullNetwork: boolean
  log: DockerLog
}

/**
 * Removes everything with the node's label that nobody needs: containers with their volumes, holders, the full network
 * and its packet rules. Returns one line for each. Rejects with `engine.failed` when the engine cannot be asked.
 */
export async function reapLeftovers(input: ReapInput): Promise<string[]> {
  const { docker, nodeId, keep, inUse } = input
  const all = await ownContainers(docker, nodeId)
  const jobs = all.filter(({ Labels }) => Labels[LABEL_KIND] === 'job')
  const kept = jobs.filter(({ Id, Labels }) => inUse.has(Id) || keep.has(Labels[LABEL_EXECUTION] ?? ''))
  const staying = new Set([
    ...inUse,
    ...kept.flatMap(({ Id, HostConfig }) => [Id, joined(HostConfig.NetworkMode)]),
  ])
  // Jobs before holders: a namespace goes when nobody is in it.
  const leftovers = [...jobs, ...all.filter((container) => !jobs.includes(container))].filter(
    (container) => !staying.has(container.Id) && !isFresh(container),
  )
  const removed: string[] = []
  for (const { Id, Labels } of leftovers) {
    await removeContainer(docker.getContainer(Id), input.log)
    removed.push(`${Labels[LABEL_KIND] ?? 'container'} ${Labels[LABEL_EXECUTION] ?? Id.slice(0, 12)}`)
  }
  if (!input.keepFullNetwork && kept.length === 0) removed.push(...(await removeFullNetwork(docker, nodeId)))
  return removed
}

/** This process may be about to use what it has just made. */
function isFresh({ Labels, Created }: Docker.ContainerInfo): boolean {
  return Labels[LABEL_PROCESS] === PROCESS_ID && Date.now() / 1000 - Created < FRESH_SECONDS
}

const FRESH_SECONDS = 120

async function ownContainers(docker: Docker, nodeId: NodeId): Promise<Docker.ContainerInfo[]> {
  try {
    return await docker.listContainers({ all: true, filters: { label: [`${LABEL_NODE}=${nodeId}`] } })
  } catch (error) {
    throw new WeirError('engine.failed', `Cannot look for leftovers: ${engineMessage(error)}`, {
      retryable: true,
      cause: error,
    })
  }
}

/** The holder of a container that joined one. */
function joined(networkMode: string): string {
  return networkMode.startsWith('container:') ? networkMode.slice('container:'.length) : ''
}
