import { countDuration, isTerminalJobState, type Job, noDurations } from '../../model/index.js'
import type { JobStore } from '../../ports/index.js'

/** What passes through the job store, counted since the start. */
export interface StoreCounters {
  commits: ReturnType<typeof noDurations>
  /** Jobs that came into a state: `Completed batch`. */
  jobs: Map<string, number>
  placements: number
}

/** The same store; every commit is timed and counted. */
export async function measuredStore(store: JobStore): Promise<{ store: JobStore; counters: StoreCounters }> {
  const counters: StoreCounters = { commits: noDurations(), jobs: new Map(), placements: 0 }
  const snapshot = await store.snapshot()
  /** Of jobs that have not ended. */
  const states = new Map([...snapshot.activeJobs()].map(({ id, state }) => [id, state]))
  const count = ({ id, state, spec }: Job): void => {
    if (states.get(id) === state) return
    if (isTerminalJobState(state)) states.delete(id)
    else states.set(id, state)
    const key = `${state} ${spec.Type}`
    counters.jobs.set(key, (counters.jobs.get(key) ?? 0) + 1)
  }
  const commit: JobStore['commit'] = async (change, ifRevision) => {
    const startedAt = performance.now()
    const revision = await store.commit(change, ifRevision)
    countDuration(counters.commits, performance.now() - startedAt)
    for (const job of change.jobs ?? []) count(job)
    counters.placements += change.executions?.filter((execution) => execution.revision === 1).length ?? 0
    return revision
  }
  return {
    store: new Proxy(store, { get: (of, key) => (key === 'commit' ? commit : bound(of, key)) }),
    counters,
  }
}

function bound(store: JobStore, key: string | symbol): unknown {
  const value: unknown = Reflect.get(store, key)
  return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(store) : value
}
