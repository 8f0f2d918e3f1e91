/**
 * Text that is safe to show in a message, a table or a terminal: control characters, line and direction marks and
 * lone surrogates become `\u001b`-style escapes; the rest stays. At most `lengthMax` characters, then `…`.
 */
export function printable(text: string, lengthMax = Number.POSITIVE_INFINITY): string {
  const cut = text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text
  return cut.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** {@link printable} in double quotes, at most 80 characters unless told otherwise. */
export function quoted(text: string, lengthMax = 80): string {
  return `"${printable(text, lengthMax)}"`
}

/** True when {@link printable} would change the text. */
export function hasUnprintable(text: string): boolean {
  return text.search(UNSAFE) >= 0
}

/** C0, DEL, C1; soft hyphen; zero-width and direction marks; line separators; byte order mark; lone surrogates. */
const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g
