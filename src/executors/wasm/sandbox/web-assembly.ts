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

export const wasmApi: WasmApi = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly
