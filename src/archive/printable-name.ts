import { isUtf8 } from 'node:buffer'
import { printable } from '../model/printable.js'

/** A name out of an archive as it may stand in a message: escaped, also where its bytes are not UTF-8, and cut. */
export function printableName(name: string | Uint8Array): string {
  return printable(typeof name === 'string' ? name : decode(name), 200)
}

function decode(bytes: Uint8Array): string {
  if (isUtf8(bytes)) return new TextDecoder().decode(bytes)
  return Array.from(bytes, (byte) =>
    byte < 0x80 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`,
  ).join('')
}
