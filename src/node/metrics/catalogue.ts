/** A metric family as Prometheus knows it. Names end in their unit. */
export interface MetricFamily {
  type: 'counter' | 'gauge' | 'histogram'
  help: string
  /** Each has a bounded number of values. */
  labels?: readonly string[]
}

/** Every metric there is; `docs/metrics.md` lists the same. */
export const METRICS = {
  weir_info: { type: 'gauge', help: 'Always 1; says version and roles', labels: ['version', 'roles'] },
  weir_process_resident_bytes: { type: 'gauge', help: 'Memory of the server process' },
  weir_process_cpu_seconds_total: { type: 'counter', help: 'Processor time of the server process' },

  weir_egress_gateway_up: { type: 'gauge', help: '1 while the gateway process answers' },
  weir_egress_gateway_restarts_total: { type: 'counter', help: 'Times that the gateway ended unasked' },
  weir_egress_attempts_total: {
    type: 'counter',
    help: 'Attempts to reach something, by decision and code (empty when all was well)',
    labels: ['decision', 'code'],
  },
  weir_egress_refusals_total: {
    type: 'counter',
    help: 'Refused attempts by whose rule decided',
    labels: ['owner'],
  },
  weir_egress_bytes_total: { type: 'counter', help: 'Payload that passed', labels: ['direction'] },
  weir_egress_audit_failures_total: {
    type: 'counter',
    help: 'Records that could not be written; their attempts were refused or cut',
  },
  weir_egress_learning_total: {
    type: 'counter',
    help: 'Executions to which every public host was opened, to learn what they need',
  },
  weir_egress_connections: { type: 'gauge', help: 'Open connections of jobs to the gateway' },
  weir_egress_leases: { type: 'gauge', help: 'Executions that may leave now' },
  weir_egress_policy_generation: { type: 'gauge', help: 'Grows with each change of the rules' },
  weir_egress_decision_seconds: {
    type: 'histogram',
    help: 'Judging an allowed attempt: name, lookup, addresses',
  },
  weir_egress_dial_seconds: { type: 'histogram', help: 'Note on disk, and connecting to the host' },
  weir_egress_first_byte_seconds: {
    type: 'histogram',
    help: 'From the request to the first byte of the host',
  },
  weir_egress_rate_wait_seconds: { type: 'histogram', help: 'Payload waiting for its turn at the rate' },

  weir_compute_executions: { type: 'gauge', help: 'Executions on this node', labels: ['state'] },

  weir_orchestrator_active_jobs: {
    type: 'gauge',
    help: 'Jobs that have not ended, by state and type',
    labels: ['state', 'type'],
  },
  weir_orchestrator_jobs_total: {
    type: 'counter',
    help: 'Jobs that came into a state since the start, by state and type',
    labels: ['state', 'type'],
  },
  weir_orchestrator_placements_total: { type: 'counter', help: 'Executions placed on nodes since the start' },
  weir_orchestrator_evaluations: { type: 'gauge', help: 'Jobs in line to be looked at' },
  weir_orchestrator_nodes: {
    type: 'gauge',
    help: 'Known nodes, by membership and connection',
    labels: ['membership', 'connection'],
  },
  weir_orchestrator_commit_seconds: { type: 'histogram', help: 'Commits of the job store' },
} as const satisfies Record<string, MetricFamily>

export type MetricName = keyof typeof METRICS
