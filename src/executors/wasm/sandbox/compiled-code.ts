import { readFileSync, writeFileSync } from 'node:fs'
import v8 from 'node:v8'
import vm from 'node:vm'
import { CODE_HEAD_BYTES, type CompileTask, type LoadTask, type ModuleFile } from './job.js'
import { wasmApi } from './web-assembly.js'

/**
 * V8's own way to keep compiled WebAssembly. It is no public interface: it may be missing or change, and some mistakes
 * end the process. So code is made, and tried, only in processes that run nothing else.
 */
interface CodeFormat {
  serialize(module: object): ArrayBuffer
  /** Undefined when the code is of another version, other flags, another processor or other bytes. */
  deserialize(code: ArrayBuffer, bytes: Uint8Array): object | undefined
}

let format: CodeFormat | undefined

/** Undefined where V8 does not know the words. */
function codeFormat(): CodeFormat | undefined {
  if (format !== undefined) return format
  v8.setFlagsFromString('--allow-natives-syntax')
  try {
    // In brackets, a function is compiled at once: later the words are not known any more.
    format = {
      serialize: evaluate(
        '(function (module) { return %SerializeWasmModule(module) })',
      ) as CodeFormat['serialize'],
      deserialize: evaluate(
        '(function (code, bytes) { return %DeserializeWasmModule(code, bytes) })',
      ) as CodeFormat['deserialize'],
    }
  } catch {
    // A V8 without them: everything is compiled.
  } finally {
    v8.setFlagsFromString('--no-allow-natives-syntax')
  }
  return format
}

function evaluate(source: string): unknown {
  return new vm.Script(source).runInThisContext()
}

/** True compiles each function once with the optimising compiler, false begins with the quick one. */
export function optimiseFrom(isOptimised: boolean): void {
  v8.setFlagsFromString(isOptimised ? '--no-liftoff' : '--liftoff')
}

/** A module's bytes, and the module itself where its code is there and fits. */
export function loadModule(file: ModuleFile): { bytes: Buffer; module: object | undefined } {
  const bytes = readFileSync(file.module)
  if (file.code === undefined) return { bytes, module: undefined }
  const code = readFileSync(file.code).subarray(CODE_HEAD_BYTES)
  return { bytes, module: codeFormat()?.deserialize(new Uint8Array(code).buffer, bytes) }
}

/** Compiles every function, and writes the code behind an empty head. Throws what the compiler throws. */
export function writeCode(task: CompileTask): boolean {
  const kept = codeFormat()
  if (kept === undefined) return false
  optimiseFrom(true)
  // Otherwise functions are compiled when they are called, which here is never.
  v8.setFlagsFromString('--no-wasm-lazy-compilation')
  const module = new wasmApi.Module(readFileSync(task.module))
  // The code carries the flags under which it is written; jobs load it with this one on.
  v8.setFlagsFromString('--wasm-lazy-compilation')
  writeFileSync(
    task.code,
    Buffer.concat([Buffer.alloc(CODE_HEAD_BYTES), Buffer.from(kept.serialize(module))]),
  )
  return true
}

export function loadCode(task: LoadTask): boolean {
  optimiseFrom(true)
  return loadModule(task).module !== undefined
}
