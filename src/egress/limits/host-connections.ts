import type { JobId } from '../../model/index.js'

/**
 * Connections that the executions of one job have open on this node, by host and port. Each execution brings its share of
 * what the job may have: the job's own wish divided by its executions, so that the sum holds over all nodes; the operator's
 * maximum holds for the job on this node.
 */
export class HostConnections {
  readonly #max: number
  readonly #jobs = new Map<JobId, { shares: number[]; open: Map<string, number> }>()

  /** The operator's maximum; 0 = none. */
  constructor(max: number) {
    this.#max = max
  }

  /** One more execution of the job, with its share (0 = it asks for no bound); call the result when it ends. */
  join(jobId: JobId, share: number): () => void {
    const job = this.#jobs.get(jobId) ?? { shares: [], open: new Map<string, number>() }
    this.#jobs.set(jobId, job)
    job.shares.push(share)
    let joined = true
    return () => {
      if (!joined) return
      joined = false
      job.shares.splice(job.shares.indexOf(share), 1)
      if (job.shares.length === 0) this.#jobs.delete(jobId)
    }
  }

  /** Undefined when the job has as many as it may; otherwise call the result when the connection is closed. */
  open(jobId: JobId, host: string, port: number): (() => void) | undefined {
    const job = this.#jobs.get(jobId)
    if (job === undefined) return undefined
    const key = `${host} ${port}`
    const count = job.open.get(key) ?? 0
    if (count >= this.#maxOf(job.shares)) return undefined
    job.open.set(key, count + 1)
    let isOpen = true
    return () => {
      if (!isOpen) return
      isOpen = false
      const left = (job.open.get(key) ?? 1) - 1
      if (left === 0) job.open.delete(key)
      else job.open.set(key, left)
    }
  }

  #maxOf(shares: readonly number[]): number {
    const asked = shares.includes(0) ? Infinity : shares.reduce((sum, share) => sum + share, 0)
    return Math.min(asked, this.#max || Infinity)
  }
}
