import { Buffer } from 'node:buffer'

const NAME_BYTES_MAX = 255
const EXTENSION_BYTES_MAX = 20

/**
 * The name under which a fetched file lands. The first of these that gives a usable name:
 *
 * 1. the last path segment of the URL in the job, so that the name is known before the fetch and never depends on
 *    what a server answers;
 * 2. the last path segment of the URL after redirects;
 * 3. the file name in Content-Disposition, after a redirect;
 * 4. `download`.
 *
 * The result is one plain file name of at most 255 bytes: separators, control characters and marks that turn the
 * direction of text become `_`; `.` and `..` are never a name.
 */
export function fetchedFileName(original: URL, final: URL, contentDisposition: string | undefined): string {
  const redirected = original.href !== final.href
  return (
    fromPath(original) ??
    fromPath(final) ??
    (redirected ? plainName(dispositionName(contentDisposition ?? '') ?? '') : undefined) ??
    'download'
  )
}

function fromPath(url: URL): string | undefined {
  const segment = url.pathname.slice(url.pathname.lastIndexOf('/') + 1)
  return plainName(percentDecoded(segment))
}

function percentDecoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment // bytes that are not UTF-8 stay escaped
  }
}

/** RFC 6266: `filename*` wins over `filename`. */
function dispositionName(header: string): string | undefined {
  const extended = /;\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)/i.exec(header)?.[1]
  if (extended !== undefined) return percentDecoded(extended)
  const quoted = /;\s*filename\s*=\s*"((?:[^"\\]|\\.)*)"/i.exec(header)?.[1]
  if (quoted !== undefined) return lastSegment(quoted.replace(/\\(.)/g, '$1'))
  const token = /;\s*filename\s*=\s*([^;\s"]+)/i.exec(header)?.[1]
  return token === undefined ? undefined : lastSegment(token)
}

function lastSegment(path: string): string {
  return path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
}

function plainName(text: string): string | undefined {
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
