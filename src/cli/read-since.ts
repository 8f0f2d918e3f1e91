import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'

/**
 * `--since`: a time as RFC 3339 (`2024-11-29T08:46:40Z`), a day (`2024-11-29`, midnight here), Unix seconds, or how long
 * ago (`90s`, `10m`, `1h30m`, `2d`). In milliseconds since the epoch; absent stays absent. Throws `cli.usage`.
 */
export function readSince(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined
  const word = text.trim()
  const ms = agoMs(word, nowMs) ?? instantMs(word)
  if (ms !== undefined && Number.isFinite(ms) && ms >= 0) return ms
  throw new WeirError(
    'cli.usage',
    `Cannot use --since ${quoted(text)}: it is neither a time nor a duration`,
    {
      hint: 'Write 10m, 1h30m, 2d, or a time such as 2024-11-29T08:46:40Z',
    },
  )
}

function agoMs(text: string, nowMs: number): number | undefined {
  const match = /^(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?$/.exec(text)
  if (match === null || text === '') return undefined
  const [days = 0, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) => Number(part ?? 0))
  return Math.max(0, nowMs - (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)
}

function instantMs(text: string): number | undefined {
  if (/^\d{9,11}(?:\.\d{1,9})?$/.test(text)) return Number(text) * 1000
  const day = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text)
  if (day !== null) return new Date(Number(day[1]), Number(day[2]) - 1, Number(day[3])).getTime()
  return /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:\d{2})?$/.test(text)
    ? Date.parse(text.replace(' ', 'T').toUpperCase())
    : undefined
}
