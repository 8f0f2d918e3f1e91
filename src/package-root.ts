import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The directory of weir's own package.json: the same from `src/` (tests) and from `dist/`. */
export const PACKAGE_ROOT: string = findPackageRoot(dirname(fileURLToPath(import.meta.url)))

/**
 * Path of a program that weir starts as a process of its own: `entryPoint('node/processes/gateway.js')`.
 * Processes always run what was built, also when a test runs the sources.
 */
export function entryPoint(relativeToDist: string): string {
  return join(PACKAGE_ROOT, 'dist', relativeToDist)
}

function findPackageRoot(from: string): string {
  for (let dir = from; ; dir = dirname(dir)) {
    if (existsSync(join(dir, 'package.json'))) return dir
    if (dir === dirname(dir)) throw new Error(`no package.json above ${from}`)
  }
}
