import { breaks, shrink } from './shrink.js'
import { BrokenPromise, simulate, type WorldOptions } from './world.js'

/** A line of what this program prints: one world, or one that broke a promise. */
export type WorkerLine =
  | { seed: number; hash: number; counts: Record<string, number> }
  | { seed: number; broken: readonly string[]; lastLines: readonly string[] }

/**
 * Run by `scripts/simulate.mjs`: `run FROM COUNT [FAILURES_MAX]` prints a line of JSON per world, `replay OPTIONS` the whole
 * log of one, `shrink SEED` a smaller one that still breaks a promise.
 */
const [what = '', ...rest] = process.argv.slice(2)
if (what === 'run') await run(Number(rest[0]), Number(rest[1]), Number(rest[2] ?? Infinity))
else if (what === 'replay') await replay(JSON.parse(rest[0] ?? '{}') as Replay)
else if (what === 'shrink') await smaller(Number(rest[0]))

interface Replay extends Omit<WorldOptions, 'skip' | 'onLine'> {
  skip?: number[]
}

async function run(from: number, count: number, failuresMax: number): Promise<void> {
  let failures = 0
  for (let seed = from; seed < from + count && failures < failuresMax; seed++) {
    const line = await oneWorld(seed)
    if ('broken' in line) failures += 1
    print(line)
  }
}

async function oneWorld(seed: number): Promise<WorkerLine> {
  try {
    const { hash, counts } = await simulate({ seed })
    return { seed, hash, counts }
  } catch (error) {
    if (error instanceof BrokenPromise) return { seed, broken: error.promises, lastLines: error.lastLines }
    return {
      seed,
      broken: [`the world itself fails: ${String(error)}`],
      lastLines: [(error as Error).stack ?? ''],
    }
  }
}

async function replay({ skip, ...options }: Replay): Promise<void> {
  const onLine = (line: string): void => void process.stdout.write(`${line}\n`)
  const broken = await breaks({ ...options, ...(skip === undefined ? {} : { skip: new Set(skip) }), onLine })
  for (const promise of broken?.promises ?? []) process.stdout.write(`BROKEN: ${promise}\n`)
  process.stdout.write(
    broken === undefined ? 'all promises are kept\n' : `${broken.promises.length} broken\n`,
  )
}

async function smaller(seed: number): Promise<void> {
  const first = await breaks({ seed })
  if (first === undefined) return print({ seed, hash: 0, counts: {} })
  const { options, broken } = await shrink(first)
  const { skip, ...others } = options
  print({
    options: { ...others, skip: [...(skip ?? [])] },
    broken: broken.promises,
    lastLines: broken.lastLines,
  })
}

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
