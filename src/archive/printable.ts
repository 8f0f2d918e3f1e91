import { isUtf8 } from 'node:buffer'

/**
 * A name out of an archive as it may stand in a message: characters that control, hide or turn text and bytes that
 * are not UTF-8 become escapes, and it is cut after 200 characters.
 */
export function printable(name: string | Uint8Array): string {
  const text = typeof name === 'string' ? name : decode(name)
  return text.slice(0, 200).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escapeCharacter)
}

function decode(bytes: Uint8Array): string {
  if (isUtf8(bytes)) return new TextDecoder().decode(bytes)
  return Array.from(bytes, (byte) =>
    byte < 0x80 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`,
  ).join('')
}

function escapeCharacter(character: string): string {
  return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`
}
