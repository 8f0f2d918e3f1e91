import {
  constants,
  createHash,
  createHmac,
  createPublicKey,
  randomBytes,
  verify,
  type KeyObject,
} from 'node:crypto'
import { WeirError } from '../errors.js'
import type { AuthMethod, AuthOutcome } from './authentication.js'
import { bodyText, parseJsonBody } from './guards/json-body.js'

export interface ChallengeOptions {
  /** What clients sign; the default phrase of Bacalhau is the server's node id. */
  phrase: string
  /** Part of the path. Default `clientkey`. */
  name?: string
  /** Signs tokens. Default: fresh random bytes, so tokens of another process are not recognised. */
  secret?: Uint8Array
}

/**
 * The method every stock client knows: it signs the phrase with an RSA key of its own and gets a token that names the
 * key. Any key is accepted; the token says who is calling, not what they may do.
 *
 * Signature: RSASSA-PKCS1-v1_5 over SHA-256. Key: PKCS#1 DER, 2048 to 8192 bits. Client id: hex SHA-256 of the modulus.
 * Tokens are opaque to clients and do not expire: `<client id>.<HMAC-SHA-256 of it>`.
 */
export function challengeMethod(options: ChallengeOptions): AuthMethod {
  const phrase = Buffer.from(options.phrase, 'utf8')
  const secret = options.secret ?? randomBytes(32)
  return {
    name: (options.name ?? 'clientkey').toLowerCase(),
    requirement: { type: 'challenge', params: { InputPhrase: phrase.toString('base64') } },
    authenticate: (data) => Promise.resolve(answer(phrase, secret, data)),
  }
}

function answer(phrase: Buffer, secret: Uint8Array, data: Uint8Array): AuthOutcome {
  const method = parseJsonBody(Buffer.from(data).toString('utf8'))
  const signature = readBase64(method, 'PhraseSignature')
  const key = readKey(readBase64(method, 'PublicKey'))
  if (key === undefined)
    return { success: false, reason: 'the public key is not an RSA key in PKCS#1 DER form' }
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0
  if (bits < 2048 || bits > 8192) {
    return { success: false, reason: `the public key has ${bits} bits; 2048 to 8192 are accepted` }
  }
  const isGenuine = verify('sha256', phrase, { key, padding: constants.RSA_PKCS1_PADDING }, signature)
  if (!isGenuine)
    return { success: false, reason: 'the signature does not match the phrase and the public key' }
  const clientId = clientIdOf(key)
  return {
    success: true,
    token: `${clientId}.${createHmac('sha256', secret).update(clientId).digest('hex')}`,
  }
}

function readBase64(method: unknown, name: string): Buffer {
  const text = bodyText(method, name, 16_384)
  if (text === '' || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) {
    throw new WeirError('api.bad_request', `Cannot read "${name}" of the method data: it is not base64`)
  }
  return Buffer.from(text, 'base64')
}

function readKey(der: Buffer): KeyObject | undefined {
  try {
    return createPublicKey({ key: der, format: 'der', type: 'pkcs1' })
  } catch {
    return undefined // The caller turns it into a refusal with a reason.
  }
}

function clientIdOf(key: KeyObject): string {
  const { n = '' } = key.export({ format: 'jwk' })
  return createHash('sha256').update(Buffer.from(n, 'base64url')).digest('hex')
}
