import { afterAll, beforeAll, describe, it } from 'vitest'
import { readCorpus } from './corpus-row.js'
import { type CorpusTarget, runRow } from './corpus-runner.js'
import { createInProcessTarget } from './in-process-target.js'

const rows = readCorpus()

describe.each(['proxy', 'channel'] as const)(
  'the attack corpus against the %s of the gateway in this process',
  (way) => {
    let target: CorpusTarget

    beforeAll(async () => {
      target = await createInProcessTarget(way)
    })
    afterAll(() => target.close())

    // A sandbox has no TLS of its own, so there the gateway's takes its place: see test/executors/wasm/http.test.ts.
    const applying = rows.filter(({ id }) => way === 'proxy' || id !== 'H-18')

    it.each(applying.map((row) => [`${row.id} ${row.title}`, row] as const))('%s', async (_, row) => {
      await runRow(target, row)
    })
  },
)
