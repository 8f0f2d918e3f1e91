import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByteBudgets } from '../../src/egress/limits/byte-budget.js'
import { FairQueue } from '../../src/egress/limits/fair-queue.js'
import { HostConnections } from '../../src/egress/limits/host-connections.js'
import { Level } from '../../src/egress/limits/level.js'
import { inSeries, passage, type Turn, TokenBucket } from '../../src/egress/limits/token-bucket.js'
import {
  askedEgressLimits,
  type EgressLimits,
  narrowedEgressLimits,
  parseBitRate,
} from '../../src/model/index.js'

const NODE: EgressLimits = {
  bitsPerSecondUp: 10_000_000,
  bitsPerSecondDown: 10_000_000,
  bytesUpMax: 0,
  bytesDownMax: 0,
  requestsPerSecond: 200,
  connectionsMax: 256,
  hostConnectionsMax: 0,
  hostNamesMax: 1_000,
  budgets: [],
}

describe('a token bucket', () => {
  it('keeps what a late timer needs, so that a high rate is reached; slices grow with it', () => {
    let now = 0
    const end = new AbortController()
    const passedAtOnce = (bucket: TokenBucket) => {
      for (let bytes = 0; ; bytes += bucket.sliceBytes) {
        const turn = passage(bucket, bucket.sliceBytes, end.signal)
        if (turn === undefined) continue
        turn.catch(() => {})
        return bytes
      }
    }
    const usual = new TokenBucket(10_000_000, { now: () => now })
    const fast = new TokenBucket(1_000_000_000, { now: () => now })
    expect(usual.sliceBytes).toBe(8_192)
    expect(fast.sliceBytes).toBe(65_536)
    expect(passedAtOnce(usual)).toBe(32_768)
    // 26 ms of the rate: less than 3 % of a second, more than the timer is ever late on a quiet machine.
    expect(passedAtOnce(fast) / 125_000).toBeGreaterThan(25)
    expect(passedAtOnce(fast)).toBe(0)
    now = 5_000
    expect(passedAtOnce(new TokenBucket(1_000_000_000, { now: () => now })) / 125_000).toBeLessThan(27)
    end.abort(new Error('the test is over'))
  })
})

describe('two meters in a row', () => {
  it('let pass what both let pass, and take nothing for a piece that leaves the line', () => {
    let now = 0
    const clock = { now: () => now }
    const own = new TokenBucket(8_000_000, { ...clock, burstBytes: 8_192 })
    const shared = new TokenBucket(8_000_000, { ...clock, burstBytes: 8_192 })
    const meter = inSeries(own, shared.flow())
    const turn = (units: number): Turn & { granted: number } => {
      const one = { units, granted: 0, grant: () => void one.granted++ }
      return one
    }
    // 26 ms of the rate, 26,000 bytes, are there at first; the node's are used up by somebody else.
    while (shared.ask(turn(shared.sliceBytes)));
    const waits = turn(8_192)
    expect(meter.ask(waits)).toBe(false)
    meter.leave(waits)
    meter.leave(waits)
    // Three pieces of the own 26,000 bytes are there all the same.
    expect([1, 2, 3, 4].map(() => own.ask(turn(8_192)))).toEqual([true, true, true, false])
    expect(waits.granted).toBe(0)
    now += 1
  })

  it('grant a piece once, after both were paid', async () => {
    const own = new TokenBucket(80_000_000)
    const meter = inSeries(own, new TokenBucket(80_000_000).flow())
    const signal = new AbortController().signal
    let passed = 0
    while (passed < 1_000_000) {
      await passage(meter, meter.sliceBytes, signal)
      passed += meter.sliceBytes
    }
    const gone = AbortSignal.abort(new Error('gone'))
    expect(() => passage(meter, 1, gone)).toThrow('gone')
  })
})

describe('a level', () => {
  const steps = fc.array(
    fc.record({ afterMs: fc.integer({ min: -50, max: 500 }), units: fc.integer({ min: 1, max: 8_192 }) }),
    {
      minLength: 1,
      maxLength: 200,
    },
  )

  it('M-16 lets no more pass in any span of time than its burst and its rate times the span', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 5_000 }), (asked, perMs) => {
        const burst = 32_768
        const level = new Level(perMs, burst, 0)
        const passed: { atMs: number; units: number }[] = []
        let [now, latest] = [0, 0]
        for (const { afterMs, units } of asked) {
          now += afterMs
          latest = Math.max(latest, now)
          if (level.take(units, now)) passed.push({ atMs: latest, units })
        }
        for (const [first, { atMs: fromMs }] of passed.entries()) {
          let sum = 0
          for (const { atMs, units } of passed.slice(first)) {
            sum += units
            expect(sum).toBeLessThanOrEqual(burst + perMs * (atMs - fromMs) + 1e-6)
          }
        }
      }),
    )
  })

  it('says exactly when what is asked for will be there', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 1_000 }), (perMs, units) => {
        const level = new Level(perMs, 1_000, 0)
        level.take(1_000, 0)
        const waitMs = level.msUntil(units, 0)
        expect(level.take(units, waitMs * 0.99)).toBe(false)
        expect(level.take(units, waitMs + 1e-9)).toBe(true)
      }),
    )
  })

  it('gives places in line until the line is too long, and none out of turn', () => {
    const level = new Level(0.01, 1, 0)
    const waits = Array.from({ length: 5 }, () => level.reserve(1, 0, 300))
    expect(waits).toEqual([0, 100, 200, 300, undefined])
    expect(level.reserve(1, 100, 300)).toBeCloseTo(300)
  })
})

describe('a fair queue', () => {
  const QUANTUM = 8_192

  it('serves flows that always wait alike, whatever the size of their pieces and their number', () => {
    const flows = fc.array(fc.array(fc.integer({ min: 1, max: QUANTUM }), { minLength: 1, maxLength: 5 }), {
      minLength: 2,
      maxLength: 8,
    })
    fc.assert(
      fc.property(flows, fc.integer({ min: 50, max: 500 }), (sizes, rounds) => {
        const queue = new FairQueue<number, { units: number; flow: number; stream: number }>(QUANTUM)
        const add = (flow: number, stream: number) =>
          queue.add(flow, { units: sizes[flow]?.[stream] ?? 1, flow, stream })
        sizes.forEach((streams, flow) => {
          // One piece more in line per stream, so that no flow ever runs dry.
          streams.forEach((_, stream) => add(flow, stream))
          streams.forEach((_, stream) => add(flow, stream))
        })
        const served = sizes.map(() => 0)
        for (let round = 0; round < rounds; round++) {
          const turn = queue.shift()
          if (turn === undefined) throw new Error('somebody always waits')
          served[turn.flow] = (served[turn.flow] ?? 0) + turn.units
          add(turn.flow, turn.stream)
          expect(Math.max(...served) - Math.min(...served)).toBeLessThan(2 * QUANTUM)
        }
      }),
    )
  })

  it('serves everybody who waits exactly once, each flow in its order', () => {
    const turns = fc.array(
      fc.record({ flow: fc.integer({ min: 0, max: 4 }), units: fc.integer({ min: 1, max: QUANTUM }) }),
      {
        maxLength: 100,
      },
    )
    fc.assert(
      fc.property(turns, fc.func(fc.boolean()), (asked, isGone) => {
        const queue = new FairQueue<number, { flow: number; units: number; index: number }>(QUANTUM)
        const all = asked.map((turn, index) => ({ ...turn, index }))
        for (const turn of all) queue.add(turn.flow, turn)
        const gone = all.filter(({ index }) => isGone(index))
        for (const turn of gone) queue.remove(turn.flow, turn)
        const served: typeof all = []
        for (let turn = queue.shift(); turn !== undefined; turn = queue.shift()) served.push(turn)
        expect(queue.isEmpty).toBe(true)
        for (const flow of [0, 1, 2, 3, 4]) {
          const own = (list: typeof all) =>
            list.filter((turn) => turn.flow === flow).map(({ index }) => index)
          expect(own(served)).toEqual(own(all.filter((turn) => !gone.includes(turn))))
        }
      }),
    )
  })
})

describe('byte budgets', () => {
  it('let exactly as much pass as they hold, each domain inside the whole', () => {
    const draws = fc.array(
      fc.record({
        host: fc.constantFrom('a.test', 'b.test', 'x.a.test'),
        bytes: fc.integer({ min: 1, max: 5_000 }),
      }),
      { maxLength: 50 },
    )
    fc.assert(
      fc.property(
        draws,
        fc.integer({ min: 1, max: 20_000 }),
        fc.integer({ min: 1, max: 20_000 }),
        (asked, whole, part) => {
          const limits = {
            ...NODE,
            bytesUpMax: whole,
            budgets: [{ domain: '.a.test', bytesUpMax: part, bytesDownMax: 0 }],
          }
          const budgets = new ByteBudgets(limits)
          let [all, ofA] = [0, 0]
          for (const { host, bytes } of asked) {
            const isA = host.endsWith('a.test')
            const left = Math.min(whole - all, isA ? part - ofA : Infinity)
            const account = budgets.account(host, 443)
            if (left === 0) {
              expect(() => account.draw('up', bytes)).toThrow(/upload budget/)
              continue
            }
            const granted = account.draw('up', bytes)
            expect(granted).toBe(Math.min(bytes, left))
            all += granted
            if (isA) ofA += granted
            expect(account.draw('down', bytes)).toBe(bytes)
          }
        },
      ),
    )
  })

  it('name the domain that is used up, and take back what did not pass', () => {
    const budgets = new ByteBudgets({
      ...NODE,
      budgets: [{ domain: 'a.test:8443', bytesUpMax: 0, bytesDownMax: 10 }],
    })
    expect(budgets.account('a.test', 443).draw('down', 50)).toBe(50)
    const account = budgets.account('a.test', 8443)
    expect(account.draw('down', 50)).toBe(10)
    expect(() => account.check('down')).toThrow('the download budget for a.test:8443, 10 B, is used up')
    account.spend('down', -4)
    expect(account.draw('down', 50)).toBe(4)
  })
})

describe('connections to one host', () => {
  it('are shared by the executions of a job, and freed when they close', () => {
    const node = new HostConnections(0)
    const leave = node.join('j-1', 1)
    node.join('j-1', 1)
    node.join('j-2', 1)
    const first = node.open('j-1', 'a.test', 443)
    expect(node.open('j-1', 'a.test', 443)).toBeTypeOf('function')
    expect(node.open('j-1', 'a.test', 443)).toBeUndefined()
    expect(node.open('j-1', 'a.test', 80)).toBeTypeOf('function')
    expect(node.open('j-2', 'a.test', 443)).toBeTypeOf('function')
    first?.()
    first?.()
    leave()
    expect(node.open('j-1', 'a.test', 443)).toBeUndefined()
  })

  it("never exceed the operator's maximum, whatever jobs ask for", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 4 }),
        (max, shares) => {
          const node = new HostConnections(max)
          for (const share of shares) node.join('j-1', share)
          let open = 0
          while (open < 100 && node.open('j-1', 'a.test', 443) !== undefined) open++
          const asked = shares.includes(0) ? Infinity : shares.reduce((sum, share) => sum + share, 0)
          expect(open).toBe(Math.min(max, asked))
        },
      ),
    )
  })
})

describe('limits of a job', () => {
  it("are never more than the operator's, whatever it asks for", () => {
    const amount = fc.integer({ min: 0, max: 1_000 })
    const limits = fc.record({
      bitsPerSecondUp: amount,
      bitsPerSecondDown: amount,
      bytesUpMax: amount,
      bytesDownMax: amount,
      requestsPerSecond: amount,
      connectionsMax: amount,
      hostConnectionsMax: amount,
      hostNamesMax: amount,
      budgets: fc.constant<EgressLimits['budgets']>([]),
    })
    fc.assert(
      fc.property(limits, limits, (most, asked) => {
        const both = narrowedEgressLimits(most, asked)
        for (const key of Object.keys(most) as (keyof EgressLimits)[]) {
          if (key === 'budgets') continue
          const bound = (value: number) => value || Infinity
          expect(bound(both[key])).toBe(Math.min(bound(most[key]), bound(asked[key])))
        }
      }),
    )
  })

  it('are shared by the executions of a job where they hold for the job', () => {
    expect(askedEgressLimits({ HostConnectionsMax: 7 }, 3)).toEqual({ hostConnectionsMax: 2 })
    expect(askedEgressLimits({ BitsPerSecondUp: '2mbit', BytesDownMax: '1mb' })).toEqual({
      bitsPerSecondUp: 2_000_000,
      bytesDownMax: 1_000_000,
    })
  })

  it.each<[string, number]>([
    ['2mbit', 2_000_000],
    ['0.5 Mbit/s', 500_000],
    ['9600', 9_600],
    ['1gbps', 0],
    ['1gbitps', 1_000_000_000],
  ])('reads the rate %j as %d bits per second', (text, rate) => {
    if (rate === 0) expect(() => parseBitRate(text)).toThrow(/invalid rate/)
    else expect(parseBitRate(text)).toBe(rate)
  })
})
