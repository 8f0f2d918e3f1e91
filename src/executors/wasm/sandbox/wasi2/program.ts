import type { WasmComponent } from '../../../../model/wasm-component.js'
import { InvalidComponent } from '../component/faults.js'
import { type CoreModule, Instantiation, withoutVersion } from '../component/instantiate.js'
import type { ComponentFunction } from '../component/canonical-functions.js'
import type { InstanceExports } from '../component/scope.js'
import type { Variant } from '../component/value-types.js'
import type { HttpClient } from '../http/http-client.js'
import type { WasiState } from '../wasi/index.js'
import type { WasmMemory } from '../web-assembly.js'
import { createHost } from './host.js'

/** A component that is ready to be started. */
export interface ComponentProgram {
  /** The largest of its memories. */
  readonly memory: WasmMemory | undefined
  /** Runs it; returns its exit code. */
  start(): number
}

const RUN = 'wasi:cli/run'

/**
 * Instantiates a command component.
 *
 * @throws InvalidComponent, MissingImport; what its code throws while it is instantiated.
 */
export function linkComponent(
  component: WasmComponent,
  modules: readonly CoreModule[],
  state: WasiState,
  http: HttpClient,
): ComponentProgram {
  const instantiation = new Instantiation(modules, createHost(state, http))
  const run = runFunction(instantiation.root(component))
  return {
    get memory() {
      return [...instantiation.memories].toSorted((a, b) => b.buffer.byteLength - a.buffer.byteLength)[0]
    },
    start: () => ((run.call([]) as Variant | undefined)?.tag === 'err' ? 1 : 0),
  }
}

function runFunction(exports: InstanceExports): ComponentFunction {
  for (const [name, { sort, value }] of exports) {
    if (sort !== 'instance' || withoutVersion(name) !== RUN) continue
    const run = (value as InstanceExports).get('run')
    if (run?.sort === 'func') return run.value as ComponentFunction
  }
  throw new InvalidComponent(`it exports no ${RUN}`)
}
