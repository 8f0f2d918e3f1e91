import { WeirError } from '../../errors.js'

/** What a page token carries. Bacalhau's own form, so a token may outlive a change of server. */
export interface PageToken {
  orderBy: string
  reverse: boolean
  limit: number
  /** Rows, or sequence numbers, that were delivered already. */
  offset: number
}

/** Unpadded URL-safe base64 of `<orderBy>:<Y|N>:<limit>:<offset>`. */
export function writePageToken(token: PageToken): string {
  const text = `${token.orderBy}:${token.reverse ? 'Y' : 'N'}:${token.limit}:${token.offset}`
  return Buffer.from(text, 'utf8').toString('base64url')
}

/** Throws `api.bad_request` for anything {@link writePageToken} did not write. */
export function readPageToken(text: string): PageToken {
  const match = TOKEN.exec(Buffer.from(text.slice(0, 256), 'base64url').toString('utf8'))
  if (match === null) {
    throw new WeirError(
      'api.bad_request',
      `Cannot read the page token ${JSON.stringify(text.slice(0, 80))}`,
      {
        hint: 'Pass the NextToken of the page before, unchanged; leave it out for the first page.',
      },
    )
  }
  const [, orderBy = '', reverse, limit, offset] = match
  return { orderBy, reverse: reverse === 'Y', limit: Number(limit), offset: Number(offset) }
}

/** Where a page of jobs ended: at a job, so that jobs which come meanwhile move nothing. */
export interface JobsToken extends Omit<PageToken, 'offset'> {
  after: { timeMs: number; id: string }
}

/** Unpadded URL-safe base64 of `<orderBy>:<Y|N>:<limit>:<ms>:<job id>`. */
export function writeJobsToken({ orderBy, reverse, limit, after }: JobsToken): string {
  const text = `${orderBy}:${reverse ? 'Y' : 'N'}:${limit}:${after.timeMs}:${after.id}`
  return Buffer.from(text, 'utf8').toString('base64url')
}

/** Also reads Bacalhau's own form, which counts rows. Throws `api.bad_request`. */
export function readJobsToken(text: string): JobsToken | PageToken {
  const match = JOBS_TOKEN.exec(Buffer.from(text.slice(0, 256), 'base64url').toString('utf8'))
  if (match === null) return readPageToken(text)
  const [, orderBy = '', reverse, limit, timeMs, id = ''] = match
  return { orderBy, reverse: reverse === 'Y', limit: Number(limit), after: { timeMs: Number(timeMs), id } }
}

/** Where a page of egress records ended. */
export interface EgressToken {
  executionId: string
  sequence: number
}

/** Unpadded URL-safe base64 of `<execution id>:<sequence>`. */
export function writeEgressToken({ executionId, sequence }: EgressToken): string {
  return Buffer.from(`${executionId}:${sequence}`, 'utf8').toString('base64url')
}

/** Throws `api.bad_request` for anything {@link writeEgressToken} did not write. */
export function readEgressToken(text: string): EgressToken {
  const match = EGRESS_TOKEN.exec(Buffer.from(text.slice(0, 256), 'base64url').toString('utf8'))
  if (match === null) throw unreadable(text)
  return { executionId: match[1] ?? '', sequence: Number(match[2]) }
}

function unreadable(text: string): WeirError {
  return new WeirError('api.bad_request', `Cannot read the page token ${JSON.stringify(text.slice(0, 80))}`, {
    hint: 'Pass the NextToken of the page before, unchanged; leave it out for the first page.',
  })
}

const EGRESS_TOKEN = /^(e-[0-9a-f-]{36}):(\d{1,15})$/
const JOBS_TOKEN = /^([a-z_]{0,32}):([YN]):(\d{1,10}):(\d{1,16}(?:\.\d{1,6})?):(j-[0-9A-Za-z-]{1,64})$/
const TOKEN = /^([a-z_]{0,32}):([YN]):(\d{1,10}):(\d{1,15})$/
