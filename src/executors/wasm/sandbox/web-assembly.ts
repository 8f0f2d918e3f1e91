/** The part of the WebAssembly JavaScript API that the sandbox uses; Node's types leave it to the browser's. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

export interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>
}

interface WasmApi {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object, imports: Record<string, Record<string, unknown>>) => WasmInstance
  Memory: new (limits: { initial: number }) => WasmMemory
  RuntimeError: new (message: string) => Error
  CompileError: new (message: string) => Error
  LinkError: new (message: string) => Error
}

/** Looked up at each use: while a start-up snapshot is built there is no WebAssembly yet. */
export const wasmApi: WasmApi = {
  get Module() {
    return current().Module
  },
  get Instance() {
    return current().Instance
  },
  get Memory() {
    return current().Memory
  },
  get RuntimeError() {
    return current().RuntimeError
  },
  get CompileError() {
    return current().CompileError
  },
  get LinkError() {
    return current().LinkError
  },
}

function current(): WasmApi {
  return (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly
}
