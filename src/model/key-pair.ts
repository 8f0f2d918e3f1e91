import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  scryptSync,
  sign,
  verify,
} from 'node:crypto'
import { WeirError } from '../errors.js'

/** An Ed25519 key pair in the form NATS calls a user nkey: whoever holds the seed is that user. */
export interface KeyPair {
  /** `U` and 55 more letters and digits; no secret. */
  readonly publicKey: string
  /** Base64url, 86 characters. */
  sign(text: string): string
}

/** The pair of a 32 byte seed. */
export function keyPairOf(seed: Uint8Array): KeyPair {
  const privateKey = createPrivateKey({
    key: Buffer.concat([PRIVATE_KEY_HEAD, seed]),
    format: 'der',
    type: 'pkcs8',
  })
  return {
    publicKey: writePublicKey(rawPublicKey(privateKey)),
    sign: (text) => sign(null, Buffer.from(text), privateKey).toString('base64url'),
  }
}

/** The seed as a private key file: PKCS #8 in PEM, what `openssl genpkey -algorithm ed25519` writes as well. */
export function pemOfSeed(seed: Uint8Array): string {
  const key = createPrivateKey({
    key: Buffer.concat([PRIVATE_KEY_HEAD, seed]),
    format: 'der',
    type: 'pkcs8',
  })
  return key.export({ format: 'pem', type: 'pkcs8' }) as string
}

/** The pair of a private key file. Throws `key.invalid`, never with anything of its content. */
export function keyPairOfPem(pem: string): KeyPair {
  let key: KeyObject | undefined
  try {
    key = createPrivateKey({ key: pem, format: 'pem' })
  } catch {
    // A library's message might quote what it read.
  }
  if (key?.asymmetricKeyType !== 'ed25519')
    throw new WeirError('key.invalid', 'The file holds no private Ed25519 key', {
      hint: 'Make one with: weir key generate FILE. Keys with a passphrase cannot be used',
    })
  return keyPairOf(key.export({ format: 'der', type: 'pkcs8' }).subarray(-32))
}

/**
 * The pair that a shared secret stands for: the secret itself never travels, and who checks it keeps the public half
 * only. Slow on purpose (about 100 ms), because people choose some of these secrets.
 */
export function keyPairOfSecret(secret: string): KeyPair {
  const salt = createHash('sha256').update('weir join token').digest()
  return keyPairOf(scryptSync(secret, salt, 32, { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 }))
}

/** True when the owner of `publicKey` signed exactly this text. */
export function isSignedBy(publicKey: string, text: string, signature: string): boolean {
  try {
    const key = createPublicKey({
      key: Buffer.concat([PUBLIC_KEY_HEAD, readPublicKey(publicKey)]),
      format: 'der',
      type: 'spki',
    })
    return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64url'))
  } catch {
    return false // A key or signature that cannot be read has signed nothing.
  }
}

/** True for a public key in its one spelling. */
export function isPublicKey(text: unknown): text is string {
  if (typeof text !== 'string' || !/^U[A-Z2-7]{55}$/.test(text)) return false
  try {
    return writePublicKey(readPublicKey(text)) === text
  } catch {
    return false
  }
}

/** DER in front of the 32 bytes of an Ed25519 seed (PKCS #8) and public key (SPKI), RFC 8410. */
const PRIVATE_KEY_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex')
const PUBLIC_KEY_HEAD = Buffer.from('302a300506032b6570032100', 'hex')

/** NATS: one byte that says "user", the key, CRC-16/XMODEM in little endian, all in base 32 without padding. */
const USER_PREFIX = 20 << 3

function rawPublicKey(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32)
}

function writePublicKey(raw: Uint8Array): string {
  const body = Buffer.concat([Buffer.from([USER_PREFIX]), raw])
  const check = crc16(body)
  return base32(Buffer.concat([body, Buffer.from([check & 0xff, check >> 8])]))
}

function readPublicKey(text: string): Buffer {
  const bytes = fromBase32(text)
  const body = bytes.subarray(0, 33)
  if (bytes.length !== 35 || body[0] !== USER_PREFIX || bytes.readUInt16LE(33) !== crc16(body))
    throw new WeirError('api.bad_request', 'The public key is not one of a NATS user')
  return body.subarray(1)
}

function crc16(bytes: Uint8Array): number {
  let crc = 0
  for (const byte of bytes) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++)
      crc = (crc & 0x8000) === 0 ? (crc << 1) & 0xffff : ((crc << 1) ^ 0x1021) & 0xffff
  }
  return crc
}

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

function base32(bytes: Uint8Array): string {
  let text = ''
  let value = 0
  let bits = 0
  for (const byte of bytes) {
    value = (value << 8) | byte
    for (bits += 8; bits >= 5; bits -= 5) {
      text += BASE32[(value >>> (bits - 5)) & 31]
    }
    value &= (1 << bits) - 1
  }
  return bits === 0 ? text : text + BASE32[(value << (5 - bits)) & 31]
}

function fromBase32(text: string): Buffer {
  const bytes: number[] = []
  let value = 0
  let bits = 0
  for (const letter of text) {
    value = (value << 5) | BASE32.indexOf(letter)
    bits += 5
    if (bits < 8) continue
    bits -= 8
    bytes.push((value >>> bits) & 0xff)
    value &= (1 << bits) - 1
  }
  return Buffer.from(bytes)
}
