import type { ListChange, ListEdit, ListedPattern } from '../model/pattern-file.js'
import type { TimeMs } from '../model/state.js'

/** What operators do with the allowlist of the network while it is in force. */
export interface NetworkListDesk {
  /** Rejects with `config.invalid` or `pattern.invalid`. */
  read(): Promise<NetworkListView>
  /**
   * Edits the list file, and has the change in force and told to the nodes when it resolves. Adding to a network without a list
   * rejects with `network.no_list` unless `begin` says that everything else may close. Rejects with `pattern.invalid`,
   * `preset.unknown` or `config.invalid`; then nothing has changed.
   */
  edit(
    edit: ListEdit,
    options?: { dryRun?: boolean; begin?: boolean },
  ): Promise<ListChange & { version: number }>
}

export interface NetworkListView {
  version: number
  /** False: the network restricts nothing. */
  limited: boolean
  /** What is edited. */
  file: string
  patterns: ListedPattern[]
}

export const ACCESS_REQUEST_STATES = ['open', 'approved', 'denied', 'expired'] as const
export type AccessRequestState = (typeof ACCESS_REQUEST_STATES)[number]

/** Somebody asks operators to let jobs reach hosts. */
export interface AccessRequest {
  /** `r-` + UUID. */
  id: string
  /** Canonical, sorted. Never changes: what was approved is what was shown. */
  patterns: string[]
  state: AccessRequestState
  createTimeMs: TimeMs
  /** When an open one ends by itself. */
  expireTimeMs: TimeMs
  /** Who asks for it and why: the first who did, then those who joined. Never empty. */
  askers: AccessAsker[]
  /** Absent while it is open, and when it expired. */
  decision?: AccessDecision
}

export interface AccessAsker {
  principal: string
  principalName: string
  reason: string
  timeMs: TimeMs
}

export interface AccessDecision {
  principal: string
  principalName: string
  /** May be empty for an approval. */
  reason: string
  timeMs: TimeMs
  /** What was added to the list of the network; empty when nothing had to be. */
  added: string[]
  /** Version of that list afterwards; absent for a denial. */
  networkVersion?: number
}

/** Keeps requests for access. */
export interface AccessRequestDesk {
  /**
   * A request for the same hosts that is open is joined; asking again oneself changes nothing. `carryOut` is called only when
   * something is to be kept, and keeps it by calling what it gets. Rejects with `request.too_many`, `request.invalid` or
   * `store.unavailable`.
   */
  ask(
    patterns: readonly string[],
    asker: Omit<AccessAsker, 'timeMs'>,
    carryOut: (keep: () => Promise<void>) => Promise<void>,
  ): Promise<{ request: AccessRequest; isNew: boolean }>
  /** Newest first. */
  list(): AccessRequest[]
  /** By id, or by the beginning of one. Throws `request.not_found`. */
  find(idOrPrefix: string, isVisible: (request: AccessRequest) => boolean): AccessRequest
  /**
   * Runs `carryOut` first, one decision at a time. Rejects with `request.decided` when it is open no more, with
   * `request.invalid` for a reason that is too long or, of a denial, not there; then nothing was carried out.
   */
  decide(
    id: string,
    decision: { state: 'approved' | 'denied'; reason: string },
    carryOut: () => Promise<Omit<AccessDecision, 'timeMs' | 'reason'>>,
  ): Promise<AccessRequest>
}
