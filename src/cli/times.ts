/** Clock time of an RFC 3339 text, in the user's zone: `12:03:04`. Empty for anything else. */
export function clockTime(rfc3339: string): string {
  const date = new Date(rfc3339)
  return Number.isNaN(date.getTime())
    ? ''
    : [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(':')
}

/** `2026-01-31 12:03:04` in the user's zone. */
export function dateTime(ms: number): string {
  const date = new Date(ms)
  if (Number.isNaN(date.getTime())) return ''
  const day = [date.getFullYear(), date.getMonth() + 1, date.getDate()].map(twoDigits).join('-')
  return `${day} ${clockTime(date.toISOString())}`
}

/** Nanoseconds of the API as milliseconds. */
export function millisecondsOf(nanoseconds: number): number {
  return nanoseconds / 1_000_000
}

/** `12 ms`, `3.4 s`, `5m10s`, `3h02m`, `4d05h`. */
export function formatDuration(ms: number): string {
  const clamped = Math.max(0, ms)
  if (clamped < 1000) return `${Math.round(clamped)} ms`
  if (clamped < 60_000) return `${(Math.floor(clamped / 100) / 10).toFixed(1)} s`
  const seconds = Math.floor(clamped / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${twoDigits(seconds % 60)}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${twoDigits(minutes % 60)}m`
  return `${Math.floor(minutes / 1440)}d${twoDigits(Math.floor(minutes / 60) % 24)}h`
}

/** `3.4 s ago`. */
export function ago(ms: number, nowMs: number): string {
  return `${formatDuration(nowMs - ms)} ago`
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0')
}
