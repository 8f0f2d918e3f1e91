/** As Go prints durations: `1m0s`, `1h0m0s`, `2.5s`, `0s`. */
export function goDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60]
  const rest = `${(ms % 60_000) / 1000}s`
  if (hours > 0) return `${hours}h${minutes}m${rest}`
  return minutes > 0 ? `${minutes}m${rest}` : rest
}

/** Bounds a text that came from elsewhere. */
export function clip(text: string, lengthMax: number): string {
  return text.length > lengthMax ? `${text.slice(0, lengthMax - 1)}…` : text
}

/** A reason that was given elsewhere and becomes part of a message here. */
export const REASON_LENGTH_MAX = 300
