/** Entries of one long list, from the first number up to before the second; or an entry that is not in it. */
export type ListPiece = readonly [from: number, to: number] | string

/** Lists as pieces of a longer one that travels with them, so that nothing travels twice. */
export function toPieces(lists: readonly (readonly string[])[], whole: readonly string[]): ListPiece[][] {
  let places: Map<string, number> | undefined
  return lists.map((list) => {
    if (list.length === whole.length && list.every((text, index) => text === whole[index]))
      return [[0, whole.length]]
    places ??= new Map(whole.map((text, index) => [text, index]))
    const pieces: (string | [number, number])[] = []
    for (const text of list) {
      const at = places.get(text)
      const last = pieces.at(-1)
      if (at === undefined) pieces.push(text)
      else if (typeof last === 'object' && last[1] === at) last[1] = at + 1
      else pieces.push([at, at + 1])
    }
    return pieces
  })
}

export function fromPieces(pieces: readonly ListPiece[], whole: readonly string[]): string[] {
  return pieces.flatMap((piece) => (typeof piece === 'string' ? [piece] : whole.slice(piece[0], piece[1])))
}
