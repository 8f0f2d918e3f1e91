import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ExecutionBook } from '../../src/compute/execution-book.js'
import type { RunMemory } from '../../src/compute/run-memory.js'
import { SILENT_LOGGER } from '../../src/compute/options.js'
import type { DesiredExecution } from '../../src/model/sync.js'
import { NO_RESOURCES } from '../../src/model/resources.js'
import { mountFiles } from '../orchestrator/simulation/files.js'
import { CLOCK, shellJob, startFixture } from './node-fixture.js'

describe('a node whose disk gives trouble', () => {
  let dataDir: string
  let unmount: () => void = () => undefined
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'weir-compute-'))
  })
  afterEach(async () => {
    unmount()
    await rm(dataDir, { recursive: true, force: true })
  })

  it('fails an execution in a way that another try can mend while its disk is full', async () => {
    let isFull = true
    const full = () => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
    const files = mountFiles(dataDir, {
      before: (path, call) =>
        isFull && call === 'mkdir' && path.includes('/outputs') ? Promise.reject(full()) : undefined,
    })
    unmount = files.unmount
    const fixture = await startFixture({ dataDir })
    try {
      const id = await fixture.orchestrator.run(shellJob('true'))
      expect(await fixture.orchestrator.ended(id)).toMatchObject({
        state: 'Failed',
        code: 'compute.disk',
        retryable: true,
      })
      isFull = false
      const again = await fixture.orchestrator.run(shellJob('true'))
      expect(await fixture.orchestrator.ended(again)).toMatchObject({ state: 'Completed' })
    } finally {
      await fixture.close()
    }
  })

  it('says nothing of what was active before a restart until it knows how that goes on', async () => {
    const first = await book()
    first.open(desired)
    await first.accept(desired.executionId, memory)
    first.observe(desired.executionId, { state: 'Running', startTimeMs: 5 })
    first.acknowledge({ [desired.executionId]: first.get(desired.executionId)?.observed.sequence ?? 0 })
    await first.idle()

    // The file says Accepted; the orchestrator has heard more.
    const second = await book()
    expect(second.reports(1e6)).toEqual({ reports: [], more: false })
    await second.end(desired.executionId, { state: 'Failed', code: 'execution.lost' })
    const [told] = second.reports(1e6).reports
    expect(told?.observed.state).toBe('Failed')
    expect(told?.observed.sequence).toBeGreaterThan(1_000_000)
  })

  it('says an end again, above all that was heard, when its files had been cut back behind that', async () => {
    const first = await book()
    first.open(desired)
    await first.accept(desired.executionId, memory)
    await first.idle()
    const second = await book()
    const event = { topic: 'Execution', message: 'lost' }
    await second.end(desired.executionId, { state: 'Failed', code: 'execution.lost' }, event)
    const told = second.reports(1e6).reports[0]?.observed.sequence ?? 0

    // A process in between had said more, and a power cut took what it had written.
    second.acknowledge({ [desired.executionId]: told + 5 })
    const [again] = second.reports(1e6).reports
    expect(again?.observed).toMatchObject({ state: 'Failed', sequence: told + 6 })
    expect(again?.events).toMatchObject([{ message: 'lost', index: told + 6 }])
    second.acknowledge({ [desired.executionId]: told + 6 })
    expect(second.reports(1e6).reports).toEqual([])
  })

  async function book(): Promise<ExecutionBook> {
    const made = new ExecutionBook({
      dataDir,
      clock: CLOCK,
      logger: SILENT_LOGGER,
      onChange: () => undefined,
    })
    await made.load()
    return made
  }
})

const desired: DesiredExecution = {
  executionId: 'e-1',
  jobId: 'j-1',
  jobSpec: shellJob('true'),
  slot: 0,
  attempt: 0,
  state: 'Running',
  message: '',
  createTimeMs: 1,
  jobCreateTimeMs: 1,
}

const memory: RunMemory = {
  desired,
  resources: NO_RESOURCES,
  diskBytesMax: 1e6,
  bootId: 'b',
  phase: 'accepted',
  inputBytes: 0,
}
