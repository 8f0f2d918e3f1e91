export { detectMachine, type Machine } from '../compute/index.js'
export { startEmbedded } from './embedded.js'
export { type RunningNode, startNode, type StartNodeOptions } from './start-node.js'
