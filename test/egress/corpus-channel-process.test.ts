import { afterAll, beforeAll, describe, it } from 'vitest'
import { readCorpus } from './corpus-row.js'
import { runRow } from './corpus-runner.js'
import { namespacesMissing } from './network.js'
import { createProcessTarget, type ProcessTarget } from './process-target.js'

const missing = namespacesMissing()
/** All of them go through the channel in one process, see corpus-in-process.test.ts; H-18 is not for sandboxes. */
const rows = readCorpus().filter(({ id }, index) => index % 10 === 0 && id !== 'H-18')

describe.skipIf(missing !== undefined)(
  `the attack corpus, every tenth row, against the channel of the gateway process${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    let target: ProcessTarget

    beforeAll(async () => {
      target = await createProcessTarget('channel')
    })
    afterAll(() => target?.close())

    it.each(rows.map((row) => [`${row.id} ${row.title}`, row] as const))('%s', async (_, row) => {
      await runRow(target, row)
    })
  },
)
