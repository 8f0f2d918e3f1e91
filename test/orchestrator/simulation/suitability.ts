import type { Constraint, JobSpec, NodeInfo, NodeRecord } from '../../../src/model/index.js'
import { taskResources } from '../../../src/model/index.js'

/**
 * Whether a node may be given a job, said once more and independently of the scheduler: what the specification of jobs
 * promises, in the simplest words.
 */
export function suits(spec: JobSpec, info: NodeInfo): boolean {
  const [task] = spec.Tasks
  const asked = taskResources(task)
  const { maxCapacity, egress } = info
  if (!info.engines.includes(task.Engine.Type)) return false
  if (task.Publisher.Type !== '' && !info.publishers.includes(task.Publisher.Type)) return false
  if (task.Network.Type === 'HTTP') {
    if (!egress.acceptsNetworkedJobs || !egress.httpEngines.includes(task.Engine.Type)) return false
    if (!task.Network.Domains.every((domain) => egress.allow.includes(domain))) return false
  }
  if (asked.cpu > maxCapacity.cpu || asked.memoryBytes > maxCapacity.memoryBytes) return false
  return labelsSuit(spec, info.labels)
}

/** Whether no hard constraint is violated. */
export function labelsSuit(spec: JobSpec, labels: Readonly<Record<string, string>>): boolean {
  return spec.Constraints.filter(({ Key }) => !Key.startsWith('favour_')).every((one) => holds(one, labels))
}

function holds({ Key, Operator, Values }: Constraint, labels: Readonly<Record<string, string>>): boolean {
  const has = Key in labels
  const value = labels[Key] ?? ''
  const number = Number(value)
  const limit = Number(Values[0])
  const isWhole = has && value !== '' && Number.isInteger(number)
  const table: Record<Constraint['Operator'], boolean> = {
    '=': has && value === Values[0],
    '==': has && value === Values[0],
    '!=': !has || value !== Values[0],
    in: has && Values.includes(value),
    notin: !has || !Values.includes(value),
    exists: has,
    '!': !has,
    gt: isWhole && number > limit,
    lt: isWhole && number < limit,
  }
  return table[Operator]
}

/** Whether a node takes part at all. */
export function isThere({ membership, connection, info }: NodeRecord): boolean {
  return membership === 'APPROVED' && connection === 'CONNECTED' && info.roles.includes('compute')
}
