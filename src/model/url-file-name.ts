import { Buffer } from 'node:buffer'

const NAME_BYTES_MAX = 255
const EXTENSION_BYTES_MAX = 20

/** The name that a URL itself gives to what is fetched from it: its last path segment. Undefined when that is none. */
export function urlFileName(url: URL): string | undefined {
  const segment = url.pathname.slice(url.pathname.lastIndexOf('/') + 1)
  return plainFileName(percentDecoded(segment))
}

/** Bytes that are not UTF-8 stay escaped. */
export function percentDecoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

/**
 * One plain file name of at most 255 bytes: separators, control characters and marks that turn the direction of text become
 * `_`. Undefined for nothing, `.` and `..`.
 */
export function plainFileName(text: string): string | undefined {
  const name = text.replace(/[/\\\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '_').trim()
  if (name === '' || /^\.{1,2}$/.test(name)) return undefined
  return shortened(name)
}

/** Cuts the middle: the extension says what a file is. */
function shortened(name: string): string {
  if (Buffer.byteLength(name) <= NAME_BYTES_MAX) return name
  const dot = name.lastIndexOf('.')
  const extension = dot > 0 ? name.slice(dot) : ''
  const kept = Buffer.byteLength(extension) <= EXTENSION_BYTES_MAX ? extension : ''
  let stem = ''
  let room = NAME_BYTES_MAX - Buffer.byteLength(kept)
  for (const character of name) {
    room -= Buffer.byteLength(character)
    if (room < 0) break
    stem += character
  }
  return stem + kept
}
