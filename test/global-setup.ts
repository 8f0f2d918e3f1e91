import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

/** Tests that start processes start what was built; build once if nobody did. */
export default function setup(): void {
  const root = join(import.meta.dirname, '..')
  if (process.env.WEIR_TEST_BUILT === '1' && existsSync(join(root, 'dist'))) return
  const built = spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' })
  if (built.status !== 0) throw new Error('the build failed')
  process.env.WEIR_TEST_BUILT = '1' // Asked once for each project.
}
