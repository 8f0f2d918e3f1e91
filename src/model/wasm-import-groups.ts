import { HOST_MODULES } from './wasm-host-modules.js'
import { recogniseHost } from './wasm-hosts.js'
import type { WasmImport, WasmModule } from './wasm-module.js'

/** What a module imports from one other module. */
export interface ImportGroup {
  module: string
  imports: readonly WasmImport[]
  /** Who gives all of it: `WASI preview 1`, another module of the node, or `the import module`. Undefined: nobody gives all of it. */
  providedBy: string | undefined
  /** When nobody does: what it belongs to, where that can be told. */
  belongsTo: string | undefined
}

/** The imports of a module by where they come from, in the order of their first appearance. */
export function groupImports(
  { imports }: WasmModule,
  libraries: ReadonlyMap<string, WasmModule>,
): ImportGroup[] {
  const byModule = new Map<string, WasmImport[]>()
  for (const one of imports) {
    const others = byModule.get(one.module)
    if (others === undefined) byModule.set(one.module, [one])
    else others.push(one)
  }
  return [...byModule].map(([module, ofModule]) => {
    const missing = ofModule.filter((one) => !isProvided(one, libraries))
    const provider = HOST_MODULES.get(module)?.title ?? 'the import module'
    return {
      module,
      imports: ofModule,
      providedBy: missing.length === 0 ? provider : undefined,
      belongsTo: missing.length === 0 ? undefined : recogniseHost(module, missing)?.host,
    }
  })
}

function isProvided(one: WasmImport, libraries: ReadonlyMap<string, WasmModule>): boolean {
  const host = HOST_MODULES.get(one.module)
  if (host !== undefined) return host.functions.has(one.name)
  return libraries.get(one.module)?.exports.some(({ name }) => name === one.name) === true
}
