import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError } from '../errors.js'
import { checkNodeId } from '../model/index.js'
import type { Chance } from '../ports/index.js'
import { writeWhole } from '../write-whole.js'

/** What a node keeps for its whole life, in `node.json` of its data directory (mode 0600). */
export interface NodeIdentity {
  nodeId: string
  /** Seed of the Ed25519 key by which the network knows the node: 32 bytes, a secret that never leaves the machine. */
  keySeed: Uint8Array
}

/**
 * Reads the identity, making it at the first start; the directory must exist. `name` becomes the id at the first start
 * and must be the same later. Rejects with `config.invalid` when the file is damaged or the node has another name.
 */
export async function loadIdentity(dataDir: string, chance: Chance, name?: string): Promise<NodeIdentity> {
  const file = join(dataDir, 'node.json')
  const known = await read(file)
  if (known?.keySeed !== undefined && (name === undefined || name === known.nodeId)) return withKey(known)
  if (name !== undefined && known !== undefined && name !== known.nodeId) {
    throw new WeirError(
      'config.invalid',
      `Cannot call the node "${name}": the data directory belongs to node "${known.nodeId}"`,
      { hint: 'Leave the name out, or give the new node a data directory of its own: --data-dir' },
    )
  }
  // A data directory from before nodes had keys gets one.
  const nodeId = known?.nodeId ?? (name === undefined ? `n-${chance.uuid()}` : checkNodeId(name))
  const made = { nodeId, keySeed: randomBytes(SEED_BYTES).toString('base64url') }
  await writeWhole(file, `${JSON.stringify(made, null, 2)}\n`)
  return withKey(made)
}

const SEED_BYTES = 32

interface StoredIdentity {
  nodeId: string
  /** Base64url. */
  keySeed?: string
}

async function read(file: string): Promise<StoredIdentity | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
  return parse(file, text)
}

function parse(file: string, text: string): StoredIdentity {
  try {
    const { nodeId, keySeed } = JSON.parse(text) as Record<string, unknown>
    if (typeof nodeId === 'string' && isSeed(keySeed)) {
      return { nodeId: checkNodeId(nodeId), ...(keySeed === undefined ? {} : { keySeed }) }
    }
  } catch {
    // Not JSON: the same answer as for a missing field, below.
  }
  throw new WeirError('config.invalid', `Cannot read the node's identity from ${file}`, {
    hint: 'restore the file from a backup, or remove it to make the node start as a new one',
  })
}

function isSeed(seed: unknown): seed is string | undefined {
  return (
    seed === undefined || (typeof seed === 'string' && Buffer.from(seed, 'base64url').length === SEED_BYTES)
  )
}

function withKey({ nodeId, keySeed = '' }: StoredIdentity): NodeIdentity {
  return { nodeId, keySeed: Buffer.from(keySeed, 'base64url') }
}
