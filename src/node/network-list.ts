import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Config, ConfigName } from '../config/index.js'
import { toWeirError, WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import {
  expandPresets,
  type ListChange,
  type ListEdit,
  type NetworkEgressPolicy,
  NO_NETWORK_POLICY,
  NOTHING,
  patternLines,
  readNetworkPolicy,
  readPresets,
} from '../model/index.js'
import type { NetworkListDesk, NetworkListView } from '../ports/index.js'
import { writeWhole } from '../write-whole.js'
import { type AllowListPlace, editAllowList, readAllowList } from './allow-list-file.js'
import { readListFile, readNetworkLists, watchEgressLists } from './egress-policy.js'

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
export interface NetworkList extends NetworkListDesk {
  readonly policy: NetworkEgressPolicy
  /** Follows the files until the signal aborts. `apply` gets each new list; a bad file changes nothing. */
  watch(parts: {
    apply: (policy: NetworkEgressPolicy) => Promise<void>
    warn: (error: WeirError) => void
    signal: AbortSignal
  }): Promise<void>
}

/** Rejects with `config.invalid`: an orchestrator does not start with a list that it cannot read. */
export async function openNetworkList(parts: NetworkListParts): Promise<NetworkList> {
  const { file } = parts
  const kept = file === undefined ? { policy: NO_NETWORK_POLICY, hasListFile: false } : await readKept(file)
  const list = new List(parts, kept)
  await list.readAgain()
  return list
}

class List implements NetworkList {
  readonly #parts: NetworkListParts
  readonly #place: AllowListPlace
  #policy: NetworkEgressPolicy
  /** The standard file was there: without it the network would be open to everything, so it has to stay. */
  #hasListFile: boolean
  #apply: (policy: NetworkEgressPolicy) => Promise<void> = async () => {}
  #turn: Promise<unknown> = Promise.resolve()

  constructor(parts: NetworkListParts, { policy, hasListFile }: Kept) {
    this.#parts = parts
    this.#policy = policy
    this.#hasListFile = hasListFile
    const { values } = parts.config
    this.#place = { key: 'Orchestrator.Egress.Allow', values, standardFile: parts.standardFile ?? '' }
  }

  get policy(): NetworkEgressPolicy {
    return this.#policy
  }

  async read(): Promise<NetworkListView> {
    const { version, allow } = this.#policy
    const { file, patterns } = await readAllowList(this.#place)
    return { version, limited: allow !== undefined, file, patterns }
  }

  edit(
    edit: ListEdit,
    { dryRun = false, begin = false }: { dryRun?: boolean; begin?: boolean } = {},
  ): Promise<ListChange & { version: number }> {
    return this.#inTurn(async () => {
      if (this.#policy.allow === undefined && !begin && (edit.add ?? []).length > 0) throw noList()
      await this.#requireFile()
      if (!dryRun && this.#isStandard()) await makeDirectory(dirname(this.#place.standardFile))
      const change = await editAllowList(this.#place, edit, {
        dryRun,
        check: (_change, text) => this.#checkSize(text),
      })
      if (!dryRun) await this.#readNow()
      return { ...change, version: this.#policy.version }
    })
  }

  readAgain(): Promise<void> {
    return this.#inTurn(() => this.#readNow())
  }

  async watch({ apply, warn, signal }: Parameters<NetworkList['watch']>[0]): Promise<void> {
    const { values } = this.#parts.config
    this.#apply = apply
    await watchEgressLists({
      files: [
        values['Orchestrator.Egress.AllowFile'] || this.#place.standardFile,
        values['Orchestrator.Egress.DenyFile'],
      ],
      read: () => this.#readLists(this.#parts.config),
      // Read again in its turn, so that nothing older comes after an edit.
      apply: () => this.readAgain(),
      warn,
      signal,
    })
  }

  async #readNow(): Promise<void> {
    const { config, file } = this.#parts
    const lists = await this.#readLists(config)
    const next = await numbered(this.#policy, lists, { file, hasListFile: this.#hasListFile })
    if (next === this.#policy) return
    await this.#apply(next)
    this.#policy = next
  }

  async #readLists(config: Config): Promise<Omit<NetworkEgressPolicy, 'version'>> {
    const { standardFile } = this.#place
    if (this.#isStandard()) await this.#requireListFile()
    else this.#hasListFile = false
    const isSet = (name: ConfigName): boolean => config.origin(name) !== 'default'
    const lists = await readNetworkLists(config.values, isSet, standardFile)
    checkBytes(lists)
    return lists
  }

  /** What nodes could not be told must not be written either. */
  async #checkSize(text: string): Promise<void> {
    const { values } = this.#parts.config
    const texts = [...values['Orchestrator.Egress.Allow'], ...patternLines(text).map((line) => line.text)]
    const { domains } = expandPresets(
      texts.filter((one) => one !== NOTHING),
      readPresets(values['Egress.Presets']),
    )
    checkBytes({ allow: domains, deny: this.#policy.deny })
  }

  #isStandard(): boolean {
    return (
      this.#parts.config.values['Orchestrator.Egress.AllowFile'] === '' && this.#place.standardFile !== ''
    )
  }

  async #requireFile(): Promise<void> {
    if (this.#isStandard()) return this.#requireListFile()
    if (this.#parts.config.values['Orchestrator.Egress.AllowFile'] !== '') return
    throw new WeirError('config.invalid', 'Cannot change the list of the network: it is kept nowhere', {
      hint: 'name a file with Orchestrator.Egress.AllowFile',
    })
  }

  /** It need not be there before it was there for the first time. */
  async #requireListFile(): Promise<void> {
    const { standardFile } = this.#place
    const isThere = (await readListFile(standardFile, 'Orchestrator.Egress.AllowFile', true)) !== undefined
    if (isThere || !this.#hasListFile) {
      this.#hasListFile = isThere
      return
    }
    throw new WeirError('config.invalid', `The egress list of the network (${standardFile}) is gone`, {
      hint: `restore it; to lift the limit of the network, remove ${this.#parts.file ?? 'it'} as well while the orchestrator does not run`,
    })
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const next = this.#turn.then(work, work)
    this.#turn = next.catch(() => {
      // Told to whoever asked; the next one has its own fate.
    })
    return next
  }
}

function checkBytes({ allow = [], deny }: Omit<NetworkEgressPolicy, 'version'>): void {
  const bytes = [...allow, ...deny].reduce((sum, text) => sum + text.length + 3, 0)
  if (bytes <= LIST_BYTES_MAX) return
  throw new WeirError(
    'config.invalid',
    `The egress lists of the network have ${bytes} bytes, more than the ${LIST_BYTES_MAX} that nodes can be told`,
    { hint: '".example.com" covers a name and everything below it' },
  )
}

function noList(): WeirError {
  return new WeirError(
    'network.no_list',
    'Cannot add to the list of the network: it has none, so that every host of its nodes is allowed',
    { hint: 'with --begin it gets one, and everything that is not in it is closed' },
  )
}

/** The same lists keep their version; others get the next one, which is kept before anybody hears of it. */
async function numbered(
  before: NetworkEgressPolicy,
  lists: Omit<NetworkEgressPolicy, 'version'>,
  { file, hasListFile }: { file: string | undefined; hasListFile: boolean },
): Promise<NetworkEgressPolicy> {
  const same = JSON.stringify([before.allow, before.deny]) === JSON.stringify([lists.allow, lists.deny])
  if (same) return before
  const next = { version: before.version + 1, ...lists }
  if (file !== undefined) {
    await makeDirectory(dirname(file))
    await writeWhole(file, JSON.stringify({ ...next, hasListFile }))
  }
  return next
}

interface Kept {
  policy: NetworkEgressPolicy
  hasListFile: boolean
}

/** What cannot be read is only a version that is lost: the lists come from the configuration. */
async function readKept(file: string): Promise<Kept> {
  try {
    const kept: unknown = JSON.parse(await readFile(file, 'utf8'))
    return {
      policy: readNetworkPolicy(kept),
      hasListFile: (kept as { hasListFile?: unknown }).hasListFile === true,
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      return { policy: NO_NETWORK_POLICY, hasListFile: false }
    throw toWeirError(
      error,
      'config.invalid',
      `Cannot read the version of the network's egress list (${file})`,
    )
  }
}
