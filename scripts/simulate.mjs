// Simulated networks, one per seed: an orchestrator, nodes, users and an operator on disks, clocks and a network that
// misbehave. Each world is checked at every commit and at its end; the same seed is the same world.
//
//   node scripts/simulate.mjs --seeds 10000 [--from 1] [--jobs 2]   a long run with a summary
//   node scripts/simulate.mjs --replay 1234 [--skip 3,4] [--nodes 2]  one world, its whole log
//   node scripts/simulate.mjs --shrink 1234                         a smaller world that breaks the same promise
//   node scripts/simulate.mjs --mutations [--only TEXT] [--seeds N]  each protection taken out: do the worlds notice?
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { bundleSimulation } from './simulate/bundle.mjs'
import { MUTATIONS } from './simulate/mutations.mjs'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    from: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '1' },
    replay: { type: 'string' },
    skip: { type: 'string' },
    nodes: { type: 'string' },
    shrink: { type: 'string' },
    mutations: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
})

/** Worlds that one process looks at before the next one takes over: memory stays small. */
const BATCH = 250
/** One in so many worlds is looked at twice: the same seed has to be the same world. */
const VERIFIED_EACH = 200
const scratch = mkdtempSync(join(tmpdir(), 'weir-simulate-'))
const children = new Set()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

process.exitCode = await main()

async function main() {
  if (values.mutations) return tryMutations()
  const program = join(scratch, 'simulation.mjs')
  await bundleSimulation(program)
  if (values.replay !== undefined) return show(program)
  if (values.shrink !== undefined) return shrink(program, Number(values.shrink))
  return longRun(program, Number(values.from), Number(values.seeds ?? 1_000), Number(values.jobs))
}

async function longRun(program, from, seeds, jobs) {
  const startMs = Date.now()
  const total = {}
  const failures = []
  const hashes = new Map()
  let done = 0
  let next = from
  let shownMs = startMs
  const take = (line) => {
    done += 1
    if (line.broken === undefined) {
      if (line.seed % VERIFIED_EACH === 0) hashes.set(line.seed, line.hash)
      for (const [what, count] of Object.entries(line.counts)) total[what] = (total[what] ?? 0) + count
    } else {
      failures.push(line)
      tell(line)
    }
    if (Date.now() - shownMs < 10_000) return
    shownMs = Date.now()
    const perSecond = (done / ((shownMs - startMs) / 1000)).toFixed(1)
    console.error(`${done} of ${seeds} worlds, ${perSecond} a second, ${failures.length} broke a promise`)
  }
  const work = async () => {
    while (next < from + seeds) {
      let first = next
      const end = Math.min(first + BATCH, from + seeds)
      next = end
      while (first < end) {
        await lines(program, ['run', String(first), String(end - first)], (line) => {
          first = line.seed + 1
          take(line)
        })
        if (first === end) break
        take({ seed: first, broken: ['the process ended in the middle of this world'], lastLines: [] })
        first += 1
      }
    }
  }
  await Promise.all(Array.from({ length: jobs }, work))
  const seconds = ((Date.now() - startMs) / 1000).toFixed(0)
  console.log(`\nseeds ${from} to ${from + seeds - 1}: ${done} worlds in ${seconds} s`)
  for (const [what, count] of Object.entries(total).sort(([a], [b]) => (a < b ? -1 : 1))) {
    console.log(`${String(count).padStart(12)}  ${what}`)
  }
  const changed = await seenOtherwise(program, hashes)
  console.log(`${hashes.size} of them looked at once more: ${changed.length} were not the same world`)
  for (const seed of changed) console.log(`  seed ${seed}`)
  if (done < seeds) console.log(`only ${done} of ${seeds} worlds came to an end`)
  console.log(failures.length === 0 ? 'all promises were kept' : `${failures.length} worlds broke a promise`)
  for (const { seed } of failures.slice(0, 20)) console.log(`  node scripts/simulate.mjs --replay ${seed}`)
  return failures.length === 0 && changed.length === 0 && done === seeds ? 0 : 1
}

/** Seeds whose world is another one the second time, in another process. */
async function seenOtherwise(program, hashes) {
  const changed = []
  for (const [seed, hash] of hashes) {
    await lines(program, ['run', String(seed), '1'], (again) => {
      if (again.hash !== hash) changed.push(seed)
    })
  }
  return changed
}

function tell({ seed, broken, lastLines }) {
  console.log(`\nseed ${seed} breaks a promise:`)
  for (const promise of broken.slice(0, 5)) console.log(`  ${promise}`)
  console.log('the last events:')
  for (const line of lastLines.slice(-15)) console.log(`  ${line.slice(0, 220)}`)
  console.log(`replay: node scripts/simulate.mjs --replay ${seed}`)
}

async function show(program) {
  const options = {
    seed: Number(values.replay),
    ...(values.skip === undefined ? {} : { skip: values.skip.split(',').filter(Boolean).map(Number) }),
    ...(values.nodes === undefined ? {} : { nodesMax: Number(values.nodes) }),
  }
  let last = ''
  await texts(program, ['replay', JSON.stringify(options)], (line) => {
    last = line
    console.log(line)
  })
  return last === 'all promises are kept' ? 0 : 1
}

async function shrink(program, seed) {
  let found
  await lines(program, ['shrink', String(seed)], (line) => (found = line))
  if (found?.options === undefined) {
    console.log(`seed ${seed} breaks no promise`)
    return 0
  }
  for (const promise of found.broken.slice(0, 5)) console.log(promise)
  for (const line of found.lastLines.slice(-40)) console.log(`  ${line.slice(0, 220)}`)
  const { skip, nodesMax } = found.options
  const nodes = nodesMax === undefined ? '' : ` --nodes ${nodesMax}`
  console.log(`replay: node scripts/simulate.mjs --replay ${seed} --skip ${skip.join(',')}${nodes}`)
  return 1
}

async function tryMutations() {
  const chosen = MUTATIONS.filter(({ name }) => values.only === undefined || name.includes(values.only))
  const seeds = Number(values.seeds ?? 300)
  let survivors = 0
  for (const [index, mutation] of chosen.entries()) {
    const program = join(scratch, `mutation-${index}.mjs`)
    await bundleSimulation(program, mutation)
    let looked = 0
    let promise
    await lines(program, ['run', values.from, String(seeds), '1'], (line) => {
      looked += 1
      promise ??= line.broken?.[0]
    })
    if (promise === undefined) survivors += 1
    const verdict =
      promise === undefined
        ? `NOT NOTICED in ${looked} worlds`
        : `noticed in world ${looked}: ${promise.slice(0, 110)}`
    console.log(`${mutation.name}: ${verdict}`)
  }
  console.log(`${chosen.length - survivors} of ${chosen.length} noticed`)
  return survivors === 0 && chosen.length > 0 ? 0 : 1
}

function lines(program, args, take) {
  return texts(program, args, (text) => take(JSON.parse(text)))
}

async function texts(program, args, take) {
  const child = spawn(process.execPath, ['--enable-source-maps', program, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.add(child)
  const ended = new Promise((resolve) => child.once('close', resolve))
  for await (const line of createInterface({ input: child.stdout })) take(line)
  await ended
  children.delete(child)
}
