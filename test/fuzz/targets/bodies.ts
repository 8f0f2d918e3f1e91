import fc from 'fast-check'
import { ChunkedDecoder, ChunkedSyntaxError } from '../../../src/egress/http/chunked.js'
import type { FuzzTarget } from '../target.js'
import { byteChanges, changed } from '../texts.js'

/** Chunked bodies, changed at random and cut anywhere. */
export const bodies: FuzzTarget = {
  name: 'chunked-bodies',
  promise: 'a chunked body is read the same however it is cut, or refused the same',
  open: () => ({
    property: fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 6 }),
      byteChanges,
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 5 }),
      (chunks, changes, cuts) => {
        const honest = Buffer.concat([
          ...chunks.flatMap((data) => [
            Buffer.from(`${data.length.toString(16)}\r\n`),
            Buffer.from(data),
            CRLF,
          ]),
          Buffer.from('0\r\n\r\n'),
        ])
        const bytes = changed(honest, changes)
        const whole = decoded(bytes, [bytes.length || 1])
        const pieces = decoded(bytes, cuts)
        if (whole !== pieces) throw new Error(`whole: ${whole}; in pieces: ${pieces}`)
        if (changes.length > 0) return
        const wanted = Buffer.concat(chunks.map((data) => Buffer.from(data))).toString('hex')
        if (whole !== `done ${wanted} rest `) throw new Error(`an honest body is read as ${whole}`)
      },
    ),
  }),
}

const CRLF = Buffer.from('\r\n')

function decoded(bytes: Buffer, cuts: readonly number[]): string {
  const decoder = new ChunkedDecoder()
  const data: Buffer[] = []
  try {
    for (let at = 0, index = 0; at < bytes.length; index++) {
      const size = cuts[index % cuts.length] ?? 1
      const piece = decoder.decode(bytes.subarray(at, at + size))
      data.push(...piece.data)
      at += size
      if (piece.rest === undefined) continue
      const rest = Buffer.concat([piece.rest, bytes.subarray(at)])
      return `done ${Buffer.concat(data).toString('hex')} rest ${rest.toString('hex')}`
    }
    return `more ${Buffer.concat(data).toString('hex')}`
  } catch (error) {
    // How far it was read before may depend on the cuts; that it is refused may not.
    if (error instanceof ChunkedSyntaxError) return 'refused'
    throw error
  }
}
