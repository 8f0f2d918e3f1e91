import { Buffer } from 'node:buffer'

export interface DataUrl {
  /** Lower case, without parameters; `text/plain` when the URL names none. */
  mediaType: string
  /** Size of the decoded content at most: known without decoding. */
  bytesMax: number
  decode(): Buffer
}

/** Reads a `data:` URL (RFC 2397); the reason when it is none. Base64 is checked strictly, white space is not ignored. */
export function readDataUrl(text: string): DataUrl | { problem: string } {
  if (!/^data:/i.test(text)) return { problem: 'it does not start with "data:"' }
  const comma = text.indexOf(',')
  if (comma === -1) return { problem: 'it has no comma before the content' }
  const [mediaType = '', ...parameters] = text.slice('data:'.length, comma).split(';')
  const body = text.slice(comma + 1)
  const base64 = parameters.at(-1)?.trim().toLowerCase() === 'base64'
  const type = mediaType.trim().toLowerCase() || 'text/plain'
  return base64 ? readBase64(type, body) : readPercentEncoded(type, body)
}

function readBase64(mediaType: string, body: string): DataUrl | { problem: string } {
  let plain = body
  try {
    if (body.includes('%')) plain = decodeURIComponent(body)
  } catch {
    return { problem: 'its percent escapes are malformed' }
  }
  const digits = plain.replace(/={1,2}$/, '')
  // One pass without backtracking; a group of four never has one digit only.
  if (/[^A-Za-z0-9+/_-]/.test(digits) || digits.length % 4 === 1)
    return { problem: 'its base64 is malformed' }
  return {
    mediaType,
    bytesMax: Math.floor((digits.length * 3) / 4),
    decode: () => Buffer.from(digits, 'base64'),
  }
}

function readPercentEncoded(mediaType: string, body: string): DataUrl | { problem: string } {
  if (/%(?![0-9A-Fa-f]{2})/.test(body)) return { problem: 'its percent escapes are malformed' }
  return { mediaType, bytesMax: Buffer.byteLength(body), decode: () => percentDecoded(body) }
}

function percentDecoded(body: string): Buffer {
  const bytes = Buffer.from(body, 'utf8')
  let length = 0
  for (let i = 0; i < bytes.length; i += 1) {
    let byte = bytes[i] ?? 0
    if (byte === 0x25) {
      byte = Number.parseInt(bytes.toString('latin1', i + 1, i + 3), 16)
      i += 2
    }
    bytes[length] = byte
    length += 1
  }
  return bytes.subarray(0, length)
}
