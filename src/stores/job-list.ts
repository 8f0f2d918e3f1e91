import { matchConstraints } from '../model/index.js'
import type { Job } from '../model/index.js'
import type { JobQuery } from '../ports/index.js'
import { boundedLimit, boundedOffset } from './query-bounds.js'

/** Jobs that are read at a time where each has to be looked at; between two such parts others have their turn. */
const PART = 500

/**
 * One page of jobs while it is put together. Where the columns of the table say it all the database pages. Where each job
 * has to be looked at, it is read in parts, each beginning where the last one ended, so that a long search holds up nobody.
 */
export class JobList {
  readonly query: JobQuery
  readonly page: { jobs: Job[]; more: boolean } = { jobs: [], more: false }
  readonly column: 'created' | 'modified'
  readonly direction: 'ASC' | 'DESC'
  /** True when every row that the database finds is on the list. */
  readonly isPaged: boolean
  readonly #limit: number
  #skip: number
  #last: Job | undefined

  constructor(query: JobQuery) {
    this.query = query
    this.column = query.orderBy === 'created_at' ? 'created' : 'modified'
    this.direction = query.reverse ? 'DESC' : 'ASC'
    this.isPaged = query.accept === undefined && (query.labels ?? []).length === 0
    this.#limit = boundedLimit(query.limit)
    this.#skip = boundedOffset(query.offset)
  }

  /** True until something was taken. */
  get isFresh(): boolean {
    return this.#last === undefined
  }

  /** Rows to read next. */
  get size(): number {
    return this.isPaged ? this.#limit + 1 : PART
  }

  get offset(): number {
    return this.isPaged ? this.#skip : 0
  }

  conditions(): { where: string; values: (string | number)[] } {
    const { namespace, states, after } = this.query
    const conditions: string[] = []
    const values: (string | number)[] = []
    if (namespace !== undefined && namespace !== '*') {
      conditions.push('namespace = ?')
      values.push(namespace)
    }
    if (states !== undefined) {
      conditions.push(`state IN (${states.map(() => '?').join(', ')})`)
      values.push(...states)
    }
    const from = this.#last === undefined ? after : { timeMs: this.#time(this.#last), id: this.#last.id }
    if (from !== undefined) {
      conditions.push(`(${this.column}, id) ${this.query.reverse ? '<' : '>'} (?, ?)`)
      values.push(from.timeMs, from.id)
    }
    return { where: conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`, values }
  }

  /** The next rows in order; `isEnd`: there are no more. True when the page is complete. */
  take(jobs: readonly Job[], isEnd: boolean): boolean {
    for (const job of jobs) {
      if (!this.isPaged && (!this.#matches(job) || this.#skip-- > 0)) continue
      if (this.page.jobs.length === this.#limit) {
        this.page.more = true
        return true
      }
      this.page.jobs.push(job)
    }
    this.#last = jobs.at(-1) ?? this.#last
    return isEnd
  }

  /** All jobs that there are to look at. Always true. */
  takeUnordered(jobs: readonly Job[]): boolean {
    const { namespace, states, after, reverse } = this.query
    const sign = reverse ? -1 : 1
    const order = (a: { timeMs: number; id: string }, b: { timeMs: number; id: string }): number =>
      sign * (a.timeMs - b.timeMs || (a.id < b.id ? -1 : Number(a.id > b.id)))
    const key = (job: Job): { timeMs: number; id: string } => ({ timeMs: this.#time(job), id: job.id })
    const found = jobs
      .filter((job) => namespace === undefined || namespace === '*' || job.spec.Namespace === namespace)
      .filter((job) => states === undefined || states.includes(job.state))
      .filter((job) => after === undefined || order(key(job), after) > 0)
      .toSorted((a, b) => order(key(a), key(b)))
    return this.take(found, true)
  }

  #matches(job: Job): boolean {
    const { labels = [], accept } = this.query
    if (labels.length > 0 && !matchConstraints(labels, job.spec.Labels).matches) return false
    return accept === undefined || accept(job)
  }

  #time(job: Job): number {
    return this.column === 'created' ? job.createTimeMs : job.modifyTimeMs
  }
}
