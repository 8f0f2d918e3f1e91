import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { deliverOutput } from '../../../src/executors/docker/output-frames.js'

describe('the stream of both outputs', () => {
  it('is told apart however it is cut into pieces', async () => {
    const frame = fc.record({ kind: fc.constantFrom(1, 2), text: fc.uint8Array({ maxLength: 300 }) })
    await fc.assert(
      fc.asyncProperty(
        fc.array(frame, { maxLength: 20 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 37 })),
        async (frames, sizes) => {
          const whole = Buffer.concat(frames.map(({ kind, text }) => encode(kind, text)))
          const got = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
          await deliverOutput(cut(whole, sizes), {
            write: (stream, data) => void got[stream].push(Buffer.from(data)),
          })
          for (const [kind, name] of [
            [1, 'stdout'],
            [2, 'stderr'],
          ] as const) {
            const sent = Buffer.concat(frames.filter((one) => one.kind === kind).map(({ text }) => text))
            expect(Buffer.concat(got[name]).equals(sent)).toBe(true)
          }
        },
      ),
      { numRuns: 50 },
    )
  })

  it('is not read while the sink is busy', async () => {
    let read = 0
    async function* stream() {
      for (let frame = 0; frame < 10; frame++) {
        read++
        yield encode(1, Buffer.from('x'))
        await Promise.resolve()
      }
    }
    let open = () => {}
    const gate = new Promise<void>((resolve) => (open = resolve))
    const done = deliverOutput(stream(), { write: () => gate })
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(read).toBe(1)
    open()
    await done
    expect(read).toBe(10)
  })
})

function encode(kind: number, text: Uint8Array): Buffer {
  const header = Buffer.alloc(8)
  header[0] = kind
  header.writeUInt32BE(text.length, 4)
  return Buffer.concat([header, text])
}

async function* cut(whole: Buffer, sizes: Iterable<number>): AsyncGenerator<Buffer> {
  let offset = 0
  for (const size of sizes) {
    if (offset >= whole.length) return
    yield await Promise.resolve(whole.subarray(offset, offset + size))
    offset += size
  }
}
