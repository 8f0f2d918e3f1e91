import { execFile } from 'node:child_process'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { NODE_FLAGS, RUNNER } from './sandbox-command.js'

const BUILD_TIMEOUT_MS = 30_000

/**
 * Starts Node once with the runner loaded and keeps that state in a file, so that each sandbox begins where this one
 * stopped: about half the processor time of a start. Made anew by every node process, because it fits only one binary.
 *
 * @returns the file, in `dir`. Rejects when this Node cannot do it; sandboxes then start without.
 */
export async function buildRunnerSnapshot(node: string, dir: string): Promise<string> {
  const file = join(dir, 'runner.blob')
  const partial = `${file}.${process.pid}.part`
  const config = `${partial}.json`
  try {
    // Functions that ran are in the snapshot; a cache of Node's other functions would only have to be read each time.
    await writeFile(config, JSON.stringify({ builder: RUNNER, withoutCodeCache: true }), { mode: 0o600 })
    const args = [...NODE_FLAGS, '--snapshot-blob', partial, '--build-snapshot-config', config]
    await promisify(execFile)(node, args, { env: {}, cwd: dir, timeout: BUILD_TIMEOUT_MS })
    await rename(partial, file)
    return file
  } finally {
    await Promise.all([rm(config, { force: true }), rm(partial, { force: true })])
  }
}
