import { WASI_MODULE, WASI_SIGNATURES } from './wasi-preview1.js'
import { WEIR_HTTP_MODULE, WEIR_HTTP_SIGNATURES } from './weir-http.js'

/** What a node provides to every program, and no import module can replace. */
export interface HostModule {
  /** For people. */
  title: string
  /** Name of each function → its type. */
  functions: ReadonlyMap<string, string>
}

/** By the module name that imports ask for. */
export const HOST_MODULES: ReadonlyMap<string, HostModule> = new Map([
  [WASI_MODULE, { title: 'WASI preview 1', functions: WASI_SIGNATURES }],
  [
    WEIR_HTTP_MODULE,
    {
      title: 'HTTP of weir, in a job with --network http',
      functions: new Map(Object.entries(WEIR_HTTP_SIGNATURES)),
    },
  ],
])
