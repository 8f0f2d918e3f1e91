import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { simulate } from './simulation/world.js'

/** Another first seed: `WEIR_SIMULATION_SEED=1234`; a failing seed names itself and the command that replays it. */
const FIRST = Number(process.env.WEIR_SIMULATION_SEED ?? 1)
const SEEDS = Number(process.env.WEIR_SIMULATION_SEEDS ?? 60)

describe('a network that misbehaves', () => {
  it(`keeps its promises in ${SEEDS} simulated worlds`, { timeout: 600_000 }, async () => {
    const sum: Record<string, number> = {}
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const { counts } = await simulate({ seed }).catch((error: unknown) => {
        throw new Error(`${String(error)}\nreplay: node scripts/simulate.mjs --replay ${seed}`, {
          cause: error,
        })
      })
      for (const [what, count] of Object.entries(counts)) sum[what] = (sum[what] ?? 0) + count
    }
    // The worlds are worth looking at: all of this happened in them, and work was done all the same.
    const happened = [
      'orchestrator crashes',
      'orchestrator restarts',
      'commits lost with a crash',
      'nodes killed',
      'nodes power cut',
      'nodes wiped',
      'nodes closed',
      'partitions',
      'messages lost in partitions',
      'clocks set',
      'offers changed',
      'disk of the orchestrator: slow',
      'disk of the orchestrator: loses',
      'disks of nodes full',
      'nodes: reject',
      'nodes: delete',
      'strangers',
      'real nodes',
      'light nodes',
      'batch Completed',
      'batch Failed',
      'batch Stopped',
      'ops Completed',
      'ops Failed',
      'service Stopped',
      'daemon Stopped',
    ]
    for (const what of SEEDS < 60 ? [] : happened) expect(sum[what] ?? 0, what).toBeGreaterThan(0)
    expect(sum.executions).toBeGreaterThan(10 * SEEDS)
  })

  it('is the same world for the same seed', async () => {
    for (const seed of [3, 7, 42]) expect(await simulate({ seed })).toEqual(await simulate({ seed }))
  })
})

describe('a protection that is taken out', () => {
  // All of them: `node scripts/simulate.mjs --mutations`.
  it.each(['an end is stored without', 'a second live execution of a slot', 'evaluations are forgotten'])(
    'is noticed: %s',
    { timeout: 300_000 },
    (name) => {
      const script = join(import.meta.dirname, '../../scripts/simulate.mjs')
      const args = [script, '--mutations', '--only', name, '--seeds', '200']
      const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' })
      expect(`${stdout}${stderr}`).toContain('1 of 1 noticed')
      expect(status).toBe(0)
    },
  )
})
