/**
 * Content identifiers of blobs: CIDv1, codec raw (0x55), hash sha2-256, written in base32 (`bafkrei…`). One content has
 * one such text, so blobs are compared as text. Sources: the CID and multihash specifications, RFC 4648 base32.
 */

/** The identifier of the content with this SHA-256, 32 bytes. */
export function blobCid(sha256: Uint8Array): string {
  return `b${base32(Uint8Array.of(...PREFIX, ...sha256))}`
}

/** True for an identifier as {@link blobCid} writes it; every other spelling and kind of CID is none. */
export function isBlobCid(text: string): boolean {
  if (!/^bafkrei[a-z2-7]{52}$/.test(text)) return false
  // The last digit holds three bits of content and two that are zero.
  return (DIGITS.indexOf(text.at(-1) ?? '') & 3) === 0
}

/** CID version 1, codec raw, hash function sha2-256 of 32 bytes. */
const PREFIX = [0x01, 0x55, 0x12, 0x20]
const DIGITS = 'abcdefghijklmnopqrstuvwxyz234567'

function base32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff
    bits += 8
    for (; bits >= 5; bits -= 5) text += DIGITS[(held >> (bits - 5)) & 31]
  }
  return bits === 0 ? text : text + DIGITS[(held << (5 - bits)) & 31]
}
