import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, it } from 'vitest'
import { createOrchestrator } from '../../src/orchestrator/index.js'
import type { JobStore, Snapshot } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleSpec } from './samples.js'
import { SimulatedNode } from './simulated-node.js'
import { VirtualClock, seededChance } from './virtual-time.js'

// A snapshot keeps every record that was replaced since it was taken, so holding one means to remember all that ever was.
it('the orchestrator holds no snapshot of the past', async () => {
  const memory = openMemoryStore({ endedJobsMax: 1 })
  const taken: WeakRef<Snapshot>[] = []
  const store: JobStore = Object.assign(Object.create(memory) as JobStore, {
    snapshot: async () => {
      const snapshot = await memory.snapshot()
      taken.push(new WeakRef(snapshot))
      return snapshot
    },
    commit: memory.commit.bind(memory),
    endedJobs: memory.endedJobs.bind(memory),
  })
  const clock = new VirtualClock()
  const transport = createInProcessTransport({ clock, chance: seededChance(2) })
  const orchestrator = createOrchestrator({ store, transport, clock, chance: seededChance(1), nodeId: 'n' })
  await orchestrator.start()
  const node = new SimulatedNode({ nodeId: 'n-1', transport, clock, behave: () => ({ runMs: 100 }) })
  await node.start()
  for (let round = 0; round < 20; round++) {
    await orchestrator.submit({ spec: sampleSpec({ Count: 1 }), clientMeta: {} })
    await clock.pass(10_000)
  }
  expect(taken.length).toBeGreaterThan(50)
  setFlagsFromString('--expose_gc')
  const collect = runInNewContext('gc') as () => void
  // What was looked at last may still be on its way out.
  for (let turn = 0; turn < 3; turn++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  const held = taken.slice(0, -5).filter((one) => one.deref() !== undefined)
  expect(held).toHaveLength(0)
  await node.kill()
  await orchestrator.close()
  await transport.close()
  await memory.close()
})
