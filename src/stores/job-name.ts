import type { Job } from '../model/index.js'

/** The name by which a job is found; null for one without a name of its own. */
export function nameOf({ id, spec }: Job): string | null {
  return spec.Name === '' || spec.Name === id ? null : spec.Name
}
