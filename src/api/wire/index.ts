export { BACALHAU_VERSION, buildInfo } from './build-info.js'
export type { BuildInfo, ServerVersion } from './build-info.js'
export { egressVerdictToWire } from './egress-verdict.js'
export { COMPUTE_STATE_NUMBERS, DESIRED_STATE_NUMBERS, executionToWire } from './execution.js'
export { historyToWire } from './history.js'
export { jobToWire } from './job.js'
export type { WireObject } from './job.js'
export { writeJson } from './json.js'
export { nodeInfoToWire, nodeToWire } from './node.js'
export {
  readEgressToken,
  readJobsToken,
  readPageToken,
  writeEgressToken,
  writeJobsToken,
  writePageToken,
} from './page-token.js'
export type { EgressToken, JobsToken, PageToken } from './page-token.js'
export { redactSecrets } from './redact.js'
export { nanoseconds, rfc3339, ZERO_TIME } from './time.js'
