import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'

/** Seconds (`300`) or a duration (`5m`, `1h30m`, `90s`) in milliseconds; absent and 0 mean no limit. Throws `cli.usage`. */
export function readTimeout(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const match = /^(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?$/.exec(text.trim())
  if (match === null || text.trim() === '') {
    throw new WeirError('cli.usage', `Cannot use ${flag} ${quoted(text)}: it is not a duration`, {
      hint: 'Write 300, 90s or 5m',
    })
  }
  const [hours, minutes, seconds] = [match[1], match[2], match[3]].map((part) => Number(part ?? 0))
  const ms = (((hours ?? 0) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0)) * 1000
  // A longer timer would fire at once.
  return ms === 0 ? undefined : Math.min(ms, 2 ** 31 - 1)
}
