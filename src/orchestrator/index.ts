export { createAccessRequests } from './access-requests.js'
export { neededBlobs } from './blob-desk.js'
export { createOrchestrator } from './orchestrator.js'
export type { Orchestrator } from './orchestrator.js'
export { DEFAULT_LIMITS, SILENT_LOGGER } from './options.js'
export type {
  OrchestratorLimits,
  OrchestratorLogger,
  OrchestratorOptions,
  SchedulingLimits,
} from './options.js'
export { reconcile } from './reconcile.js'
export { applyPlan, isEmptyPlan } from './plan.js'
export type { ApplyContext, JobEvent, Placement, Plan, Stop } from './plan.js'
export { place } from './placement.js'
export type { NodePast, PlacementOptions, PlacementResult } from './placement.js'
export { readDemand } from './job-demand.js'
export type { JobDemand } from './job-demand.js'
export { charge, readOffer, viewNode } from './node-view.js'
export type { NodeOffer, NodeView, NodeViews } from './node-view.js'
export { explainShortage, noMatchingNodes, notEnoughNodes, shortageDetails } from './refusals.js'
export type { Reason, Refusal, Shortage } from './refusals.js'
export { checkEgress } from './egress-check.js'
