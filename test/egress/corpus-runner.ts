import { expect } from 'vitest'
import { type CorpusRow, type CorpusTarget, runRow as run } from '../../src/conformance/index.js'

export { DEFAULT_LIST } from '../../src/conformance/index.js'
export type { CorpusTarget } from '../../src/conformance/index.js'

/** Runs one row; nothing may be otherwise than it says. */
export async function runRow(target: CorpusTarget, row: CorpusRow): Promise<void> {
  expect(await run(target, row)).toEqual([])
}
