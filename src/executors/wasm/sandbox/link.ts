import { WEIR_HTTP_MODULE } from '../../../model/weir-http.js'
import type { HttpClient } from './http/http-client.js'
import { WeirHttp } from './http/weir-http.js'
import type { SandboxJob } from './job.js'
import { importObject } from './import-object.js'
import { ownValue } from './own-value.js'
import { GuestMemory, type WasiState, wasiFunctions } from './wasi/index.js'
import { type WasmInstance, type WasmMemory, wasmApi } from './web-assembly.js'

const WASI_NAME = 'wasi_snapshot_preview1'

export interface Program {
  /** The entry module's memory, if it has one; of a component the largest. */
  readonly memory: WasmMemory | undefined
  /** Runs it, and returns its exit code. Undefined: there is nothing to start. */
  start: (() => number) | undefined
}

export interface CompiledModules {
  entry: object
  imports: Map<string, object>
  /** Of a component, which has nothing else. */
  parts: object[]
}

/**
 * Instantiates the entry module and, before it, the import modules it needs, each once.
 *
 * The names of WASI and of HTTP are taken before any import module is looked at, so these cannot be replaced.
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
  const start = ownValue(instance.exports, job.entryPoint)
  return { memory, start: typeof start === 'function' ? () => returned(start as () => void) : undefined }
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
  const found = importObject(
    module,
    (name) => (ownValue(own, name) as object | undefined) ?? instanceOf(name)?.exports,
  )
  let { memory } = found
  if (memory !== undefined) guestMemory.attach(memory)
  const instance = new wasmApi.Instance(module, found.imports)
  const exported = ownValue(instance.exports, 'memory')
  if (exported instanceof wasmApi.Memory) memory = exported
  if (memory !== undefined) guestMemory.attach(memory)
  return { instance, memory }
}

/** A core program that comes to its end has done well; others leave by `proc_exit`. */
function returned(start: () => void): number {
  start()
  return 0
}

function callInitialize(instance: WasmInstance): void {
  const initialize = ownValue(instance.exports, '_initialize')
  if (typeof initialize === 'function') (initialize as () => void)()
}
