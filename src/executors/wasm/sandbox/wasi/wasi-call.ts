/** One function of WASI as the program imports it. Nothing returned is success; errors are thrown or returned. */
export type WasiCall = (...args: never[]) => number | void

/** Functions by their names in the specification. */
export type WasiCalls = Record<string, WasiCall>
