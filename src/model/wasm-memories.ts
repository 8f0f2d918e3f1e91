import type { WasmModule } from './wasm-module.js'
import type { WasmProblem } from './wasm-validation.js'

/** What the memories of a module are that none of weir's can be. */
export function checkMemories(module: WasmModule, what: string): WasmProblem[] {
  const problems: WasmProblem[] = []
  if (module.memories.some((one) => one.shared)) {
    problems.push({
      code: 'wasm.invalid',
      message: `Threads are not supported, and ${what} shares its memory`,
      hint: 'Build for wasm32-wasip1, without threads',
    })
  }
  if (module.memories.some((one) => one.is64)) {
    problems.push({
      code: 'wasm.invalid',
      message: `64-bit memories are not supported, and ${what} has one`,
      hint: 'Build for wasm32',
    })
  }
  if (module.memories.length > 1) {
    problems.push({
      code: 'wasm.invalid',
      message: `Only one memory is supported, and ${what} has ${module.memories.length}`,
      hint: 'Build without the multi-memory proposal',
    })
  }
  return problems
}
