import { isKeyGrants } from '../model/index.js'
import type { GatewayStanding, LearningOffer, NodeInfo, Resources } from '../model/index.js'

const LIST_LENGTH_MAX = 10_000
const TEXT_LENGTH_MAX = 4_096

/**
 * True for what the scheduler can read without stumbling: one node that sends nonsense must not keep the jobs of
 * others from being placed.
 */
export function isNodeInfo(info: unknown): info is NodeInfo {
  if (!isRecord(info) || !isRecord(info.egress)) return false
  const { egress } = info
  const lists = [
    info.roles,
    info.engines,
    info.sources,
    info.publishers,
    egress.httpEngines,
    egress.fullEngines,
    egress.allow,
    egress.deny,
    egress.problems,
  ]
  return (
    lists.every(isTextList) &&
    (info.addresses === undefined || isTextList(info.addresses)) &&
    (info.publicKey === undefined || isText(info.publicKey)) &&
    (egress.learning === undefined || isLearningOffer(egress.learning)) &&
    (egress.gateway === undefined || isGateway(egress.gateway)) &&
    (egress.keys === undefined || isKeyGrants(egress.keys)) &&
    [info.labels, info.engineProblems, info.engineDetails ?? {}].every(isTextRecord) &&
    [info.maxCapacity, info.maxJobRequirements].every(isResources) &&
    // Absent in what an older node sends; shown to users only.
    [info.availableCapacity, info.queuedCapacity].every((one) => one === undefined || isResources(one))
  )
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.length <= LIST_LENGTH_MAX && value.every(isText)
}

function isTextRecord(value: unknown): boolean {
  return isRecord(value) && isTextList(Object.values(value)) && isTextList(Object.keys(value))
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value.length <= TEXT_LENGTH_MAX
}

function isLearningOffer(value: unknown): value is LearningOffer {
  return isRecord(value) && isTextList(value.users) && Number.isSafeInteger(value.timeoutMaxMs)
}

function isGateway(value: unknown): value is GatewayStanding {
  if (!isRecord(value) || typeof value.running !== 'boolean') return false
  return ['policyGeneration', 'leases', 'connections'].every((key) => Number.isSafeInteger(value[key]))
}

function isResources(value: unknown): value is Resources {
  if (!isRecord(value)) return false
  return ['cpu', 'memoryBytes', 'diskBytes', 'gpu'].every((key) => {
    const amount = value[key]
    return typeof amount === 'number' && Number.isFinite(amount) && amount >= 0
  })
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
