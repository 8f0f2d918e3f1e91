/** A list of names for a message: the first of them, each cut. */
export function listSome(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((one) => (one.length > 100 ? `${one.slice(0, 100)}…` : one))
  const more = names.length - shown.length
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ')
}

/** A name that somebody else has chosen, in quotes. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
