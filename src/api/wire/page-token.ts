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
const TOKEN = /^([a-z_]{0,32}):([YN]):(\d{1,10}):(\d{1,15})$/
