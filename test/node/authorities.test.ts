import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readAuthorities } from '../../src/node/authorities.js'
import { TestAuthority } from '../egress/test-authority.js'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const [one = '', other = ''] = rootCertificates

describe('the file of authorities', () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-authorities-'))
  const file = join(dir, 'authorities.pem')
  let authority: TestAuthority | undefined
  beforeAll(() => {
    if (hasOpenssl) authority = new TestAuthority()
  })
  afterAll(() => {
    authority?.close()
    rmSync(dir, { recursive: true, force: true })
  })

  const read = (content: string): Promise<string | undefined> => {
    writeFileSync(file, content)
    return readAuthorities(file)
  }

  it('is read without what stands between its certificates; with no name it is none', async () => {
    expect(await read(`# Größe\n${one}\n\n# two\n${other}\n`)).toBe(`${one}\n${other}`)
    expect(await readAuthorities('')).toBeUndefined()
  })

  it.each([
    ['is empty', '', 'there is no certificate in it'],
    ['is no PEM', '\0\x30\x82 binary', 'there is no certificate in it'],
    ['is cut off', `${one}\n${other.slice(0, 300)}`, 'certificate 2 has no end'],
    ['has a block that is none', `${one}\n${other.replace('MII', 'AAA')}`, 'certificate 2 is malformed'],
    [
      'has a block of zero bytes',
      '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----',
      'certificate 1 is malformed',
    ],
    [
      'holds something else',
      one.replaceAll('CERTIFICATE', 'X509 CRL'),
      'block 1 is no certificate, but "X509 CRL"',
    ],
  ])('is refused when it %s, with its name and the key of the configuration', async (_what, content, why) => {
    await refused(() => read(content), why)
  })

  it('is refused when it is not there, no file, or too large', async () => {
    await refused(() => readAuthorities(`${file}.none`), 'it is not there')
    await refused(() => readAuthorities(dir), 'it is no file')
    writeFileSync(file, one)
    truncateSync(file, 5 * 1024 * 1024)
    await refused(() => readAuthorities(file), 'it has 5242880 bytes')
  })

  it.skipIf(!hasOpenssl)(
    'is refused with a private key in it, of which nothing is said, or when nothing in it is valid any more',
    async () => {
      const { key, cert } = (authority as TestAuthority).certify(['example.com'])
      const error = await refused(() => read(`${cert}\n${key}`), 'there is a private key in it')
      expect(JSON.stringify(error)).not.toContain(key.split('\n')[1])
      const { cert: old } = (authority as TestAuthority).certify(['example.com'], -1)
      await refused(() => read(old), 'every certificate in it has expired')
      // Lists of operating systems hold some that have: they count for nothing, and the others do.
      expect(await read(`${old}${cert}`)).toContain(cert.trim())
    },
  )

  async function refused(run: () => Promise<unknown>, why: string): Promise<unknown> {
    const error = await run().then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({ code: 'config.invalid', hint: expect.stringContaining('PEM') })
    const { message } = error as Error
    expect(message).toContain(dir)
    expect(message).toContain('Egress.AuthoritiesFile')
    expect(message).toContain(why)
    return error
  }
})
