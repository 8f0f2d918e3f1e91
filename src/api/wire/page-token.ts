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

const TOKEN = /^([a-z_]{0,32}):([YN]):(\d{1,10}):(\d{1,15})$/
