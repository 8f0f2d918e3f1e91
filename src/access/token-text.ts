import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto'

/**
 * A token as people hold it: `weir_<id>_<secret>`. The prefix lets scanners of leaked secrets find it, the id lets the
 * server look it up without comparing secrets, and the secret is 256 random bits.
 */
export interface TokenText {
  /** With its `t-`. */
  id: string
  text: string
}

const ID_CHARACTERS = 'abcdefghijkmnpqrstuvwxyz23456789'
const SHAPE = /^weir_([a-km-np-z2-9]{12})_[A-Za-z0-9_-]{43}$/

/** Random bytes come from the system: secrets are no matter of a seed. */
export function newTokenText(): TokenText {
  const id = Array.from({ length: 12 }, () => ID_CHARACTERS[randomInt(ID_CHARACTERS.length)]).join('')
  return { id: `t-${id}`, text: `weir_${id}_${randomBytes(32).toString('base64url')}` }
}

/** The id that a token names; undefined for anything that is not shaped like one. */
export function tokenIdIn(text: string): string | undefined {
  const id = SHAPE.exec(text)?.[1]
  return id === undefined ? undefined : `t-${id}`
}

/**
 * Hex SHA-256. A slow hash protects secrets that people choose; this one cannot be guessed at any speed, and is looked at
 * with each request.
 */
export function hashSecret(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex')
}

/** Compares in a time that says nothing about where two hashes differ. */
export function hashesMatch(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one, 'hex'), Buffer.from(other, 'hex')]
  return a.length === b.length && a.length > 0 && timingSafeEqual(a, b)
}
