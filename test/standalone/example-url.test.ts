import { expect, it } from 'vitest'
import { exampleUrl } from '../../src/standalone/example-url.js'

it.each([
  [['.example.com'], [], 'http://example.com/'],
  [['*.example.com'], [], 'http://www.example.com/'],
  [['https://example.com'], [], 'https://example.com/'],
  [['example.com:443'], [], 'https://example.com/'],
  [['example.com:8443'], [], 'http://example.com:8443/'],
  [['[2606:4700::1]'], [], 'http://[2606:4700::1]/'],
  [['a.example.com', 'b.example.com'], ['a.example.com'], 'http://b.example.com/'],
  [['a.example.com'], ['.example.com'], undefined],
  [[], [], undefined],
])('of what %j allows and %j denies shows %s', (allow, deny, url) => {
  expect(exampleUrl(allow, deny)).toBe(url)
})
