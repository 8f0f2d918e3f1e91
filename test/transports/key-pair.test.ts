import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPublicKey, isSignedBy, keyPairOf, keyPairOfSecret } from '../../src/transports/index.js'

const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 })

/** NATS's own library, which comes with its client: an independent reader of the same format. */
const { nkeys } = createRequire(createRequire(import.meta.url).resolve('@nats-io/transport-node'))(
  '@nats-io/nats-core',
) as { nkeys: { fromPublic(key: string): { verify(data: Uint8Array, signature: Uint8Array): boolean } } }

describe('a key pair', () => {
  it('is read by NATS’s own library, which agrees on signatures', () => {
    fc.assert(
      fc.property(seeds, fc.string(), (seed, text) => {
        const pair = keyPairOf(seed)
        const theirs = nkeys.fromPublic(pair.publicKey)
        expect(theirs.verify(Buffer.from(text), Buffer.from(pair.sign(text), 'base64url'))).toBe(true)
      }),
      { numRuns: 50 },
    )
  })

  it('proves who signed what, and nothing else', () => {
    const [mine, other] = [keyPairOf(randomBytes(32)), keyPairOf(randomBytes(32))]
    const signature = mine.sign('text')
    expect(isSignedBy(mine.publicKey, 'text', signature)).toBe(true)
    expect(isSignedBy(mine.publicKey, 'texT', signature)).toBe(false)
    expect(isSignedBy(other.publicKey, 'text', signature)).toBe(false)
    expect(isSignedBy(mine.publicKey, 'text', '')).toBe(false)
    expect(isSignedBy('nonsense', 'text', signature)).toBe(false)
  })

  it('has one spelling of its public half; a changed letter is noticed', () => {
    fc.assert(
      fc.property(
        seeds,
        fc.integer({ min: 0, max: 55 }),
        fc.constantFrom('A', 'B', 'M', 'U', 'Z', '2', '7'),
        (seed, at, letter) => {
          const { publicKey } = keyPairOf(seed)
          expect(isPublicKey(publicKey)).toBe(true)
          const changed = publicKey.slice(0, at) + letter + publicKey.slice(at + 1)
          expect(isPublicKey(changed)).toBe(changed === publicKey)
        },
      ),
      { numRuns: 300 },
    )
    for (const nonsense of [
      '',
      'U',
      undefined,
      7,
      'u'.repeat(56),
      `${keyPairOf(randomBytes(32)).publicKey}A`,
    ])
      expect(isPublicKey(nonsense)).toBe(false)
  })

  it('of a secret is always the same, and another one for another secret', () => {
    const key = keyPairOfSecret('a shared secret').publicKey
    expect(keyPairOfSecret('a shared secret').publicKey).toBe(key)
    expect(keyPairOfSecret('a shared secreT').publicKey).not.toBe(key)
  })
})
