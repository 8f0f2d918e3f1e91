import { WeirError } from '../errors.js'
import type { SpecProblem } from '../model/spec-problem.js'

/** Which flag fills which field, for jobs that were made from flags. */
const FLAGS: readonly (readonly [path: RegExp, flag: string])[] = [
  [/^Name$/, '--name'],
  [/^Namespace$/, '--namespace'],
  [/^Priority$/, '--priority'],
  [/^Count$/, '--count'],
  [/^Labels\b/, '--labels'],
  [/^Constraints\b/, '--constraints'],
  [/^Tasks\[0\]\.Name$/, '--task-name'],
  [/^Tasks\[0\]\.Resources\.CPU$/, '--cpu'],
  [/^Tasks\[0\]\.Resources\.Memory$/, '--memory'],
  [/^Tasks\[0\]\.Resources\.Disk$/, '--disk'],
  [/^Tasks\[0\]\.Resources\.GPU$/, '--gpu'],
  [/^Tasks\[0\]\.Network\.Domains\b/, '--domain'],
  [/^Tasks\[0\]\.Network\.OutboundURLs\b/, '--outbound-url'],
  [/^Tasks\[0\]\.Network\.Learn$/, '--learn'],
  [/^Tasks\[0\]\.Network\b/, '--network'],
  [/^Tasks\[0\]\.Timeouts\.QueueTimeout$/, '--queue-timeout'],
  [/^Tasks\[0\]\.Timeouts\b/, '--timeout'],
  [/^Tasks\[0\]\.InputSources\b/, '--input'],
  [/^Tasks\[0\]\.ResultPaths\b/, '--output'],
  [/^Tasks\[0\]\.Publisher\b/, '--publisher'],
  [/^Tasks\[0\]\.Engine\.Params\.Image$/, 'IMAGE'],
  [/^Tasks\[0\]\.Engine\.Params\.EntryModule\b/, 'PROGRAM'],
  [/^Tasks\[0\]\.Engine\.Params\.WorkingDirectory$/, '--workdir'],
  [/^Tasks\[0\]\.Engine\.Params\.Entrypoint\b/, '--entrypoint'],
  [/^Tasks\[0\]\.Engine\.Params\.EntryPoint$/, '--entry-point'],
  [/^Tasks\[0\]\.Engine\.Params\.EnvironmentVariables\b/, '--env'],
  [/^Tasks\[0\]\.Engine\.Params\.Parameters\b/, 'arguments'],
]

/** Does something with a job made from flags; mistakes that the server finds are named by the flags they came from. */
export async function withFlagPlaces<Result>(submit: () => Promise<Result>): Promise<Result> {
  try {
    return await submit()
  } catch (error) {
    if (!(error instanceof WeirError) || !Array.isArray(error.details.problems)) throw error
    const problems = (error.details.problems as SpecProblem[]).map((problem) => ({
      ...problem,
      path: flagOf(problem.path),
    }))
    throw new WeirError(error.code, error.message, {
      hint: error.hint,
      details: { ...error.details, problems },
      cause: error,
    })
  }
}

/** The flag for a path, or the path itself. */
export function flagOf(path: string): string {
  return FLAGS.find(([pattern]) => pattern.test(path))?.[1] ?? path
}
