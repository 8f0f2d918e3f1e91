import type { NodeId, NodeInfo } from '../model/state.js'
import type { Resources } from '../model/resources.js'
import type { AdmissionView } from './admission.js'
import type { CapacityGate } from './capacity-gate.js'
import { offersFull } from './network-admission.js'

/** What the node tells others about itself. */
export function describeNode(
  self: { nodeId: NodeId; roles: NodeInfo['roles']; version: string },
  { health, sources, publishers, rules, generation, hasGateway, labels, maxJobRequirements }: AdmissionView,
  gate: CapacityGate,
): NodeInfo {
  const engines = health.all()
  const available = engines.filter(([, status]) => status.health.available)
  const names = (able: (typeof engines)[number][]) => able.map(([engine]) => engine)
  const networkProblems = engines.flatMap(([, { networkProblems: problems }]) => problems)
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
      ...rules.told.description,
      mode: rules.mode,
      generation,
      ...(rules.networkVersion === undefined ? {} : { networkVersion: rules.networkVersion }),
      acceptsNetworkedJobs: rules.acceptNetworkedJobs,
      ...(rules.learning === undefined ? {} : { learning: rules.learning }),
      httpEngines: hasGateway ? names(available.filter(([, { http }]) => http)) : [],
      fullEngines: offersFull(rules) ? names(available.filter(([, { full }]) => full)) : [],
      problems: rules.acceptNetworkedJobs
        ? [
            ...new Set(networkProblems),
            ...(hasGateway ? [] : ['the egress gateway is not running']),
            ...(rules.told.isWhole ? [] : ['the egress lists are too long to be told whole']),
          ]
        : [],
    },
    engineDetails: Object.fromEntries(
      engines.flatMap(([engine, { health: known }]) =>
        known.available ? [[engine, textOf(known.details)]] : [],
      ),
    ),
    engineProblems: Object.fromEntries(
      engines.flatMap(([engine, { health: known }]) =>
        known.available ? [] : [[engine, `${known.message} (${known.hint})`]],
      ),
    ),
  }
}

const DETAILS_CHARS_MAX = 1_000

function textOf(details: Record<string, string>): string {
  const parts = Object.entries(details).map(([name, value]) => `${name}: ${value}`)
  return parts.join('; ').slice(0, DETAILS_CHARS_MAX)
}

function amounts({ cpu, memoryBytes, diskBytes, gpu }: Resources): Resources {
  return { cpu, memoryBytes, diskBytes, gpu }
}
