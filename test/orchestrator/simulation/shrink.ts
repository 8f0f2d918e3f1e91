import { BrokenPromise, simulate, type WorldOptions } from './world.js'

/** The promise that a world breaks; undefined when it keeps all. */
export async function breaks(options: WorldOptions): Promise<BrokenPromise | undefined> {
  try {
    await simulate(options)
    return undefined
  } catch (error) {
    if (error instanceof BrokenPromise) return error
    const { message, stack = '' } = error as Error
    return new BrokenPromise(options.seed, 0, [`the world itself fails: ${message}`], stack.split('\n'))
  }
}

/**
 * A smaller world that still breaks a promise of the same kind: fewer steps in which something is disturbed, then fewer
 * nodes. At most `tries` worlds are looked at.
 */
export async function shrink(
  first: BrokenPromise,
  tries = 60,
): Promise<{ options: WorldOptions; broken: BrokenPromise }> {
  let best: { options: WorldOptions; broken: BrokenPromise } = {
    options: { seed: first.seed },
    broken: first,
  }
  const kind = kindOf(first)
  let left = tries
  const attempt = async (options: WorldOptions): Promise<boolean> => {
    if (left-- <= 0) return false
    const broken = await breaks(options)
    if (broken === undefined || kindOf(broken) !== kind) return false
    best = { options, broken }
    return true
  }
  for (let size = Math.ceil(first.steps / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let from = 0; from < first.steps; from += size) {
      const skip = new Set(best.options.skip)
      for (let step = from; step < Math.min(from + size, first.steps); step++) skip.add(step)
      if (skip.size > (best.options.skip?.size ?? 0)) await attempt({ ...best.options, skip })
    }
  }
  for (const nodesMax of [1, 2, 3, 5]) if (await attempt({ ...best.options, nodesMax })) break
  return best
}

/** What is broken, without names and numbers. */
function kindOf({ promises: [first = ''] }: BrokenPromise): string {
  return first.replaceAll(/[ejn]-[0-9a-f-]+|\d+/g, '').slice(0, 60)
}
