import { EVERYONE } from './access.js'
import { executionTimeoutMs, task } from './task-accessors.js'
import type { JobSpec } from './job-spec.js'

/** Whose job it is: id of a principal. Only the server sets it; absent where nobody has to authenticate. */
export const SUBMITTER_META = 'bacalhau.org/client.id'

/** What a node says of learning. Absent, and without users: it takes no learning jobs. */
export interface LearningOffer {
  /** Ids of principals whose jobs may learn. */
  users: string[]
  /** No learning execution may take longer. */
  timeoutMaxMs: number
}

/** What a learning job asks for. */
export interface LearningWish {
  /** Id of the principal that submitted it. */
  user: string
  /** Undefined: no limit of time. */
  timeoutMs: number | undefined
}

/** Who submitted the job, by what the server wrote into it. */
export function submitterOf({ Meta }: Pick<JobSpec, 'Meta'>): string {
  return Meta[SUBMITTER_META] ?? EVERYONE.id
}

/** True when everything public is to be open to the job, to find out what it needs. */
export function isLearning(spec: JobSpec): boolean {
  const { Type, Learn } = task(spec).Network
  return Type === 'HTTP' && Learn === true
}

/** Undefined for a job that does not learn. */
export function learningWish(spec: JobSpec): LearningWish | undefined {
  return isLearning(spec) ? { user: submitterOf(spec), timeoutMs: executionTimeoutMs(spec) } : undefined
}

/** What a node does not do, for "does not …"; undefined when it takes the job. */
export function learningObjection(
  { user, timeoutMs }: LearningWish,
  offer: LearningOffer | undefined,
): string | undefined {
  if (offer === undefined || offer.users.length === 0) return 'accept learning jobs'
  if (!offer.users.includes(user)) return `accept learning jobs of ${user}`
  if (timeoutMs === undefined) return 'accept learning jobs without a time limit'
  if (timeoutMs <= offer.timeoutMaxMs) return undefined
  return `let jobs learn for ${timeoutMs / 1000} s, only for ${offer.timeoutMaxMs / 1000} s`
}

/** What to do about each objection. */
export const LEARNING_HINT =
  'The operator of a node can name users in Egress.Learning.Users; weir auth whoami says who you are. A learning job needs --timeout, at most Egress.Learning.TimeoutMax'

/** Why a text cannot be the id of a principal; undefined when it can. */
export function principalIdProblem(id: string): string | undefined {
  if (id === EVERYONE.id || /^t-[a-z0-9]{1,32}$/i.test(id) || /^user:[^\s,]{1,256}$/.test(id))
    return undefined
  return `${JSON.stringify(id)} is no user: write t-… for a token, user:NAME, or ${EVERYONE.id} where nobody has to log in`
}
