import { readdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCorpus } from './corpus-row.js'
import { runRow } from './corpus-runner.js'
import { namespacesMissing } from './network.js'
import { createProcessTarget, type ProcessTarget } from './process-target.js'

const rows = readCorpus()
const missing = namespacesMissing()
const title = 'the attack corpus against the gateway process, with real sockets in network namespaces'

describe.skipIf(missing !== undefined)(
  missing === undefined ? title : `${title} (skipped: ${missing})`,
  () => {
    let target: ProcessTarget
    let filesBefore = 0

    beforeAll(async () => {
      target = await createProcessTarget()
      filesBefore = openFiles(target)
    })
    afterAll(() => target?.close())

    it.each(rows.map((row) => [`${row.id} ${row.title}`, row] as const))('%s', async (_, row) => {
      await runRow(target, row)
    })

    it('leaves no open file behind', async () => {
      await target.prepare({
        id: '',
        category: '',
        title: '',
        policy: { job: ['last.test'] },
        send: [],
        expect: { statuses: [] },
      })
      // The listeners (proxy, names, web: twelve) and audit files of the one open lease.
      const allowed = filesBefore + 16
      for (let waited = 0; openFiles(target) > allowed && waited < 3_000; waited += 50)
        await new Promise((resolve) => setTimeout(resolve, 50))
      expect(openFiles(target)).toBeLessThanOrEqual(allowed)
    })
  },
)

function openFiles(target: ProcessTarget): number {
  return readdirSync(`/proc/${target.gateway.pid}/fd`).length
}
