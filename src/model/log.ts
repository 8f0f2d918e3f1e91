/** Output of a program. */
export type OutputStream = 'stdout' | 'stderr'

/** A piece of output, in order of arrival. */
export interface OutputChunk {
  stream: OutputStream
  /** Bytes as the program wrote them; chunks may end in the middle of a character. */
  data: Uint8Array
}
