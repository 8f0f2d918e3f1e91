import { describe, expect, it } from 'vitest'
import { createProxyAuthenticator, hashPassword } from '../../src/access/index.js'

const basic = (name: string, secret: string): string =>
  `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`

describe('credentials for the proxy', () => {
  it('cannot be guessed faster by asking for many at the same time, and the source is held up alone', async () => {
    const credentials = [{ name: 'ci', secret: await hashPassword('right'), executionId: 'ci' }]
    const authenticator = createProxyAuthenticator(credentials, { now: () => 0 })
    const guesses = Array.from({ length: 40 }, (_, index) => [basic('ci', `wrong ${index}`)])
    const answers = await Promise.all(guesses.map((guess) => authenticator.check(guess, '192.0.2.1')))
    // Ten are allowed, and one more was under way already.
    expect(answers.filter((answer) => answer === 407).length).toBeLessThanOrEqual(11)
    expect(answers.every((answer) => answer === 407 || answer === 429)).toBe(true)
    expect(await authenticator.check([basic('ci', 'right')], '192.0.2.1')).toBe(429)
    expect(await authenticator.check([basic('ci', 'right')], '192.0.2.2')).toBe('ci')
    // Who was let in once is known, also where others fail.
    expect(await authenticator.check([basic('ci', 'right')], '192.0.2.1')).toBe('ci')
  })
})
