import type { EgressGateway } from '../../ports/index.js'

/** What the executor needs of the egress gateway, as `EgressGateway` describes it. */
export type SandboxGateway = Required<Pick<EgressGateway, 'attachSandbox' | 'carry' | 'detach'>>

/** What the executor logs to; pino's loggers are one. */
export interface WasmLogger {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Bounds of the operator; a job gets the smaller of these and what it asked for. */
export interface WasmLimits {
  /** Largest module file. */
  moduleBytesMax: number
  importModulesMax: number
  /** From the job's arrival in the sandbox to compiled code. */
  compileTimeoutMs: number
  /** Guest memory for jobs that state none. */
  memoryBytesDefault: number
  /** Bytes a job that states no disk may add to its writable directories; also the largest single file of any job. */
  diskBytesMax: number
  filesMax: number
  openFilesMax: number
  /** stdout and stderr together; a program that writes more is ended. */
  outputBytesMax: number
  /** Arguments and environment together. */
  argumentBytesMax: number
  /** Modules up to this size are compiled with the optimising compiler at once, larger ones as they run. */
  optimiseBytesMax: number
  /** Larger modules are not compiled ahead. */
  aheadBytesMax: number
  /** For compiling a whole module ahead, in the background. */
  aheadTimeoutMs: number
  /** Inputs up to this size are copied into a waiting slot; larger ones are bound into a slot of their own. */
  copyBytesMax: number
  /** Time for a sandbox to come up. */
  bootTimeoutMs: number
}

export interface WasmExecutorOptions {
  nodeId: string
  /** A directory of the node for slots; made when missing, private to the node. Best on the file system of the outputs. */
  dataDir: string
  limits?: Partial<WasmLimits>
  logger?: WasmLogger
  /** Sandboxes that wait ready while jobs come; one where none came for a minute. Default 1; 0 starts one for each job. */
  warmSlots?: number
  /** Path of the Node.js program inside the sandboxes. Default, and empty: the one that runs this process. */
  node?: string
  /** Room for compiled code below `dataDir`. Default, and 0: none is kept, every job compiles its modules. */
  codeBytesMax?: number
  /** Where programs are looked for. Default: the PATH of this process. */
  path?: string
  /**
   * What programs find open. `tree` (default) is what jobs need: `/` and every directory that is mounted below it.
   * `volumes` is what checks of conformance ask for: the run's volumes alone, each under the very name its target has
   * (`data`, `/data`, `/`), and nothing for a run without any.
   */
  preopens?: 'tree' | 'volumes'
  /** Gives programs HTTP through the egress gateway. Absent: they have no network. */
  gateway?: SandboxGateway
  /** False leaves control groups alone. Default true: they are used where they can be. */
  cgroups?: boolean
}

const MIB = 1024 * 1024

export const DEFAULT_WASM_LIMITS: WasmLimits = Object.freeze({
  moduleBytesMax: 128 * MIB,
  importModulesMax: 32,
  compileTimeoutMs: 60_000,
  memoryBytesDefault: 512 * MIB,
  diskBytesMax: 10 * 1024 * MIB,
  filesMax: 100_000,
  openFilesMax: 1_024,
  outputBytesMax: 1024 * MIB,
  argumentBytesMax: MIB,
  optimiseBytesMax: MIB,
  aheadBytesMax: 64 * MIB,
  aheadTimeoutMs: 180_000,
  copyBytesMax: MIB,
  bootTimeoutMs: 10_000,
})

export const SILENT: WasmLogger = Object.freeze({ debug() {}, info() {}, warn() {}, error() {} })
