import type { HostPatternSet } from '../model/host-pattern-set.js'
import type { NodeId, NodeInfo } from '../model/state.js'
import type { Resources } from '../model/resources.js'
import type { AdmissionView } from './admission.js'
import type { CapacityGate } from './capacity-gate.js'

/** What the node tells others about itself. */
export function describeNode(
  self: { nodeId: NodeId; roles: NodeInfo['roles']; version: string },
  { health, sources, publishers, rules, hasGateway, labels, maxJobRequirements }: AdmissionView,
  gate: CapacityGate,
): NodeInfo {
  const engines = health.all()
  const available = engines.filter(([, status]) => status.health.available)
  const names = (able: (typeof engines)[number][]) => able.map(([engine]) => engine)
  const networkProblems = engines.flatMap(([, { networkProblems: problems }]) => problems)
  const [allow, deny] = [tell(rules.allow), tell(rules.deny)]
  return {
    ...self,
    roles: [...self.roles],
    labels: { ...labels },
    engines: names(available),
    sources: [...sources.keys()],
    publishers: [...new Set([...publishers.keys(), 'noop'])],
    maxCapacity: gate.total,
    maxJobRequirements: amounts(maxJobRequirements),
    availableCapacity: gate.free,
    queuedCapacity: gate.queued,
    runningExecutions: gate.running,
    queuedExecutions: gate.waiting,
    egress: {
      acceptsNetworkedJobs: rules.acceptNetworkedJobs,
      httpEngines: hasGateway ? names(available.filter(([, { http }]) => http)) : [],
      fullEngines: rules.acceptFullNetwork ? names(available.filter(([, { full }]) => full)) : [],
      allow: allow.told,
      deny: deny.told,
      problems: rules.acceptNetworkedJobs
        ? [
            ...new Set(networkProblems),
            ...(hasGateway ? [] : ['the egress gateway is not running']),
            ...(allow.whole && deny.whole ? [] : ['the egress lists are too long to be told whole']),
          ]
        : [],
    },
    engineProblems: Object.fromEntries(
      engines.flatMap(([engine, { health: known }]) =>
        known.available ? [] : [[engine, `${known.message} (${known.hint})`]],
      ),
    ),
  }
}

/** As many patterns as a message has room for. What is not told is not offered; the node itself judges by all of them. */
function tell({ patterns }: HostPatternSet): { told: string[]; whole: boolean } {
  let bytes = 0
  const told: string[] = []
  for (const { text } of patterns) {
    bytes += text.length + 3
    if (bytes > LIST_BYTES_MAX) return { told, whole: false }
    told.push(text)
  }
  return { told, whole: true }
}

const LIST_BYTES_MAX = 192 * 1024

function amounts({ cpu, memoryBytes, diskBytes, gpu }: Resources): Resources {
  return { cpu, memoryBytes, diskBytes, gpu }
}
