/** Plain JSON. */
export type Message = unknown
export type Subject = string

export interface Closable {
  close(): Promise<void>
}

/**
 * Answers one request. What it throws arrives at the caller as a WeirError with the same code, message and hint. `from`
 * is who asks, proven by the transport; absent inside one process, where everybody is trusted. `signal` is aborted when
 * the transport closes.
 */
export type Handler = (body: Message, signal: AbortSignal, from?: string) => Promise<Message>

/** Carries messages between roles; may lose, repeat and reorder them. Messages are at most 1 MiB of JSON. */
export interface Transport {
  /** Rejects with `transport.timeout` or `transport.no_responder`, or with what the handler threw. */
  request(subject: Subject, body: Message, timeoutMs: number): Promise<Message>
  serve(subject: Subject, handler: Handler): Promise<Closable>
  close(): Promise<void>
}

/** Subjects. Served by the orchestrator: */
export const SYNC_SUBJECT = 'orchestrator.sync'

/** Served by the orchestrator for machines that hold a join token and nothing else yet. */
export const JOIN_SUBJECT = 'orchestrator.join'

/** Served by the orchestrator: a piece of content that an execution of the node needs, see {@link BlobReadRequest}. */
export const BLOB_SUBJECT = 'orchestrator.blob'

/** Served by each node: "sync now", answers at once. */
export function nudgeSubject(nodeId: string): Subject {
  return `node.${nodeId}.nudge`
}

/** Served by each node: see {@link OutputReadRequest}. */
export function outputSubject(nodeId: string): Subject {
  return `node.${nodeId}.output`
}

/** Served by each node: see {@link EgressReadRequest}. */
export function egressSubject(nodeId: string): Subject {
  return `node.${nodeId}.egress`
}

/** Served by each node: an `EgressQuestion`, answered by its gateway with an `EgressExplanation`. */
export function explainSubject(nodeId: string): Subject {
  return `node.${nodeId}.explain`
}

/** Long poll for a program's output. */
export interface OutputReadRequest {
  executionId: string
  /** Position in the execution's output log, from 0; take it from the answer before. */
  cursor: number
  /** Wait so long for something new before answering with nothing. At most 10,000. */
  waitMs: number
  /** At most 512 KiB. */
  bytesMax: number
  /** Start at the end: answer with the cursor of "now" and no chunks. */
  fromEnd?: boolean
  /** Start so many lines before the end, whatever `cursor` says; 0 = at the end. For the first question. */
  tailLines?: number
  /** Start at the first output that arrived then or later (the node's clock), whatever `cursor` says. */
  sinceMs?: number
}

export interface OutputReadResponse {
  /** In order of arrival; `data` is base64. */
  chunks: { stream: 'stdout' | 'stderr'; data: string; timeMs: number }[]
  cursor: number
  /** True when the execution has ended and everything was delivered. */
  done: boolean
  /** True when the bound on kept output was reached. */
  truncated: boolean
}

export interface EgressReadRequest {
  executionId: string
  /** Records with a higher sequence. */
  after: number
  /** At most 1,000. */
  limit: number
  waitMs: number
}

export interface EgressReadResponse {
  records: import('../model/audit.js').AuditRecord[]
  /** True when the execution has ended and everything was delivered. */
  done: boolean
}
