import { checkConstraint } from './constraints.js'
import { HostPatternSet } from './host-pattern-set.js'
import { fieldPlace, itemPlace } from './spec-problem.js'
import { runsToEnd } from './task-accessors.js'
import type { Constraint, JobSpec, TaskSpec } from './job-spec.js'
import type { Place, ProblemList } from './spec-problem.js'

/** Rules between the fields of a job, each of which is fine by itself. */
export function checkJob(spec: JobSpec, root: Place, problems: ProblemList): void {
  const [task] = spec.Tasks
  const at = itemPlace(fieldPlace(root, 'Tasks'), 0)
  checkConstraints(spec.Constraints, fieldPlace(root, 'Constraints'), problems)
  checkNetwork(task, fieldPlace(at, 'Network'), problems)
  checkLearning(spec, fieldPlace(fieldPlace(at, 'Network'), 'Learn'), problems)
  checkNetworkLimits(spec, fieldPlace(fieldPlace(at, 'Network'), 'Limits'), problems)
  checkDuplicates(task, at, problems)
  checkProgramSize(task, at, problems)
}

/** Rules that hold once the server has filled in its defaults. */
export function checkCompleteJob(spec: JobSpec, root: Place, problems: ProblemList): void {
  const [task] = spec.Tasks
  const at = itemPlace(fieldPlace(root, 'Tasks'), 0)
  if (task.ResultPaths.length > 0 && task.Publisher.Type === '') {
    problems.add(fieldPlace(at, 'Publisher'), {
      message: 'publisher must be set if result paths are set',
      hint: 'Add a publisher, for example --publisher local',
    })
  }
  const { ExecutionTimeout, QueueTimeout, TotalTimeout } = task.Timeouts
  if (task.Network.Learn === true && ExecutionTimeout === 0 && TotalTimeout === 0) {
    problems.add(fieldPlace(at, 'Timeouts'), {
      message: 'a learning job needs a time limit',
      hint: 'Set one, for example --timeout 600',
    })
  }
  if (TotalTimeout > 0 && ExecutionTimeout + QueueTimeout > TotalTimeout) {
    problems.add(fieldPlace(at, 'Timeouts'), {
      message:
        `execution and queue timeout should be less than total timeout: ` +
        `${ExecutionTimeout} + ${QueueTimeout} > ${TotalTimeout}`,
    })
  }
}

const PROGRAM_BYTES_MAX = 1024 * 1024

function checkConstraints(constraints: readonly Constraint[], at: Place, problems: ProblemList): void {
  constraints.forEach((constraint, index) => {
    // An empty operator was reported by the reader.
    if ((constraint.Operator as string) === '') return
    const complaint = checkConstraint(constraint)
    if (complaint !== undefined) problems.add(itemPlace(at, index), complaint)
  })
}

function checkNetwork({ Network, Engine }: TaskSpec, at: Place, problems: ProblemList): void {
  if (Network.Type === 'Full' && Engine.Type.toLowerCase() === 'wasm') {
    problems.add(fieldPlace(at, 'Type'), {
      message: 'a WebAssembly program cannot have full network access: it has no sockets',
      hint: 'Name the hosts that it asks over HTTP: --network http --domain example.com',
    })
  }
  if (Network.Type === 'HTTP' && Network.Domains.length === 0 && Network.Learn !== true) {
    problems.add(at, {
      message: 'at least one domain is required when HTTP networking is enabled',
      hint: 'Name the hosts, for example --domain example.com',
    })
  }
  if (Network.Type !== 'HTTP' && Network.Domains.length > 0) {
    problems.add(fieldPlace(at, 'Domains'), {
      message: `domains can only be set for HTTP network mode, found ${Network.Type}`,
      hint: 'Use --network http',
    })
  }
  if (Network.Type !== 'HTTP' && Network.Signatures !== undefined) {
    problems.add(fieldPlace(at, 'Signatures'), {
      message: `signatures can only be set for HTTP network mode, found ${Network.Type}`,
      hint: 'Leave them out: a signature is for the hosts of --network http',
    })
  }
}

/** What learns has an end: nobody leaves every host open by mistake. */
function checkLearning({ Type, Tasks: [{ Network }] }: JobSpec, at: Place, problems: ProblemList): void {
  if (Network.Learn !== true) return
  if (Network.Type !== 'HTTP') {
    problems.add(at, {
      message: `learning is for HTTP network mode, found ${Network.Type}`,
      hint: 'Use --network http --learn',
    })
  }
  if (!runsToEnd(Type)) {
    problems.add(at, {
      message: `a ${Type} job runs until it is stopped, so it cannot learn`,
      hint: 'Run the same program as a batch job to learn what it needs',
    })
  }
}

function checkNetworkLimits(
  { Tasks: [{ Network }], Count }: JobSpec,
  at: Place,
  problems: ProblemList,
): void {
  const { Type, Limits, Domains } = Network
  if (Limits === undefined) return
  if (Type !== 'HTTP') {
    problems.add(at, {
      message: `network limits can only be set for HTTP network mode, found ${Type}`,
      hint: 'Use --network http',
    })
    return
  }
  const { HostConnectionsMax = Count, Budgets = [] } = Limits
  if (HostConnectionsMax < Count) {
    problems.add(fieldPlace(at, 'HostConnectionsMax'), {
      message: `${HostConnectionsMax} connections to a host cannot be shared by ${Count} executions`,
      hint: `Use at least ${Count}, or fewer executions`,
    })
  }
  const listed = readPatterns(Domains)
  Budgets.forEach(({ Domain, BytesUpMax, BytesDownMax }, index) => {
    const place = itemPlace(fieldPlace(at, 'Budgets'), index)
    const [asked] = readPatterns([Domain])?.patterns ?? []
    if (asked !== undefined && listed?.covers(asked) === false) {
      problems.add(fieldPlace(place, 'Domain'), {
        message: `budget for ${Domain}, which the job may not reach`,
        hint: `Add --domain ${Domain}, or leave the budget out`,
      })
    }
    if (BytesUpMax === undefined && BytesDownMax === undefined)
      problems.add(place, { message: `budget for ${Domain} without an amount` })
  })
}

/** Undefined when there is one that cannot be read: that was reported. */
function readPatterns(texts: readonly string[]): HostPatternSet | undefined {
  try {
    return HostPatternSet.parse([...texts])
  } catch {
    return undefined
  }
}

function checkDuplicates(task: TaskSpec, at: Place, problems: ProblemList): void {
  const inputs = fieldPlace(at, 'InputSources')
  const results = fieldPlace(at, 'ResultPaths')
  const mounted = new Map<string, string>()
  const unique = (seen: Map<string, string>, value: string, what: string, place: Place): void => {
    if (value === '') return
    if (seen.has(value)) problems.add(place, { message: `${what} ${value} already exists` }, value)
    seen.set(value, place.path)
  }
  const aliases = new Map<string, string>()
  task.InputSources.forEach(({ Alias, Target }, index) => {
    unique(aliases, Alias, 'alias', fieldPlace(itemPlace(inputs, index), 'Alias'))
    unique(mounted, Target, 'target', fieldPlace(itemPlace(inputs, index), 'Target'))
  })
  const names = new Map<string, string>()
  task.ResultPaths.forEach(({ Name, Path }, index) => {
    unique(names, Name, 'result name', fieldPlace(itemPlace(results, index), 'Name'))
    unique(mounted, Path, 'result path', fieldPlace(itemPlace(results, index), 'Path'))
  })
}

/** What the kernel would have to take when the program starts. */
function checkProgramSize(task: TaskSpec, at: Place, problems: ProblemList): void {
  const params = task.Engine.Params ?? {}
  const place = fieldPlace(fieldPlace(at, 'Engine'), 'Params')
  const argumentBytes = textBytes(params.Parameters) + textBytes(params.Entrypoint)
  if (argumentBytes > PROGRAM_BYTES_MAX)
    problems.add(fieldPlace(place, 'Parameters'), tooLarge('arguments', argumentBytes))
  const environmentBytes = textBytes(params.EnvironmentVariables) + textBytes(task.Env)
  if (environmentBytes > PROGRAM_BYTES_MAX) {
    problems.add(fieldPlace(at, 'Env'), tooLarge('environment variables', environmentBytes))
  }
}

function tooLarge(what: string, bytes: number): { message: string; hint: string } {
  return {
    message: `the ${what} are ${bytes} bytes long in all, at most ${PROGRAM_BYTES_MAX} are allowed`,
    hint: 'Pass the data as an input',
  }
}

/** Bytes of the texts in a list or map, with the byte that ends each. */
function textBytes(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const texts = Array.isArray(value)
    ? value
    : Object.entries(value).map(([key, item]) => `${key}=${String(item)}`)
  return texts.reduce((sum: number, item) => sum + Buffer.byteLength(String(item)) + 1, 0)
}
