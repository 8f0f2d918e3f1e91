export { DEFAULT_WASM_LIMITS } from './options.js'
export type { WasmExecutorOptions, WasmLimits, WasmLogger } from './options.js'
export { createWasmExecutor } from './wasm-executor.js'
