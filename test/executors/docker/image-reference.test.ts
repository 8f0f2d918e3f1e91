import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseImageReference, pullName } from '../../../src/executors/docker/image-reference.js'

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`

describe('an image reference', () => {
  it.each([
    ['busybox', 'docker.io', 'busybox', '', ''],
    ['library/busybox:1.36', 'docker.io', 'library/busybox', '1.36', ''],
    ['registry.example.net/a/b-c/d__e.f:v1', 'registry.example.net', 'a/b-c/d__e.f', 'v1', ''],
    ['localhost/x', 'localhost', 'x', '', ''],
    ['localhost:5000/x:y', 'localhost:5000', 'x', 'y', ''],
    ['10.0.0.5:5000/team/x', '10.0.0.5:5000', 'team/x', '', ''],
    ['[::1]:5000/x', '[::1]:5000', 'x', '', ''],
    ['index.docker.io/library/x', 'docker.io', 'library/x', '', ''],
    [`a/b@${DIGEST}`, 'docker.io', 'a/b', '', DIGEST],
    [`a/b:t@${DIGEST}`, 'docker.io', 'a/b', 't', DIGEST],
  ])('reads %s', (text, registry, path, tag, digest) => {
    expect(parseImageReference(text)).toMatchObject({ registry, path, tag, digest, isId: false })
  })

  it('recognises image ids, which are never pulled', () => {
    for (const id of [DIGEST, DIGEST.slice(7), '0123456789ab']) {
      expect(parseImageReference(id).isId).toBe(true)
    }
  })

  it('adds the tag "latest" only where neither tag nor digest was given', () => {
    expect(pullName(parseImageReference('a/b'))).toBe('a/b:latest')
    expect(pullName(parseImageReference('a/b:c'))).toBe('a/b:c')
    expect(pullName(parseImageReference(`a/b@${DIGEST}`))).toBe(`a/b@${DIGEST}`)
  })

  it.each([
    '',
    'evil/../x',
    '../x',
    '/x',
    'x/',
    'a//b',
    'UPPER/x:y:z',
    'Upper',
    'x:',
    'x:-bad',
    'x@sha256:short',
    `x@${DIGEST}@${DIGEST}`,
    `x@${DIGEST.toUpperCase()}`,
    'x y',
    'x\ny',
    'x\0y',
    'http://registry.example/x',
    'user:pass@registry.example/x',
    'regi_stry.example/x',
    'registry.example:port/x',
    'registry.example:123456/x',
    '-x',
    'x-',
    'a'.repeat(513),
    'bücher/x',
  ])('P-18 refuses %j', (text) => {
    expect(() => parseImageReference(text)).toThrow(
      expect.objectContaining({ code: 'image.unavailable' }) as Error,
    )
  })

  it('P-18 never accepts a path with dots alone, an empty part or a character outside the grammar', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), (text) => {
        let path: string
        try {
          path = parseImageReference(text).path
        } catch {
          return
        }
        expect(path).toMatch(/^(?:sha256:)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/)
        expect(path).not.toMatch(/\.\.|\/\.|\.\/|\/\//)
      }),
    )
  })
})
