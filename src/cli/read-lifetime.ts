import { WeirError } from '../errors.js'

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800 }

/** Seconds of a flag that says how long something is good: `30d`. Throws `cli.usage`. */
export function readLifetime(flag: string, text: string): number {
  const match = /^(\d{1,6})([smhdw])$/.exec(text.trim().toLowerCase())
  const seconds = Number(match?.[1]) * (UNITS[match?.[2] ?? ''] ?? Number.NaN)
  if (seconds > 0) return seconds
  throw new WeirError('cli.usage', `Cannot read ${flag} ${JSON.stringify(text.slice(0, 60))}`, {
    hint: 'Write a number with s, m, h, d or w, for example 30d',
  })
}
