import { createRequire } from 'node:module'

/** The YAML library, loaded when there is something to read: most commands run without a file, and loading costs 40 ms. */
export function yamlLibrary(): typeof import('yaml') {
  return createRequire(import.meta.url)('yaml') as typeof import('yaml')
}
