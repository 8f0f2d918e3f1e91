import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { WeirError } from '../errors.js'

/** What a password is compared with: itself, as somebody wrote it into a file, or its scrypt hash. */
export type StoredPassword =
  | { kind: 'plain'; digest: Buffer }
  | { kind: 'scrypt'; cost: number; block: number; parallel: number; salt: Buffer; key: Buffer }

const COST = 2 ** 15
const KEY_BYTES = 32
const MEMORY_MAX = 256 * 1024 * 1024

/** `scrypt$<N>$<r>$<p>$<salt>$<key>`, base64url: what `Password` of a configured user takes instead of the password. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16)
  const key = await derive(password, { cost: COST, block: 8, parallel: 1, salt, bytes: KEY_BYTES })
  return `scrypt$${COST}$8$1$${salt.toString('base64url')}$${key.toString('base64url')}`
}

/** Reads the `Password` of a configured user; a text says what is wrong with it. */
export function readStoredPassword(text: string): StoredPassword | string {
  if (/^\$2[abxy]?\$/.test(text))
    return 'bcrypt hashes are not read; write the output of `weir auth hash-password` instead'
  if (!text.startsWith('scrypt$')) {
    return text.length >= 10 && text.length <= 255
      ? { kind: 'plain', digest: digest(text) }
      : 'a password has 10 to 255 characters'
  }
  const match = /^scrypt\$(\d{1,8})\$(\d{1,2})\$(\d{1,2})\$([\w-]{16,200})\$([\w-]{32,200})$/.exec(text)
  const [cost, block, parallel] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])]
  const isUsable =
    match !== null && cost >= 2 ** 12 && Number.isInteger(Math.log2(cost)) && block > 0 && parallel > 0
  if (!isUsable || 128 * cost * block > MEMORY_MAX)
    return 'the scrypt hash cannot be read; make one with `weir auth hash-password`'
  return {
    kind: 'scrypt',
    cost,
    block,
    parallel,
    salt: Buffer.from(match[4] ?? '', 'base64url'),
    key: Buffer.from(match[5] ?? '', 'base64url'),
  }
}

/** Takes tens of milliseconds of a thread for scrypt: callers bound how often. */
export async function passwordMatches(stored: StoredPassword, password: string): Promise<boolean> {
  if (stored.kind === 'plain') return timingSafeEqual(stored.digest, digest(password))
  const key = await derive(password, { ...stored, bytes: stored.key.length })
  return timingSafeEqual(key, stored.key)
}

interface Cost {
  cost: number
  block: number
  parallel: number
  salt: Buffer
  bytes: number
}

function derive(password: string, { cost, block, parallel, salt, bytes }: Cost): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { N: cost, r: block, p: parallel, maxmem: 2 * MEMORY_MAX }
    scrypt(password, salt, bytes, options, (error, key) => {
      if (error === null) resolve(key)
      else reject(new WeirError('internal', 'Cannot compute the scrypt hash', { cause: error }))
    })
  })
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest()
}
