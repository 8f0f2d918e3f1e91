import type { AuditEntry } from '../../model/index.js'
import type { Lease } from './lease.js'

/** What the chain of an execution says when another gateway process goes on with it: nothing left in between. */
export function restartEntry(lease: Lease): AuditEntry {
  return {
    timeMs: lease.now(),
    nodeId: lease.nodeId,
    jobId: lease.who.jobId,
    executionId: lease.who.executionId,
    policyGeneration: lease.rules.node.generation,
    kind: 'restart',
    ...(lease.isLearning && { learning: true as const }),
    method: 'RESTART',
    host: '',
    hostAsSent: '',
    port: 0,
    answers: [],
    aliases: [],
    dialled: '',
    sni: '',
    alpn: [],
    decision: 'deny',
    code: 'egress.unavailable',
    rule: '',
    ruleOwner: 'gateway',
    status: 0,
    bytesUp: 0,
    bytesDown: 0,
    msToFirstByte: -1,
    msTotal: 0,
    end: 'error',
  }
}
