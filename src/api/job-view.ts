import type { JobView } from '../ports/index.js'

/** The query parameters that say which job a name means and which of its versions is asked for. */
export interface JobViewQuery {
  namespace?: string
  job_version?: number
  all_job_versions?: boolean
}

export function readJobView(query: JobViewQuery): JobView {
  return {
    namespace: query.namespace,
    jobVersion: query.job_version,
    allVersions: query.all_job_versions,
  }
}
