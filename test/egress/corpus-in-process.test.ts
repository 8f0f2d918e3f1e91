import { afterAll, beforeAll, describe, it } from 'vitest'
import { readCorpus } from './corpus-row.js'
import { type CorpusTarget, runRow } from './corpus-runner.js'
import { createInProcessTarget } from './in-process-target.js'

const rows = readCorpus()

describe('the attack corpus against the gateway in this process', () => {
  let target: CorpusTarget

  beforeAll(async () => {
    target = await createInProcessTarget()
  })
  afterAll(() => target.close())

  it.each(rows.map((row) => [`${row.id} ${row.title}`, row] as const))('%s', async (_, row) => {
    await runRow(target, row)
  })
})
