export type {
  AuditEntry,
  AuditRecord,
  EgressDecisionWord,
  EgressEnd,
  EgressKind,
  RuleOwner,
} from './audit.js'
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
  checkNodeId,
  isFullId,
  newEvaluationId,
  newExecutionId,
  newJobId,
  newNodeId,
  shortId,
} from './ids.js'
export type { IdSource } from './ids.js'
export { CONSTRAINT_OPERATORS, JOB_TYPES, NETWORK_TYPES } from './job-spec.js'
export type {
  Constraint,
  ConstraintOperator,
  DockerEngineParams,
  InputSourceSpec,
  JobSpec,
  JobType,
  NetworkSpec,
  NetworkType,
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
export type { OutputChunk, OutputStream } from './log.js'
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
export { JOB_STATES, OBSERVED_STATES, isTerminalJobState, isTerminalObservedState } from './state.js'
export type {
  DesiredState,
  EgressDestination,
  EgressSummary,
  Evaluation,
  EvaluationId,
  EvaluationTrigger,
  Execution,
  ExecutionId,
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
  queueTimeoutMs,
  runsToEnd,
  task,
  taskResources,
  totalTimeoutMs,
  wasmEngine,
} from './task-accessors.js'
