import { chmod, open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError } from '../errors.js'
import type { Chance } from '../ports/index.js'

/** What a node keeps for its whole life, in `node.json` of its data directory (mode 0600). */
export interface NodeIdentity {
  nodeId: string
}

/** Reads the identity, making it at the first start; the directory must exist. Rejects with `config.invalid` when the file is damaged. */
export async function loadIdentity(dataDir: string, chance: Chance): Promise<NodeIdentity> {
  const file = join(dataDir, 'node.json')
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return create(file, chance)
  }
  return parse(file, text)
}

async function create(file: string, chance: Chance): Promise<NodeIdentity> {
  const identity = { nodeId: `n-${chance.uuid()}` }
  const partial = `${file}.${process.pid}.part`
  const handle = await open(partial, 'w', 0o600)
  try {
    await handle.writeFile(`${JSON.stringify(identity, null, 2)}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await chmod(partial, 0o600)
  await rename(partial, file)
  return identity
}

function parse(file: string, text: string): NodeIdentity {
  try {
    const { nodeId } = JSON.parse(text) as Record<string, unknown>
    if (typeof nodeId === 'string' && /^[\w-]{1,128}$/.test(nodeId)) return { nodeId }
  } catch {
    // Not JSON: the same answer as for a missing field, below.
  }
  throw new WeirError('config.invalid', `Cannot read the node's identity from ${file}`, {
    hint: 'restore the file from a backup, or remove it to make the node start as a new one',
  })
}
