export { MESSAGE_BYTES_MAX, createInProcessTransport } from './in-process.js'
export type { Faults, InProcessTransportOptions } from './in-process.js'
