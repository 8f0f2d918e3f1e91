export { createInProcessTransport } from './in-process.js'
export type { Faults, InProcessTransportOptions } from './in-process.js'
export { MESSAGE_BYTES_MAX } from './message.js'
