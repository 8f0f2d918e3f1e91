import { Buffer } from 'node:buffer'

/** Reads a SHA-256 as hex, `sha256:` hex, or base64; returns lower-case hex, or undefined when it is none of these. */
export function readSha256(text: string): string | undefined {
  const plain = text.trim().replace(/^sha-?256[:-]/i, '')
  if (/^[0-9a-f]{64}$/i.test(plain)) return plain.toLowerCase()
  if (/^[A-Za-z0-9+/]{43}=$/.test(plain)) return Buffer.from(plain, 'base64').toString('hex')
  return undefined
}
