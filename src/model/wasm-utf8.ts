/** Bytes as text; undefined when they are not UTF-8. A byte order mark is text like any other. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  // A decoder costs more than most names are long, and most are ASCII.
  const latin = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
  if (/^[\x00-\x7f]*$/.test(latin)) return latin
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}
