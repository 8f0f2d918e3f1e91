import { WEIR_HTTP_MODULE } from '../../../model/weir-http.js'
import type { HttpClient } from './http/http-client.js'
import { WeirHttp } from './http/weir-http.js'
import type { SandboxJob } from './job.js'
import { GuestMemory, type WasiState, wasiFunctions } from './wasi/index.js'
import { type WasmInstance, type WasmMemory, wasmApi } from './web-assembly.js'

const WASI_NAME = 'wasi_snapshot_preview1'

export interface Program {
  entry: WasmInstance
  /** The entry module's memory, if it has one. */
  memory: WasmMemory | undefined
}

export interface CompiledModules {
  entry: object
  imports: Map<string, object>
}

interface ImportDescriptor {
  module: string
  name: string
}

/**
 * Instantiates the entry module and, before it, the import modules it needs, each once.
 *
 * The names of WASI and of HTTP are taken before any import module is looked at, so these cannot be replaced. Names are plain strings
 * in objects without a prototype: `__proto__` and `constructor` are names like others.
 */
export function link(job: SandboxJob, modules: CompiledModules, state: WasiState, http: HttpClient): Program {
  const host: Host = { state, http: new WeirHttp(http) }
  const instances = new Map<string, WasmInstance>()
  const instanceOf = (name: string): WasmInstance | undefined => {
    const done = instances.get(name)
    if (done !== undefined) return done
    const module = modules.imports.get(name)
    if (module === undefined) return undefined
    const { instance } = instantiate(module, instanceOf, host)
    instances.set(name, instance)
    callInitialize(instance)
    return instance
  }
  const { instance, memory } = instantiate(modules.entry, instanceOf, host)
  if (job.entryPoint !== '_start') callInitialize(instance)
  return { entry: instance, memory }
}

/** What all instances of a program share. */
interface Host {
  state: WasiState
  http: WeirHttp
}

function instantiate(
  module: object,
  instanceOf: (name: string) => WasmInstance | undefined,
  { state, http }: Host,
): { instance: WasmInstance; memory: WasmMemory | undefined } {
  const guestMemory = new GuestMemory()
  const own: Record<string, object> = {
    [WASI_NAME]: wasiFunctions(state, guestMemory),
    [WEIR_HTTP_MODULE]: http.functions(guestMemory),
  }
  const imports = Object.create(null) as Record<string, Record<string, unknown>>
  let memory: WasmMemory | undefined
  for (const wanted of importsOf(module)) {
    const provided =
      (ownValue(own, wanted.module) as object | undefined) ?? instanceOf(wanted.module)?.exports
    const value = provided === undefined ? undefined : ownValue(provided, wanted.name)
    imports[wanted.module] ??= Object.create(null) as Record<string, unknown>
    const target = imports[wanted.module]
    if (target !== undefined) target[wanted.name] = value
    if (value instanceof wasmApi.Memory) memory = value
  }
  if (memory !== undefined) guestMemory.attach(memory)
  const instance = new wasmApi.Instance(module, imports)
  const exported = ownValue(instance.exports, 'memory')
  if (exported instanceof wasmApi.Memory) memory = exported
  if (memory !== undefined) guestMemory.attach(memory)
  return { instance, memory }
}

function importsOf(module: object): ImportDescriptor[] {
  const api = wasmApi.Module as unknown as { imports(module: object): ImportDescriptor[] }
  return api.imports(module)
}

export function ownValue(object: object, name: string): unknown {
  return Object.getOwnPropertyDescriptor(object, name)?.value
}

function callInitialize(instance: WasmInstance): void {
  const initialize = ownValue(instance.exports, '_initialize')
  if (typeof initialize === 'function') (initialize as () => void)()
}
