import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { HelloSpec } from './hello.js'
import type { DnsScript, OriginScript } from './witnesses.js'

/** One attack, as data. Every field but `id`, `category`, `title`, `send` and `expect` is optional. */
export interface CorpusRow {
  id: string
  category: string
  title: string
  policy?: Partial<{
    job: string[]
    node: string[]
    deny: string[]
    exceptions: string[]
    self: string[]
    network: string[]
    allowEch: boolean
  }>
  dns?: Record<string, DnsScript | DnsScript[]>
  origin?: OriginScript
  send: SendStep[]
  expect: Expectation
  why?: string
}

/** What the client does next. */
export interface SendStep {
  text?: string
  hex?: string
  /** The text is repeated so often. */
  times?: number
  hello?: HelloSpec
  /** Bytes per segment, with `delayMs` between segments. */
  split?: number
  delayMs?: number
  /** Wait for this text from the gateway first. */
  await?: string
  /** Reset the connection. */
  reset?: boolean
}

export interface Expectation {
  /** Status codes in order; several allowed values as a list. */
  statuses: (number | number[])[]
  /** Code of the refusal, without `egress.`; `request.…` in full. */
  code?: string | string[]
  /** After 200 the tunnel is cut; with an alert when `alert`. */
  alert?: boolean
  /** The gateway closes the connection. Default true. */
  closed?: boolean
  /** Witnesses that saw a connection. Default none. */
  touched?: string[]
  /** No byte reached the origin. */
  silent?: boolean
  /** The origin saw exactly the hello (or these bytes). */
  originSees?: string[]
  originSeesNot?: string[]
  originGetsHello?: boolean
  clientSees?: string[]
  clientSeesNot?: string[]
  /** Questions, `name type`; or how many. Default: not looked at when allowed, none when refused before the lookup. */
  dnsQueries?: number
  /** Audit records. Default 1. */
  records?: number
  record?: Record<string, unknown>
  /** At most this long. */
  withinMs?: number
}

const CORPUS_DIR = join(import.meta.dirname, 'corpus')

/** Every row of every file, in order. */
export function readCorpus(): CorpusRow[] {
  return readdirSync(CORPUS_DIR)
    .filter((file) => file.endsWith('.json'))
    .sort()
    .flatMap((file) => JSON.parse(readFileSync(join(CORPUS_DIR, file), 'utf8')) as CorpusRow[])
}
