import { ownValue } from './own-value.js'
import { type WasmMemory, wasmApi } from './web-assembly.js'

interface ImportDescriptor {
  module: string
  name: string
}

/**
 * What a core module imports, taken from `provided` by module name, and the memory that is among it. Nobody provides it:
 * undefined, which instantiating refuses.
 *
 * Names are plain strings in objects without a prototype: `__proto__` and `constructor` are names like others.
 */
export function importObject(
  module: object,
  provided: (name: string) => object | undefined,
): { imports: Record<string, Record<string, unknown>>; memory: WasmMemory | undefined } {
  const imports = Object.create(null) as Record<string, Record<string, unknown>>
  let memory: WasmMemory | undefined
  for (const wanted of importsOf(module)) {
    const from = provided(wanted.module)
    const value = from === undefined ? undefined : ownValue(from, wanted.name)
    imports[wanted.module] ??= Object.create(null) as Record<string, unknown>
    const target = imports[wanted.module]
    if (target !== undefined) target[wanted.name] = value
    if (value instanceof wasmApi.Memory) memory = value
  }
  return { imports, memory }
}

function importsOf(module: object): ImportDescriptor[] {
  const api = wasmApi.Module as unknown as { imports(module: object): ImportDescriptor[] }
  return api.imports(module)
}
