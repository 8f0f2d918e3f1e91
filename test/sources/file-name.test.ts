import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fetchedFileName } from '../../src/sources/file-name.js'

const name = (original: string, final = original, disposition?: string) =>
  fetchedFileName(new URL(original), new URL(final), disposition)

describe('the name of a fetched file', () => {
  it.each([
    ['http://a.test/x/data.csv?v=1#top', undefined, undefined, 'data.csv'],
    ['http://a.test/x/', 'http://b.test/real.bin', undefined, 'real.bin'],
    ['http://a.test/', 'http://b.test/', 'attachment; filename="said.txt"', 'said.txt'],
    [
      'http://a.test/',
      'http://b.test/',
      "attachment; filename=x; filename*=UTF-8''na%C3%AFve.txt",
      'naïve.txt',
    ],
    ['http://a.test/', 'http://b.test/', 'attachment; filename="..\\\\..\\\\..\\\\etc/passwd"', 'passwd'],
    ['http://a.test/', 'http://a.test/', 'attachment; filename="said.txt"', 'download'],
    ['http://a.test/', undefined, undefined, 'download'],
    ['http://a.test/a%2F..%2Fb', undefined, undefined, 'a_.._b'],
    ['http://a.test/%2e%2e', undefined, undefined, 'download'],
    ['http://a.test/..%00', undefined, undefined, '.._'],
    ['http://a.test/a%0Ab%E2%80%AEgnp.exe', undefined, undefined, 'a_b_gnp.exe'],
    ['http://a.test/%ff%fe', undefined, undefined, '%ff%fe'],
    [`http://a.test/${'x'.repeat(400)}.tar.gz`, undefined, undefined, `${'x'.repeat(252)}.gz`],
  ])('of %s → %s (%s) is %s', (original, final, disposition, expected) => {
    expect(name(original, final, disposition)).toBe(expected)
  })

  it('is always one plain name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (path, disposition) => {
        const result = name(
          `http://a.test/${encodeURIComponent(path)}`,
          'http://b.test/',
          `attachment; filename="${disposition}"`,
        )
        expect(result).not.toMatch(/[/\\\p{Cc}]/u)
        expect(['', '.', '..']).not.toContain(result)
        expect(Buffer.byteLength(result)).toBeLessThanOrEqual(255)
      }),
    )
  })
})
