export { formatServerAddress, parseServerAddress } from './address.js'
export type { ServerAddress } from './address.js'
export { WeirClient } from './client.js'
export type {
  CallOptions,
  ClientOptions,
  EgressRequest,
  ExecutionsQuery,
  HistoryRequest,
  JobsQuery,
  JobViewQuery,
  LogsRequest,
  NodesQuery,
} from './client.js'
export type { ConnectionOptions } from './http.js'
export { downloadResults } from './download/download-results.js'
export type { DownloadedResults, DownloadOptions, DownloadProgress } from './download/download-results.js'
export { forgetCredential, readCredential, saveCredential } from './credentials.js'
export type { ServerCredential } from './credentials.js'
export { readFingerprint, seenFingerprint } from './pinned-connection.js'
export { packDirectory } from './upload.js'
export type { PackOptions } from './upload.js'
export { executionStateName } from './wire.js'
export type {
  DescribedJob,
  LogChunk,
  Page,
  SubmittedJob,
  WireAdminLog,
  WireAdminRecord,
  WireBlob,
  WireBuildVersion,
  WireEgressDestination,
  WireEgressLimits,
  WireEgressSummary,
  WireExecution,
  WireHistoryItem,
  WireJob,
  WireEgressCheck,
  WireEgressExplanation,
  WireEgressNodeCheck,
  WireEgressVerdict,
  WireNetworkEgress,
  WireAccessRequest,
  WireApproval,
  WireListChange,
  WireNetworkList,
  WirePreset,
  WireNode,
  WireNodeInfo,
  WireNodeToken,
  WireResources,
  WireRunOutput,
  WireSpecConfig,
  WireState,
  WireTask,
  WireToken,
  WireWhoAmI,
} from './wire.js'
