import { readFileSync } from 'node:fs'
import type { EgressReceipt } from '../model/egress-receipt.js'
import type { Resources } from '../model/resources.js'
import type { EgressSummary } from '../model/state.js'
import type { DesiredExecution } from '../model/sync.js'
import type { RunExit } from '../ports/index.js'
import type { PlainEnd } from './execution-end.js'

/**
 * How far an execution has come; each is written down before it is true.
 *
 *     accepted ──→ starting ──→ exited ──→ (ended: nothing to remember)
 *        the program       it may run,        its exit, output and outputs are complete;
 *        has not begun     or may have        they are published, perhaps for a second time
 */
export type RunPhase = 'accepted' | 'starting' | 'exited'

/** What taking up an execution in another process needs beside its directories. */
export interface RunMemory {
  desired: DesiredExecution
  /** Charged amounts. */
  resources: Resources
  diskBytesMax: number
  /** Since `accepted`: after a restart of the machine nothing of it is left. */
  bootId: string
  phase: RunPhase
  /** Since `starting`: what the inputs take of the disk limit. */
  inputBytes: number
  /** When the program began, if that is known. */
  startTimeMs?: number
  /** Since `exited`. */
  exited?: ExitMemory
}

export interface ExitMemory {
  exit: RunExit
  /** Who ended it, when the program did not do so by itself. */
  end?: PlainEnd
  egress?: EgressSummary
  receipt?: EgressReceipt
  /** Output was dropped. */
  outputTruncated: boolean
  /** Output could not be recovered after a restart. */
  outputGap: boolean
}

/** Changes with each start of the machine; empty where it does not tell. */
export function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
  }
}
