import type { NodeInfo } from '../../model/index.js'
import type { EgressGateway, JobStore } from '../../ports/index.js'
import { Exposition } from './exposition.js'
import type { StoreCounters } from './measured-store.js'

/** What there is to measure; absent parts have no metrics. */
export interface MetricParts {
  nodeInfo: () => NodeInfo
  gateway?: EgressGateway
  orchestrator?: { store: JobStore; counters: StoreCounters }
}

/** Everything of this server at this moment, in Prometheus' text format. */
export async function collectMetrics({ nodeInfo, gateway, orchestrator }: MetricParts): Promise<string> {
  const out = new Exposition()
  const info = nodeInfo()
  out.add('weir_info', 1, { version: info.version, roles: info.roles.join('+') })
  out.add('weir_process_resident_bytes', process.memoryUsage.rss())
  const { user, system } = process.cpuUsage()
  out.add('weir_process_cpu_seconds_total', (user + system) / 1e6)
  if (info.roles.includes('compute')) {
    out.add('weir_compute_executions', info.runningExecutions, { state: 'running' })
    out.add('weir_compute_executions', info.queuedExecutions, { state: 'queued' })
  }
  if (gateway !== undefined) await addGateway(out, gateway)
  if (orchestrator !== undefined) await addOrchestrator(out, orchestrator)
  return out.text()
}

async function addGateway(out: Exposition, gateway: EgressGateway): Promise<void> {
  const { running, connections, leases, policyGeneration } = await gateway.status()
  out.add('weir_egress_gateway_up', running ? 1 : 0)
  out.add('weir_egress_connections', connections)
  out.add('weir_egress_leases', leases)
  out.add('weir_egress_policy_generation', policyGeneration)
  // A gateway that is down has counted nothing; who reads the numbers sees a restart.
  const read = await gateway.counters?.()
  if (read === undefined) return
  const { restarts, counters } = read
  out.add('weir_egress_gateway_restarts_total', restarts)
  if (counters === undefined) return
  for (const [key, count] of Object.entries(counters.attempts)) {
    const [decision = '', code = ''] = key.split(' ')
    out.add('weir_egress_attempts_total', count, { decision, code })
  }
  for (const [owner, count] of Object.entries(counters.refusedByOwner))
    out.add('weir_egress_refusals_total', count, { owner })
  out.add('weir_egress_bytes_total', counters.bytesUp, { direction: 'up' })
  out.add('weir_egress_bytes_total', counters.bytesDown, { direction: 'down' })
  out.add('weir_egress_audit_failures_total', counters.auditFailures)
  out.add('weir_egress_learning_total', counters.learningLeases)
  out.addDurations('weir_egress_decision_seconds', counters.decision)
  out.addDurations('weir_egress_dial_seconds', counters.dial)
  out.addDurations('weir_egress_first_byte_seconds', counters.firstByte)
  out.addDurations('weir_egress_rate_wait_seconds', counters.rateWait)
}

async function addOrchestrator(
  out: Exposition,
  { store, counters }: NonNullable<MetricParts['orchestrator']>,
): Promise<void> {
  const snapshot = await store.snapshot()
  const jobs = [...snapshot.activeJobs()].map(({ state, spec }) => `${state} ${spec.Type}`)
  for (const [key, count] of counted(jobs)) {
    const [state = '', type = ''] = key.split(' ')
    out.add('weir_orchestrator_active_jobs', count, { state, type })
  }
  for (const [key, count] of counters.jobs) {
    const [state = '', type = ''] = key.split(' ')
    out.add('weir_orchestrator_jobs_total', count, { state, type })
  }
  out.add('weir_orchestrator_placements_total', counters.placements)
  out.add('weir_orchestrator_evaluations', [...snapshot.evaluations()].length)
  const nodes = [...snapshot.nodes()].map(({ membership, connection }) => `${membership} ${connection}`)
  for (const [key, count] of counted(nodes)) {
    const [membership = '', connection = ''] = key.split(' ')
    out.add('weir_orchestrator_nodes', count, { membership, connection })
  }
  out.addDurations('weir_orchestrator_commit_seconds', counters.commits)
}

function counted(keys: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1)
  return counts
}
