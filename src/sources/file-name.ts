import { percentDecoded, plainFileName, urlFileName } from '../model/url-file-name.js'

/**
 * The name under which a fetched file lands. The first of these that gives a usable name:
 *
 * 1. the last path segment of the URL in the job, so that the name is known before the fetch and never depends on
 *    what a server answers (a signed job has to have one);
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
    urlFileName(original) ??
    urlFileName(final) ??
    (redirected ? plainFileName(dispositionName(contentDisposition ?? '') ?? '') : undefined) ??
    'download'
  )
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
