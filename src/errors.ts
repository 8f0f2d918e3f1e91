/**
 * The catalogue: every error code weir can raise, with what it means.
 *
 * `docs/errors.md` lists the same codes; a test compares both. A code is `<room>.<what>`. Codes are part of the
 * public interface: scripts match on them, so a code is never reused for another meaning.
 */
export const ERROR_CODES = {
  // Job specifications and everything a user writes.
  'spec.invalid': 'A job specification has one or more mistakes; details list each with its path',
  'spec.template': 'A job template could not be filled in',
  'spec.too_large': 'A job specification or request is larger than the limit',
  'pattern.invalid': 'A host pattern is outside the grammar',
  'preset.unknown': 'No preset of host patterns has this name',
  'host.invalid': 'A host name or address is not in canonical form',
  'signature.invalid': 'A signature of a job is not genuine, is for another job, or cannot be made',
  'signature.expired': 'A signature of a job is not in force now',
  'signature.untrusted': 'Nobody there trusts a key that the job was signed with',
  'key.invalid': 'A key cannot be read, or cannot be used as it is',
  'key.exists': 'A key of this name or in this file is there already',
  'key.not_found': 'No trusted key is called so',
  'input.invalid': 'An --input argument cannot be parsed',
  'publisher.invalid': 'A --publisher argument cannot be parsed',
  'cli.usage': 'The command line is wrong',
  'config.invalid': 'The configuration has one or more mistakes',

  // Orchestrator.
  'job.not_found': 'No job has this id',
  'job.ambiguous': 'Several jobs have ids with this prefix',
  'job.unchanged': 'The job of this name is the same already',
  'job.terminal': 'The job has ended, so it cannot be changed',
  'job.too_many': 'The orchestrator holds as many jobs that have not ended as it may',
  'job.failed': 'The job ended without success',
  'execution.not_found': 'No execution has this id',
  'execution.ambiguous': 'Several executions have ids with this prefix',
  'node.not_found': 'No node has this id',
  'node.ambiguous': 'Several nodes have ids with this prefix',
  'node.conflict': 'The node is already in the requested state',
  'node.identity': 'Another machine is known under this id',
  'node.refused': 'The orchestrator does not let this machine take part',
  'node.token_not_found': 'No join token has this id',
  'request.not_found': 'No request for access has this id',
  'request.decided': 'The request for access was decided already, or has expired',
  'request.invalid': 'A request for access has no hosts, too many, or no reason',
  'request.too_many': 'As many requests for access are open as may be',
  'network.no_list': 'The network has no list of allowed hosts, so one host cannot be added',
  'scheduling.no_nodes': 'No node can run the job; details say why, grouped',

  // Stores and transports.
  'store.stale': 'The commit was based on an older revision',
  'store.unavailable': 'The store cannot be opened or written',
  'store.locked': 'Another server uses this data directory',
  'transport.timeout': 'The other side did not answer in time',
  'transport.no_responder': 'Nobody serves this subject',
  'transport.unreachable': 'The message server of the network cannot be reached',
  'transport.refused': 'The message server of the network does not accept this key',
  'transport.unavailable': 'The message server cannot be run on this machine',

  // Compute node: admission and running.
  'compute.engine': 'The node does not offer this engine',
  'compute.resources': 'The node has not enough resources',
  'compute.source': 'The node does not offer this input source',
  'compute.publisher': 'The node does not offer this publisher',
  'compute.network': 'The network policy of the node refuses the job',
  'compute.labels': 'The labels of the node do not match',
  'compute.policy': 'The operator of the node does not accept this kind of job',
  'compute.disk': 'The disk limit of the execution was reached',
  'compute.cleanup': 'Leftovers of an execution cannot be removed',
  'execution.timeout': 'The execution ran longer than its limit',
  'execution.out_of_memory': 'The program needed more memory than its limit',
  'execution.output_limit': 'The program wrote more output than its limit',
  'execution.lost': 'The node that ran the execution is gone or was restarted',
  'engine.unavailable': 'The engine cannot be used on this machine',
  'engine.failed': 'The engine could not start or watch the program',
  'image.unavailable': 'The container image cannot be had',
  'wasm.invalid': 'The file is not a WebAssembly module this engine can run',
  'wasm.imports': 'The module imports functions that nobody provides',
  'wasm.entry_point': 'The module has no such entry point',
  'wasm.trap': 'The WebAssembly program trapped',
  'exec.unavailable': 'A program cannot be confined on this machine',
  'sandbox.unavailable': 'The sandbox for WebAssembly cannot be built on this machine',

  // Data.
  'source.unavailable': 'An input could not be fetched',
  'source.refused': 'An input may not be fetched from there',
  'source.too_large': 'An input is larger than the limit',
  'source.checksum': 'An input does not have the expected checksum',
  'blob.not_found': 'The namespace holds no such content',
  'blob.mismatch': 'Uploaded content is not what its CID names',
  'blob.too_large': 'Uploaded content is larger than the limit',
  'blob.full': 'The server has no room for uploaded content',
  'publisher.failed': 'Results could not be published',
  'publisher.quota': 'The publisher has no room left',
  'results.unavailable': 'There is nothing to download',
  'results.unsafe': 'A downloaded result contains something that must not be unpacked',
  'results.conflict': 'Downloaded results have files with the same name, or would overwrite other files',
  'results.corrupt': 'A downloaded result is damaged',

  // Egress: one code per reason, see the audit record.
  'egress.mode_none': 'The job asked for no network',
  'egress.not_in_job_list': 'The host is not in the list of the job',
  'egress.not_in_node_list': 'The host is not in the list of the node',
  'egress.signature_expired': 'Only a signature of the job opened the host, and it has expired',
  'egress.not_in_network_list': 'The host is not in the list of the network',
  'egress.denied_by_operator': 'The operator of the node denies this host',
  'egress.port': 'The port is not open for this host',
  'egress.ip_literal': 'The address is not listed',
  'egress.private_address': 'The host is, or resolves to, an address that is not public',
  'egress.self': 'The host is the network itself: jobs can never reach it',
  'egress.sni_mismatch': 'The TLS server name differs from the CONNECT host',
  'egress.sni_missing': 'The TLS hello carries no server name',
  'egress.not_tls': 'The tunnel does not carry TLS',
  'egress.ech': 'The TLS hello hides its server name (ECH)',
  'egress.alpn': 'The TLS hello announces a protocol that is not HTTP',
  'egress.credential': 'The request carries no credential that the gateway knows',
  'egress.method': 'The HTTP method is not allowed',
  'egress.quota_up': 'The upload budget is used up',
  'egress.quota_down': 'The download budget is used up',
  'egress.connections': 'Too many connections',
  'egress.rate': 'Too many requests per second',
  'egress.names': 'Too many different host names',
  'egress.revoked': 'The permission was withdrawn',
  'egress.dns_failed': 'The host name could not be resolved',
  'egress.upstream_failed': 'The host could not be reached',
  'egress.timeout': 'A time limit of the gateway passed',
  'egress.overload': 'The gateway cannot take more work now',
  'egress.audit_failed': 'The audit record could not be written, so nothing may leave',
  'egress.unavailable': 'The gateway is not running or cannot attach',
  'request.malformed': 'The HTTP request is malformed',
  'request.host': 'The host in the request is malformed',
  'request.host_mismatch': 'The Host header contradicts the request target',
  'request.framing': 'The framing of the request is ambiguous',
  'request.too_large': 'The request head is too large',
  'request.timeout': 'The request head did not arrive in time',

  // API, client, process.
  'api.unreachable': 'The server does not answer',
  'api.bad_request': 'The server could not understand the request',
  'api.not_found': 'The server has no such resource',
  'api.version': 'The client is too old for the server',
  'api.refused': 'The server does not take requests from this host name or web page',
  'api.unauthorized': 'The request carries no valid credential',
  'api.forbidden': 'The credential does not allow this request',
  'api.from_job': 'The request comes from where jobs run and carries no credential: jobs never start jobs',
  'api.overload': 'The server takes no more requests from this client now',
  'api.timeout': 'The server did not finish the request in time',
  'api.failed': 'The server failed to handle the request',
  'access.off': 'The server asks nobody who they are, so it has no tokens',
  'access.invalid': 'A token cannot be made like this',
  'access.not_found': 'No token has this id',
  'access.too_many': 'The server keeps as many tokens as it may',
  'audit.unavailable':
    'The record of administrative actions cannot be written or read, so nothing is changed',
  'credentials.unsafe': 'The file with the credentials cannot be used as it is',
  'tls.untrusted': 'The certificate of the server is not the one that is trusted here',
  'tls.invalid': 'The certificate or key of the server cannot be used',
  'port.in_use': 'The port is used by another program',
  internal: 'A defect in weir',
} as const satisfies Record<string, string>

/** One of the catalogue's codes. */
export type ErrorCode = keyof typeof ERROR_CODES

/** Optional parts of a {@link WeirError}. */
export interface WeirErrorOptions {
  /** What the reader can do now: one sentence, imperative. */
  hint?: string
  /** True when trying again later can succeed without any change. Default false. */
  retryable?: boolean
  /** Plain values for machines; never secrets. */
  details?: Record<string, unknown>
  cause?: unknown
}

/**
 * The only error type that crosses a room's door.
 *
 * `message` says what was attempted and quotes the value, without a full stop; `hint` says what to do.
 */
export class WeirError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly retryable: boolean
  readonly details: Record<string, unknown>

  constructor(code: ErrorCode, message: string, options: WeirErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'WeirError'
    this.code = code
    this.hint = options.hint
    this.retryable = options.retryable ?? false
    this.details = options.details ?? {}
  }
}

/** True for a {@link WeirError}, optionally with one of the given codes. */
export function isWeirError(error: unknown, ...codes: ErrorCode[]): error is WeirError {
  return error instanceof WeirError && (codes.length === 0 || codes.includes(error.code))
}

/** Turns anything thrown into a {@link WeirError}; foreign errors become `internal` unless `code` says better. */
export function toWeirError(error: unknown, code: ErrorCode = 'internal', what?: string): WeirError {
  if (error instanceof WeirError) return error
  const text = error instanceof Error ? error.message : String(error)
  return new WeirError(code, what === undefined ? text : `${what}: ${text}`, { cause: error })
}
