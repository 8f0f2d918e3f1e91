import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConfigSources, loadConfig } from '../config/index.js'
import { NODE_ALLOW_FILE } from './egress-policy.js'
import { type RunningNode, startNode } from './start-node.js'
import { trustedKeysFile } from './trusted-keys.js'

/**
 * Starts orchestrator and compute node in this process for one job: memory and a temporary directory, reachable only
 * through a Unix socket that only this user may open. `close` leaves nothing behind. The user's configuration applies,
 * except for the data directory and ports. Only `engine` is started, because nobody else will use the node.
 */
export async function startEmbedded(
  sources: ConfigSources,
  { engine }: { engine?: string } = {},
): Promise<RunningNode> {
  const directory = await mkdtemp(join(tmpdir(), 'weir-'))
  try {
    const own = loadConfig(sources)
    // The user's own files were read; their effect is kept, only where things are written changes.
    const config = Object.freeze({
      ...own,
      dataDir: join(directory, 'data'),
      values: Object.freeze({
        ...own.values,
        'Egress.TrustedKeysFile': trustedKeysFile(own),
        'Publishers.Types.Local.Port': 0,
        // What `weir node allowlist` wrote for the data directory of the user.
        'Egress.AllowFile': own.values['Egress.AllowFile'] || standardList(own.dataDir),
        // Its socket is this user's own.
        'API.Auth.Mode': 'off',
        // So whoever submits is the operator.
        'Egress.Learning.Users': ['everyone'],
        'Engines.Disabled': [...own.values['Engines.Disabled'], ...otherEngines(engine)],
        // One job: a pool would make sandboxes and namespaces that nobody uses, and nobody would use its code again.
        'Engines.Types.Docker.HolderPoolSize': 0,
        'Engines.Types.Wasm.PoolSize': 0,
        'Engines.Types.Wasm.CodeCacheSize': 0,
      }),
    })
    const node = await startNode({
      config,
      listen: { socketPath: join(directory, 'api.sock') },
      store: 'memory',
      logLevel: process.env.WEIR_DEBUG === undefined ? 'silent' : 'debug',
    })
    return {
      ...node,
      close: async () => {
        await node.close()
        await rm(directory, { recursive: true, force: true })
      },
    }
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

function standardList(dataDir: string): string {
  const file = join(dataDir, NODE_ALLOW_FILE)
  return existsSync(file) ? file : ''
}

function otherEngines(engine: string | undefined): string[] {
  return engine === undefined ? [] : ['docker', 'wasm'].filter((name) => name !== engine.toLowerCase())
}
