import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Config } from '../config/index.js'
import { toWeirError, WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import { type NetworkEgressPolicy, NO_NETWORK_POLICY, readNetworkPolicy } from '../model/index.js'
import { writeWhole } from '../write-whole.js'
import { readNetworkLists, watchEgressLists } from './egress-policy.js'

/** More could not be told to a node in one message. */
const LIST_BYTES_MAX = 512 * 1024

export interface NetworkListParts {
  config: Config
  /** Where the list and its version are kept; absent = nowhere, and versions begin anew with each start. */
  file?: string
  /** Counts where `Orchestrator.Egress.AllowFile` is empty; it need not be there. Absent = none. */
  standardFile?: string
}

/** The egress list of the network on the side of the orchestrator: read from its configuration, numbered, followed. */
export interface NetworkList {
  readonly policy: NetworkEgressPolicy
  /** Follows the files until the signal aborts. `apply` gets each new list; a bad file changes nothing. */
  watch(parts: {
    apply: (policy: NetworkEgressPolicy) => Promise<void>
    warn: (error: WeirError) => void
    signal: AbortSignal
  }): Promise<void>
}

/** Rejects with `config.invalid`: an orchestrator does not start with a list that it cannot read. */
export async function openNetworkList({
  config,
  file,
  standardFile = '',
}: NetworkListParts): Promise<NetworkList> {
  const { values } = config
  const kept = file === undefined ? NO_NETWORK_POLICY : await readKept(file)
  const read = async () => {
    const lists = await readNetworkLists(values, (name) => config.origin(name) !== 'default', standardFile)
    const bytes = [...(lists.allow ?? []), ...lists.deny].reduce((sum, text) => sum + text.length + 3, 0)
    if (bytes <= LIST_BYTES_MAX) return lists
    throw new WeirError(
      'config.invalid',
      `The egress lists of the network have ${bytes} bytes, more than the ${LIST_BYTES_MAX} that nodes can be told`,
      { hint: '".example.com" covers a name and everything below it' },
    )
  }
  let current = await numbered(kept, await read(), file)
  return {
    get policy() {
      return current
    },
    watch: ({ apply, warn, signal }) =>
      watchEgressLists({
        files: [
          values['Orchestrator.Egress.AllowFile'] || standardFile,
          values['Orchestrator.Egress.DenyFile'],
        ],
        read,
        apply: async (lists) => {
          const next = await numbered(current, lists, file)
          if (next === current) return
          await apply(next)
          current = next
        },
        warn,
        signal,
      }),
  }
}

/** The same lists keep their version; others get the next one, which is kept before anybody hears of it. */
async function numbered(
  before: NetworkEgressPolicy,
  lists: Omit<NetworkEgressPolicy, 'version'>,
  file: string | undefined,
): Promise<NetworkEgressPolicy> {
  const same = JSON.stringify([before.allow, before.deny]) === JSON.stringify([lists.allow, lists.deny])
  if (same) return before
  const next = { version: before.version + 1, ...lists }
  if (file !== undefined) {
    await makeDirectory(dirname(file))
    await writeWhole(file, JSON.stringify(next))
  }
  return next
}

/** What cannot be read is only a version that is lost: the lists come from the configuration. */
async function readKept(file: string): Promise<NetworkEgressPolicy> {
  try {
    return readNetworkPolicy(JSON.parse(await readFile(file, 'utf8')))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NO_NETWORK_POLICY
    throw toWeirError(
      error,
      'config.invalid',
      `Cannot read the version of the network's egress list (${file})`,
    )
  }
}
