import { WeirError } from '../../errors.js'

/** A file or directory of a result, named by a person. */
export interface SelectedPath {
  readonly text: string
  /** True for the path itself, what lies below it, and, so that it can be reached, nothing else. */
  includes(path: string): boolean
}

/** Reads `outputs/model.bin`, `./outputs/` and the like. Throws `cli.usage` for paths that lead out of the result. */
export function readSelectedPath(text: string): SelectedPath | undefined {
  const segments = text.split('/').filter((segment) => segment !== '' && segment !== '.')
  if (segments.includes('..'))
    throw new WeirError('cli.usage', `Cannot get ${JSON.stringify(text)}: the path leads out of the result`, {
      hint: 'Name a file or directory of the result, for example outputs/data.csv',
    })
  if (segments.length === 0) return undefined
  const path = segments.join('/')
  return { text: path, includes: (other) => other === path || other.startsWith(`${path}/`) }
}
