import type Docker from 'dockerode'
import { WeirError } from '../../errors.js'
import type { ExecutionId, NodeId } from '../../model/index.js'
import { engineMessage } from './engine-connection.js'
import { removeFullNetwork } from './full-network.js'
import { LABEL_EXECUTION, LABEL_KIND, LABEL_NODE, LABEL_PROCESS } from './labels.js'
import { joinedId } from './resume-container.js'
import type { DockerLog } from './options.js'
import { OWNER, isDeadOwner } from '../../owner-process.js'
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
  const all = await listed(docker, `${LABEL_NODE}=${nodeId}`)
  const jobs = all.filter(({ Labels }) => Labels[LABEL_KIND] === 'job')
  const kept = jobs.filter(({ Id, Labels }) => inUse.has(Id) || keep.has(Labels[LABEL_EXECUTION] ?? ''))
  const staying = new Set([
    ...inUse,
    ...kept.flatMap(({ Id, HostConfig }) => [Id, joinedId(HostConfig.NetworkMode)]),
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
  removed.push(...(await reapOrphans(input)))
  if (!input.keepFullNetwork && kept.length === 0) removed.push(...(await removeFullNetwork(docker, nodeId)))
  return removed
}

/**
 * Holders and canaries of any node whose process died on this machine and that no container has joined: a node that
 * lives only for one job never comes back under its name to clean up itself.
 */
async function reapOrphans({ docker, nodeId, log }: ReapInput): Promise<string[]> {
  const everything = await listed(docker, LABEL_NODE)
  const joins = new Set(everything.map(({ HostConfig }) => joinedId(HostConfig.NetworkMode)))
  const orphans = everything.filter(
    ({ Id, Labels }) =>
      Labels[LABEL_NODE] !== nodeId &&
      ['holder', 'canary'].includes(Labels[LABEL_KIND] ?? '') &&
      isDeadOwner(Labels[LABEL_PROCESS] ?? '') &&
      !joins.has(Id),
  )
  for (const { Id } of orphans) await removeContainer(docker.getContainer(Id), log)
  return orphans.map(
    ({ Id, Labels }) => `${Labels[LABEL_KIND]} ${Id.slice(0, 12)} of another node that is gone`,
  )
}

/** This process may be about to use what it has just made. */
function isFresh({ Labels, Created }: Docker.ContainerInfo): boolean {
  return Labels[LABEL_PROCESS] === OWNER && Date.now() / 1000 - Created < FRESH_SECONDS
}

const FRESH_SECONDS = 120

async function listed(docker: Docker, label: string): Promise<Docker.ContainerInfo[]> {
  try {
    return await docker.listContainers({ all: true, filters: { label: [label] } })
  } catch (error) {
    throw new WeirError('engine.failed', `Cannot look for leftovers: ${engineMessage(error)}`, {
      retryable: true,
      cause: error,
    })
  }
}
