/**
 * The job specification as it is stored and sent: Bacalhau's wire shape (PascalCase keys), after normalisation.
 *
 * A value of these types came out of `parseJobSpec` and satisfies every rule of it: lists and maps are present,
 * resource strings parse, host patterns are canonical. Source of the shape: `docs/job-specification.md`.
 */

export const JOB_TYPES = ['batch', 'ops', 'service', 'daemon'] as const
export type JobType = (typeof JOB_TYPES)[number]

/** `None` is the default, also when the specification says nothing. */
export const NETWORK_TYPES = ['None', 'HTTP', 'Full'] as const
export type NetworkType = (typeof NETWORK_TYPES)[number]

export const CONSTRAINT_OPERATORS = ['=', '==', '!=', 'in', 'notin', 'exists', '!', 'gt', 'lt'] as const
export type ConstraintOperator = (typeof CONSTRAINT_OPERATORS)[number]

/** The repeated `Type` + `Params` pair of engines, input sources, publishers and published results. */
export interface SpecConfig {
  /** Empty only where "none" is meant (a task without publisher). Stored in the canonical spelling of the kind. */
  Type: string
  /** Absent when empty. */
  Params?: Record<string, unknown>
}

export interface Constraint {
  /** A label key; with the prefix `favour_` it only ranks nodes instead of excluding them. */
  Key: string
  Operator: ConstraintOperator
  /** Empty for `exists` and `!`. */
  Values: string[]
}

export interface InputSourceSpec {
  Source: SpecConfig
  /** Unique among the task's inputs when not empty. */
  Alias: string
  /** Absolute path inside the job, unique among the task's inputs. */
  Target: string
}

export interface ResultPathSpec {
  /** Directory name in the result: one path segment. */
  Name: string
  /** Absolute path inside the job. */
  Path: string
}

/** Quantities as the user wrote them, lower-cased without spaces; empty means the default. */
export interface ResourcesSpec {
  CPU: string
  Memory: string
  Disk: string
  GPU: string
}

export interface NetworkSpec {
  Type: NetworkType
  /** Canonical host patterns (see `host-pattern.ts`). Filled only when `Type` is `HTTP`; empty never means "all". */
  Domains: string[]
  /**
   * Find out what the program needs: every public host is open to it, on nodes that take learning jobs of this user. Only
   * for `HTTP`. Absent = false.
   */
  Learn?: boolean
  /** Less than the node gives; only for `HTTP`. Absent = whatever the node gives. */
  Limits?: NetworkLimitsSpec
  /** By whom the job was signed; only for `HTTP`. Absent = by nobody. See `job-signature.ts`. */
  Signatures?: JobSignatureSpec[]
}

/** What a signature is over, each part as base64url of its SHA-256. */
export const SIGNED_PARTS = [
  'Program',
  'Command',
  'Environment',
  'Inputs',
  'Results',
  'Network',
  'Run',
] as const
export type SignedPart = (typeof SIGNED_PARTS)[number]

/** One signature of a job. */
export interface JobSignatureSpec {
  /** What kind of signature it is: `weir.job-signature/1`. */
  Type: string
  /** Public Ed25519 key: `U` and 55 letters and digits. */
  Key: string
  /** RFC 3339, UTC, whole seconds: `2026-01-31T12:00:00Z`. */
  NotBefore: string
  Expires: string
  /** Only in this namespace; absent = in any. */
  Namespace?: string
  Parts: Record<SignedPart, string>
  /** Ed25519, base64url. */
  Signature: string
}

/** What a job asks for of the gateway's limits; the operator's maxima always win. Absent = no wish. */
export interface NetworkLimitsSpec {
  /** Bits per second: `2mbit`. */
  BitsPerSecondUp?: string
  BitsPerSecondDown?: string
  /** Payload of one execution: `100mb`. */
  BytesUpMax?: string
  BytesDownMax?: string
  RequestsPerSecond?: number
  ConnectionsMax?: number
  /** To one host and port at the same time, of all executions of the job; at least `Count`. */
  HostConnectionsMax?: number
  /** Different names that one execution may have looked up. */
  HostNamesMax?: number
  Budgets?: DomainBudgetSpec[]
}

/** Payload to and from the hosts of one pattern, in one execution. */
export interface DomainBudgetSpec {
  /** Canonical host pattern, covered by the task's domains. */
  Domain: string
  BytesUpMax?: string
  BytesDownMax?: string
}

/** Seconds; 0 means "not set". */
export interface TimeoutsSpec {
  ExecutionTimeout: number
  QueueTimeout: number
  TotalTimeout: number
}

export interface TaskSpec {
  Name: string
  Engine: SpecConfig
  Publisher: SpecConfig
  Env: Record<string, string>
  Meta: Record<string, string>
  InputSources: InputSourceSpec[]
  ResultPaths: ResultPathSpec[]
  Resources: ResourcesSpec
  Network: NetworkSpec
  Timeouts: TimeoutsSpec
}

export interface JobSpec {
  /** Empty until the orchestrator sets it to the job's id. */
  Name: string
  Namespace: string
  Type: JobType
  Priority: number
  /** Executions wanted (batch, service); 1 for ops and daemon, where the matching nodes decide. */
  Count: number
  Constraints: Constraint[]
  Meta: Record<string, string>
  Labels: Record<string, string>
  /** Exactly one task. */
  Tasks: [TaskSpec]
}

/** Parameters of the `docker` engine, as `dockerEngine(task)` returns them. */
export interface DockerEngineParams {
  Image: string
  /** Null keeps the entry point of the image. */
  Entrypoint: string[] | null
  Parameters: string[]
  /** `K=V` pairs. */
  EnvironmentVariables: string[]
  /** Absolute, or empty for the image's own. */
  WorkingDirectory: string
}

/** Parameters of the `wasm` engine, as `wasmEngine(task)` returns them. */
export interface WasmEngineParams {
  EntryModule: InputSourceSpec
  /** Exported function without parameters and results; `_start` by default. */
  EntryPoint: string
  Parameters: string[]
  EnvironmentVariables: Record<string, string>
  ImportModules: InputSourceSpec[]
}
