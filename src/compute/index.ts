export { createComputeNode } from './compute-node.js'
export type { ComputeNode } from './compute-node.js'
export { collectOutputs } from './collect-outputs.js'
export { detectMachine } from './detect-machine.js'
export type { Machine } from './detect-machine.js'
export { offeredCapacity } from './offered-capacity.js'
export { DEFAULT_LIMITS } from './options.js'
export type {
  CapacityConfig,
  ComputeLimits,
  ComputeLogger,
  ComputeNodeOptions,
  ComputePolicy,
  NetworkEgressFollower,
} from './options.js'
