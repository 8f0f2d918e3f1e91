import { describe, expect, it } from 'vitest'
import { INTAKE_LIMITS, Intake } from '../../src/transports/intake.js'
import { VirtualClock } from '../orchestrator/virtual-time.js'

describe('the intake of messages', () => {
  function fresh(limits: Partial<typeof INTAKE_LIMITS> = {}) {
    const clock = new VirtualClock()
    const floods: string[] = []
    const intake = new Intake(clock, { ...INTAKE_LIMITS, ...limits }, (from) => floods.push(from))
    return { clock, floods, intake }
  }

  it('takes what a well-behaved sender sends', async () => {
    const { clock, intake } = fresh()
    for (let index = 0; index < 1_000; index++) {
      const done = intake.take('a', 1_000)
      expect(done).toBeDefined()
      done?.()
      await clock.pass(10)
    }
  })

  it('takes a burst, then only as much as the rate allows', async () => {
    const { clock, intake } = fresh({ messagesPerSecond: 10 })
    const takenOf = (tries: number): number => {
      let taken = 0
      for (let index = 0; index < tries; index++) {
        const done = intake.take('a', 1)
        done?.()
        if (done !== undefined) taken += 1
      }
      return taken
    }
    expect(takenOf(1_000)).toBe(20)
    await clock.pass(1_000)
    expect(takenOf(1_000)).toBe(10)
    await clock.pass(3_600_000)
    expect(takenOf(1_000)).toBe(20)
  })

  it('counts bytes as well as messages', () => {
    const { intake } = fresh({ bytesPerSecond: 1_000 })
    expect(intake.take('a', 1_500)).toBeDefined()
    expect(intake.take('a', 600)).toBeUndefined()
    expect(intake.take('a', 500)).toBeDefined()
  })

  it('bounds what one sender has under way, and frees it with each answer', () => {
    const { intake } = fresh({ underWayMax: 2 })
    const first = intake.take('a', 1)
    expect(intake.take('a', 1)).toBeDefined()
    expect(intake.take('a', 1)).toBeUndefined()
    first?.()
    expect(intake.take('a', 1)).toBeDefined()
  })

  it('keeps senders apart', () => {
    const { intake } = fresh({ messagesPerSecond: 1, underWayMax: 1 })
    while (intake.take('loud', 1) !== undefined);
    expect(intake.take('quiet', 1)).toBeDefined()
  })

  it('reports a flood once, and not a sender that is refused now and then', async () => {
    const { clock, floods, intake } = fresh({ messagesPerSecond: 1, underWayMax: 1, floodMessages: 100 })
    intake.take('patient', 1)
    for (let index = 0; index < 300; index++) {
      intake.take('patient', 1)
      await clock.pass(1_000)
    }
    expect(floods).toEqual([])
    for (let index = 0; index < 1_000; index++) intake.take('loud', 1)
    expect(floods).toEqual(['loud'])
  })
})
