import { join } from 'node:path'
import type { Config } from '../config/index.js'
import { makeDirectory } from '../make-directory.js'
import type { ListChange, ListEdit } from '../model/index.js'
import { type AllowList, type AllowListPlace, editAllowList, readAllowList } from './allow-list-file.js'
import { NODE_ALLOW_FILE } from './egress-policy.js'

/** What jobs may reach on the node of this configuration, with where each pattern stands. Rejects with `config.invalid`. */
export function readNodeAllowlist(config: Config): Promise<AllowList> {
  return readAllowList(placeOf(config))
}

/**
 * Edits the list file of the node of this configuration: `Egress.AllowFile`, or `allowed-hosts` in its data directory. A node
 * that runs follows it. Rejects as `editAllowList` does.
 */
export async function editNodeAllowlist(
  config: Config,
  edit: ListEdit,
  options: { dryRun: boolean },
): Promise<ListChange & { file: string }> {
  const isOwn = config.values['Egress.AllowFile'] === ''
  if (isOwn && !options.dryRun) await makeDirectory(config.dataDir, 0o700)
  return editAllowList(placeOf(config), edit, options)
}

function placeOf({ values, dataDir }: Config): AllowListPlace {
  return { key: 'Egress.Allow', values, standardFile: join(dataDir, NODE_ALLOW_FILE) }
}
