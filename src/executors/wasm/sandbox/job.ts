/** What the node writes into a slot: one message, four bytes of length (big endian) and JSON. */
export type SandboxTask = SandboxJob | CompileTask | LoadTask

/** Runs a program. */
export interface SandboxJob extends ModuleFile {
  kind: 'run'
  /** Import modules by the name that others ask for. */
  imports: (ModuleFile & { name: string })[]
  /** The core modules of a component, in the order of its file; absent = `module` is a core module itself. */
  parts?: (ModuleFile & { tableElements: number })[]
  entryPoint: string
  /** argv[0] first. */
  args: string[]
  env: Record<string, string>
  mounts: SandboxMount[]
  /** Directories that the program finds open, from descriptor 3 on. */
  preopens: SandboxPreopen[]
  /** Largest guest memory in pages of 64 KiB. */
  memoryPages: number
  /** Bytes that the program may add to its writable directories. */
  diskBytes: number
  /** Files, directories and links that the program may make. */
  filesMax: number
  /** File descriptors that the program may have open. */
  openFilesMax: number
  /** True when `GATEWAY_FD` leads to the gateway. */
  network: boolean
  /** True compiles each function once with the optimising compiler, false begins with the quick one. */
  optimise: boolean
}

/** A module, by paths inside the sandbox. */
export interface ModuleFile {
  module: string
  /** Its compiled code, behind `CODE_HEAD_BYTES` of the node's own; absent = it is to be compiled. */
  code?: string
}

/** Compiles all of a module and writes its code to `code`. Such a sandbox never runs a program. */
export interface CompileTask {
  kind: 'compile'
  module: string
  code: string
}

/** Says whether V8 takes the code, and runs nothing. */
export interface LoadTask extends Required<ModuleFile> {
  kind: 'load'
}

/** One directory or file of the job's tree. */
export interface SandboxMount {
  /** Absolute path that the program sees. */
  target: string
  /** Absolute path inside the sandbox. */
  source: string
  kind: 'directory' | 'file'
  writable: boolean
}

export interface SandboxPreopen {
  /** What the program is told that it is called. */
  name: string
  /** The target of a mounted directory, or `/`. */
  target: string
}

/** What the slot writes on its status descriptor: one JSON object per line. */
export type SandboxStatus =
  | { status: 'ready' }
  /** Every module is there; `fromCode` of them needed no compiling. */
  | { status: 'started'; fromCode: number }
  /** The end of a `compile` or `load` task; false when V8 has no way to keep code, or does not take it. */
  | { status: 'code'; good: boolean }
  /** The module cannot be compiled, linked or started. */
  | {
      status: 'refused'
      code: 'wasm.invalid' | 'wasm.imports' | 'wasm.entry_point' | 'memory'
      message: string
    }
  | SandboxEnd

/** How the program ended. */
export interface SandboxEnd {
  status: 'ended'
  how: 'returned' | 'exit' | 'raise' | 'trap'
  /** Exit code (`exit`) or signal number (`raise`), 0 otherwise. */
  value: number
  /** Text of the trap. */
  message: string
  memoryPages: number
  /** True when it is proven that the program ran out of memory before it trapped. */
  outOfMemory: boolean
  /** True when a write was refused because the disk limit was reached. */
  diskFull: boolean
}

/** Longest job message; far above what any legal job needs. */
export const JOB_BYTES_MAX = 8 * 1024 * 1024
/** What the node writes before the code in its file: a checksum that it alone makes and checks. */
export const CODE_HEAD_BYTES = 32
/** Longest line of status. */
export const STATUS_BYTES_MAX = 64 * 1024
/** Descriptor the slot writes its status to. */
export const STATUS_FD = 3
/** Descriptor the slot reads its job from. */
export const JOB_FD = 4
/** Descriptor to the egress gateway; closed on the other side for a job without network. */
export const GATEWAY_FD = 8
