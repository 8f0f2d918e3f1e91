import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PACKAGE_ROOT } from './package-root.js'

/** weir's version, from package.json. */
export const VERSION: string = (
  JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as { version: string }
).version

/** When and from what this copy was built; both empty when nobody built it here. */
export const BUILD: { readonly commit: string; readonly date: string } = readBuild(
  join(PACKAGE_ROOT, 'dist/build-info.json'),
)

function readBuild(file: string): { commit: string; date: string } {
  if (!existsSync(file)) return { commit: '', date: '' }
  const { commit, date } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>
  return { commit: typeof commit === 'string' ? commit : '', date: typeof date === 'string' ? date : '' }
}
