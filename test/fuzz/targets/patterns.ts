import fc from 'fast-check'
import { isWeirError } from '../../../src/errors.js'
import { type HostPattern, HostPatternSet, parseHostPattern, readHost } from '../../../src/model/index.js'
import type { FuzzTarget } from '../target.js'
import { hostish } from '../texts.js'

const OPTIONS = [
  {},
  { allowPublicSuffix: true },
  { allowPrivate: true },
  { allowPublicSuffix: true, allowPrivate: true },
]

/** Whatever is accepted prints as a pattern that is read the same, and holds no more than it says. */
export const patterns: FuzzTarget = {
  name: 'patterns',
  promise: 'parse → print → parse is stable, and a pattern matches hosts only that end in its own name',
  open: () => ({
    property: fc.property(
      fc.tuple(fc.constantFrom('', '.', '*.'), hostish, fc.constantFrom('', ':80', ':8443')),
      fc.constantFrom(...OPTIONS),
      hostish,
      ([prefix, name, port], options, asked) => {
        const pattern = accepted(`${prefix}${name}${port}`, options)
        if (pattern === undefined) return
        const again = accepted(pattern.text, options)
        if (again === undefined || again.text !== pattern.text)
          throw new Error(`"${pattern.text}" is not read as itself`)
        const reading = readHost(asked)
        if (!reading.ok) return
        const { text } = reading.host
        const isBelow = text.endsWith(`.${pattern.host}`)
        for (const p of [80, 443, 8443, 1]) {
          const match = new HostPatternSet([pattern]).match(text, p)
          if (match !== undefined && text !== pattern.host && !isBelow)
            throw new Error(`"${pattern.text}" matches "${text}"`)
        }
      },
    ),
  }),
}

/** Undefined for a text that is refused as a pattern; other errors are defects. */
function accepted(text: string, options: object): HostPattern | undefined {
  try {
    return parseHostPattern(text, options)
  } catch (error) {
    if (isWeirError(error, 'pattern.invalid') && error.hint !== undefined && error.message.length < 1_000)
      return undefined
    throw error
  }
}
