import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { validateWasm } from '../../src/model/index.js'

const BIN = new URL('../fixtures/wasm/bin/', import.meta.url)
const SEED = 1
const RUNS = 4_000
const TELLING_BYTES = [0x00, 0x01, 0x40, 0x41, 0x42, 0x7f, 0x80, 0xff]

/** A generator of numbers below what is asked for, the same for the same seed. */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function mutated(original: Buffer, next: (below: number) => number): Buffer {
  let bytes = Buffer.from(original)
  for (let left = 1 + next(5); left > 0 && bytes.length > 8; left--) {
    const at = next(Math.min(bytes.length, next(2) === 0 ? 400 : bytes.length))
    const how = next(5)
    if (how === 0) bytes[at] = next(256)
    else if (how === 1) bytes[at] = TELLING_BYTES[next(TELLING_BYTES.length)] ?? 0
    else if (how === 2) bytes = bytes.subarray(0, at)
    else if (how === 3)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + next(30)), bytes.subarray(at)])
    else bytes.fill(0xff, at, Math.min(bytes.length, at + 5))
  }
  return bytes
}

it('a damaged component is judged, with reasons, and nothing is thrown', () => {
  const components = readdirSync(BIN).filter((name) => /^component.*\.wasm$/.test(name))
  const originals = components
    .map((name) => readFileSync(new URL(name, BIN)))
    .filter(({ length }) => length < 300_000)
  expect(originals.length).toBeGreaterThan(0)
  const next = numbers(SEED)
  let refused = 0
  for (let run = 0; run < RUNS; run++) {
    const { valid, problems } = validateWasm(
      mutated(originals[next(originals.length)] ?? Buffer.alloc(0), next),
    )
    expect(valid).toBe(problems.length === 0)
    if (!valid) refused++
  }
  // Most damage shows; some is in a name, or in code that is not read here.
  expect(refused).toBeGreaterThan(RUNS / 4)
})
