import type { SpecConfig } from '../model/job-spec.js'

/** The parameter of a source, whatever the case of its key; undefined when absent. */
export function parameter(source: SpecConfig, ...names: string[]): unknown {
  const wanted = names.map((name) => name.toLowerCase())
  for (const [key, value] of Object.entries(source.Params ?? {}))
    if (wanted.includes(key.toLowerCase())) return value
  return undefined
}
