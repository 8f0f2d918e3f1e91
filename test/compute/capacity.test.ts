import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CapacityGate } from '../../src/compute/capacity-gate.js'
import { offeredCapacity } from '../../src/compute/offered-capacity.js'
import { nextTurn, type Waiting } from '../../src/compute/waiting-line.js'
import type { Resources } from '../../src/model/resources.js'

const GB = 1000 ** 3
const LIMITS = { queueLengthMax: 1_000, overtakesMax: 3 }
const resources = (cpu: number, memoryBytes = 0, diskBytes = 0, gpu = 0): Resources => ({
  cpu,
  memoryBytes,
  diskBytes,
  gpu,
})
const anyResources = fc.record({
  cpu: fc.integer({ min: 0, max: 40 }).map((tenths) => tenths / 10),
  memoryBytes: fc.integer({ min: 0, max: 4 * GB }),
  diskBytes: fc.integer({ min: 0, max: 100 }),
  gpu: fc.integer({ min: 0, max: 2 }),
})

describe('CapacityGate', () => {
  it('never hands out more than there is, and everybody gets a turn in the end', async () => {
    const total = resources(4, 4 * GB, 100, 2)
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            resources: anyResources,
            priority: fc.integer({ min: -2, max: 2 }),
            cancel: fc.boolean(),
          }),
          {
            maxLength: 40,
          },
        ),
        fc.infiniteStream(fc.nat()),
        async (asked, chance) => {
          const gate = new CapacityGate(total, LIMITS)
          const held = new Map<string, { resources: Resources; release: () => void }>()
          const outcomes = asked.map(async ({ resources: amount, priority, cancel }, index) => {
            const controller = new AbortController()
            const id = String(index)
            const entering = gate.enter({ id, priority, resources: amount }, controller.signal)
            if (cancel) queueMicrotask(() => controller.abort(new Error('cancelled')))
            try {
              held.set(id, { resources: amount, release: await entering })
              return 'held'
            } catch {
              return 'cancelled'
            }
          })
          for (let step = 0; step < 200; step++) {
            await new Promise(setImmediate)
            for (const amount of ['cpu', 'memoryBytes', 'diskBytes', 'gpu'] as const) {
              const used = [...held.values()].reduce((sum, one) => sum + one.resources[amount], 0)
              expect(used).toBeLessThanOrEqual(total[amount] + 1e-9)
              expect(gate.free[amount]).toBeCloseTo(total[amount] - used, 6)
            }
            const ids = [...held.keys()]
            if (ids.length === 0 && gate.waiting === 0) break
            const id = ids[(chance.next().value ?? 0) % Math.max(1, ids.length)] ?? ''
            held.get(id)?.release()
            held.get(id)?.release()
            held.delete(id)
          }
          const results = await Promise.all(outcomes)
          expect(results.every((result, index) => result === 'held' || asked[index]?.cancel)).toBe(true)
          expect(gate.free).toEqual(total)
        },
      ),
      { numRuns: 60 },
    )
  })

  it('refuses what could never fit and what does not fit into the line', async () => {
    const gate = new CapacityGate(resources(1), { queueLengthMax: 1, overtakesMax: 3 })
    const { signal } = new AbortController()
    const enter = (id: string, cpu: number) =>
      gate.enter({ id, priority: 0, resources: resources(cpu) }, signal)
    await expect(enter('huge', 2)).rejects.toMatchObject({ code: 'compute.resources', retryable: false })
    await enter('a', 1)
    void enter('b', 1)
    await expect(enter('c', 1)).rejects.toMatchObject({ code: 'compute.resources', retryable: true })
  })
})

describe('nextTurn', () => {
  const waiting = (id: string, priority: number, arrival: number, cpu: number, overtaken = 0): Waiting => ({
    id,
    priority,
    arrival,
    resources: resources(cpu),
    overtaken,
  })

  it('takes priority first, then age', () => {
    const line = [waiting('young', 1, 3, 1), waiting('old', 1, 2, 1), waiting('low', 0, 1, 1)]
    expect(nextTurn(line, resources(4), 3)?.start.id).toBe('old')
  })

  it('lets a small one pass a big one', () => {
    const turn = nextTurn([waiting('big', 0, 1, 4), waiting('small', 0, 2, 1)], resources(2), 3)
    expect(turn).toMatchObject({ start: { id: 'small' }, overtaken: [{ id: 'big' }] })
  })

  it('starts nobody behind one that was passed often enough', () => {
    const line = [waiting('big', 0, 1, 4, 3), waiting('small', 0, 2, 1)]
    expect(nextTurn(line, resources(2), 3)).toBeUndefined()
    expect(nextTurn(line, resources(4), 3)?.start.id).toBe('big')
  })

  it('still lets a higher priority go before one that was passed often enough', () => {
    const line = [waiting('big', 0, 1, 4, 3), waiting('urgent', 5, 2, 1)]
    expect(nextTurn(line, resources(2), 3)?.start.id).toBe('urgent')
  })
})

describe('offeredCapacity', () => {
  const machine = resources(8, 16 * GB, 100 * GB, 3)

  it('offers 70 % of the machine and all GPUs by default', () => {
    expect(offeredCapacity(machine).maxCapacity).toEqual(resources(5.6, 11.2 * GB, 70 * GB, 3))
  })

  it('takes shares and amounts, and a largest job within them', () => {
    const offered = offeredCapacity(machine, {
      cpu: '2',
      memory: '4gb',
      disk: '50%',
      gpu: '50%',
      jobMax: { cpu: '50%', memory: '8gb' },
    })
    expect(offered.maxCapacity).toEqual(resources(2, 4 * GB, 50 * GB, 2))
    expect(offered.maxJobRequirements).toEqual(resources(1, 4 * GB, 50 * GB, 2))
  })

  it('names every amount that cannot be read', () => {
    const offer = () => offeredCapacity(machine, { cpu: '120%', memory: 'lots', disk: '-1%', gpu: '' })
    expect(offer).toThrowError(expect.objectContaining({ code: 'config.invalid' }) as Error)
    expect(offer).toThrowError(/CPU: .*120%.*memory: .*lots.*disk: .*-1%.*GPU: the amount is empty/)
  })
})
