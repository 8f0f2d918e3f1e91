export { blobCid, isBlobCid } from './content-id.js'
export type {
  AuditEntry,
  AuditRecord,
  EgressDecisionWord,
  EgressEnd,
  EgressKind,
  KeyOwner,
  RuleOwner,
} from './audit.js'
export { isAttempt } from './audit.js'
export {
  FAVOUR_PREFIX,
  checkConstraint,
  formatConstraint,
  formatConstraints,
  matchConstraints,
  parseConstraints,
} from './constraints.js'
export type { ConstraintMatch } from './constraints.js'
export {
  digestEgressLists,
  isKeyGrants,
  digestNetworkPolicy,
  EGRESS_MODES,
  NO_NETWORK_POLICY,
  packEgressLists,
  readNetworkPolicy,
  unpackEgressLists,
} from './egress-lists.js'
export type { EgressLists, EgressMode, NetworkEgressPolicy, PackedEgressLists } from './egress-lists.js'
export { offeredKeys, trustedAmong, uncoveredPatterns } from './egress-coverage.js'
export type { EgressOffering, OfferedKey, UncoveredPattern } from './egress-coverage.js'
export { readDestination, SERVICES_MAX } from './destination.js'
export type { Destination, DestinationService } from './destination.js'
export {
  PATTERNS_MAX,
  SCHEME_PORTS,
  makeHostPattern,
  parseHostPattern,
  parseHostPatterns,
} from './host-pattern.js'
export type { HostPattern, HostPatternOptions, WebScheme } from './host-pattern.js'
export {
  CHANNEL_STREAMS_MAX,
  CHANNEL_WINDOW_BYTES,
  FRAME,
  FRAME_BYTES_MAX,
  FRAME_HEAD_BYTES,
  FRAME_NUMBER_MAX,
  readFrameHead,
  writeFrameHead,
} from './guest-channel.js'
export type { FrameHead, FrameKind } from './guest-channel.js'
export { HostPatternSet } from './host-pattern-set.js'
export { PatternMemo } from './pattern-memo.js'
export { readForeignAllowlist } from './import-allowlist.js'
export type { ImportedEntry, ImportedList, RefusedEntry } from './import-allowlist.js'
export { NOTHING, editPatternFile, listedPatterns, patternLines } from './pattern-file.js'
export type { ListChange, ListedPattern, ListEdit, ListRules, PatternLine } from './pattern-file.js'
export { NO_PRESETS, expandPresets, presetReader, readPresets, requirePreset } from './presets.js'
export type { Preset, Presets } from './presets.js'
export type { PatternExplanation } from './host-pattern-set.js'
export { canonicalName, escapeForRecord, hostInUrl, isSpecialUseName, nameProblem, readHost } from './host.js'
export type { Host, HostReading } from './host.js'
export {
  checkNodeId,
  isFullId,
  newAccessRequestId,
  newEvaluationId,
  newExecutionId,
  newJobId,
  newNodeId,
  shortId,
} from './ids.js'
export type { IdSource } from './ids.js'
export {
  SPECIAL_ADDRESS_BLOCKS,
  blockEnds,
  classifyIpAddress,
  embeddedIpv4,
  ipAddressFromBytes,
  isPublicAddress,
  parseIpAddress,
} from './ip-address.js'
export type { AddressBlock, AddressKind, IpAddress } from './ip-address.js'
export { CONSTRAINT_OPERATORS, JOB_TYPES, NETWORK_TYPES } from './job-spec.js'
export type {
  Constraint,
  ConstraintOperator,
  DockerEngineParams,
  InputSourceSpec,
  JobSignatureSpec,
  JobSpec,
  JobType,
  NetworkSpec,
  NetworkType,
  NetworkLimitsSpec,
  ResourcesSpec,
  ResultPathSpec,
  SpecConfig,
  TaskSpec,
  TimeoutsSpec,
  WasmEngineParams,
} from './job-spec.js'
export { parseLabelSelector } from './label-selector.js'
export type { LabelSelector } from './label-selector.js'
export { checkLabelKey, checkLabelValue } from './labels.js'
export type { Complaint } from './labels.js'
export { isLoopback } from './listen-address.js'
export type { ListenOptions } from './listen-address.js'
export type { OutputChunk, OutputStream } from './log.js'
export { DURATION_BOUNDS_MS, countDuration, noDurations } from './gateway-counters.js'
export type { DurationCounts, GatewayCounters } from './gateway-counters.js'
export { AuditChain, CHAIN_START, auditHash, sealAuditRecord } from './audit-chain.js'
export { egressSummaryFields } from './egress-summary-fields.js'
export { RECEIPT_FILE, RECEIPT_TYPE, isReceipt, isReceiptOf, signReceipt } from './egress-receipt.js'
export type { EgressReceipt, ReceiptDestination, ReceiptSigner } from './egress-receipt.js'
export {
  SIGNATURE_LIFE_MAX_MS,
  SIGNATURE_TYPE,
  judgeSignatures,
  readTime,
  signJob,
  signatureError,
  withSignature,
  writeTime,
} from './job-signature.js'
export type { SignatureFault, SignatureTerms, SignatureVerdict } from './job-signature.js'
export { grantsInForce, keyNameProblem, parseTrustedKeys, TRUSTED_KEYS_MAX } from './trusted-key.js'
export type { KeyGrant, TrustedKey } from './trusted-key.js'
export { isPublicKey, isSignedBy, keyPairOf, keyPairOfSecret } from './key-pair.js'
export type { KeyPair } from './key-pair.js'
export {
  askedEgressLimits,
  formatBitRate,
  narrowedEgressLimits,
  parseBitRate,
  parseBudgetBytes,
} from './network-limits.js'
export type { DomainBudget, EgressLimits } from './network-limits.js'
export {
  NO_RESOURCES,
  addResources,
  compactQuantity,
  fitsResources,
  formatBytes,
  formatBytesExact,
  formatCpu,
  formatResources,
  parseBytes,
  parseCpu,
  parseGpu,
  resourceShortfalls,
  subtractResources,
} from './resources.js'
export type { Resources } from './resources.js'
export { isSameJson } from './same-json.js'
export {
  JOB_STATES,
  OBSERVED_STATES,
  completionMessage,
  isTerminalJobState,
  jobVersionOf,
  versionTimeMs,
  isTerminalObservedState,
} from './state.js'
export type {
  DesiredState,
  EgressDestination,
  EgressSummary,
  Evaluation,
  EvaluationId,
  EvaluationTrigger,
  Execution,
  ExecutionId,
  GatewayStanding,
  HistoryEvent,
  Job,
  JobId,
  JobState,
  NewHistoryEvent,
  NodeConnection,
  NodeEgressInfo,
  NodeId,
  NodeInfo,
  NodeMembership,
  NodeRecord,
  ObservedExecution,
  ObservedState,
  RunOutput,
  TimeMs,
} from './state.js'
export type {
  DesiredExecution,
  ExecutionEvent,
  ObservedReport,
  SyncRequest,
  SyncResponse,
} from './sync.js'
export {
  DEFAULT_ENTRY_POINT,
  dockerEngine,
  executionTimeoutMs,
  fetchedInputs,
  isBlobType,
  namedBlobs,
  queueTimeoutMs,
  runsToEnd,
  task,
  taskResources,
  totalTimeoutMs,
  wasmEngine,
} from './task-accessors.js'
export { WASI_MODULE, WASI_SIGNATURES } from './wasi-preview1.js'
export { ownPages } from './wasm-component-validation.js'
export { readWasmModule } from './wasm-module.js'
export type { WasmExport, WasmExternKind, WasmImport, WasmLimits, WasmModule } from './wasm-module.js'
export { validateWasm } from './wasm-validation.js'
export type { ImportModule, ValidationOptions, ValidationReport, WasmProblem } from './wasm-validation.js'
export { fillTemplate } from './job-template.js'
export { STOCK_JOB_DEFAULTS, applyJobDefaults } from './job-defaults.js'
export type { JobDefaults, JobTypeDefaults } from './job-defaults.js'
export { RESERVED_META_PREFIX, jobJsonSchema } from './job-shape.js'
export { parseImageReference } from './image-reference.js'
export type { ImageReference } from './image-reference.js'
export {
  DEFAULT_INPUT_TARGET,
  formatInputArgument,
  parseInputArgument,
  parseOutputArgument,
  parsePublisherArgument,
} from './input-argument.js'
export {
  LEARNING_HINT,
  SUBMITTER_META,
  isLearning,
  learningObjection,
  learningWish,
  principalIdProblem,
  submitterOf,
} from './learning.js'
export type { LearningOffer, LearningWish } from './learning.js'
export { nearestName } from './nearest-name.js'
export { parseJobSpec } from './parse-job.js'
export type { ParseJobOptions, ParsedJob } from './parse-job.js'
export { JOB_TEXT_BYTES_MAX, parseJobText, readDocument } from './parse-job-text.js'
export type { ParseJobTextOptions } from './parse-job-text.js'
export { hasUnprintable, printable, quoted } from './printable.js'
export type { JsonSchema } from './shape-json-schema.js'
export type { SpecProblem } from './spec-problem.js'
export {
  EVERYONE,
  PERMISSIONS,
  ROLES,
  coversNamespace,
  namespaceProblem,
  permissionsOf,
  tokenNameProblem,
} from './access.js'
export type { NamespaceScope, Permission, Principal, Role } from './access.js'
export { narrowestDomain } from './suggest-domains.js'
