import { WeirError, toWeirError } from '../errors.js'
import { parseBytes, parseCpu, parseGpu, type Resources } from '../model/resources.js'
import type { CapacityConfig } from './options.js'

/**
 * What of the machine is offered to jobs, and the largest single job.
 *
 * An amount may be larger than what was found (an operator who knows better); a share may not exceed 100 %. Throws
 * `config.invalid` that names every wrong amount.
 */
export function offeredCapacity(
  machine: Resources,
  config: CapacityConfig = {},
): { maxCapacity: Resources; maxJobRequirements: Resources } {
  const mistakes: string[] = []
  const read = (name: string, text: string | undefined, fallback: string, found: number, parse: Parse) => {
    try {
      return amount(text ?? fallback, found, parse)
    } catch (error) {
      mistakes.push(`${name}: ${toWeirError(error).message}`)
      return 0
    }
  }
  const maxCapacity: Resources = {
    cpu: floorCpu(read('CPU', config.cpu, DEFAULT_SHARE, machine.cpu, parseCpu)),
    memoryBytes: Math.floor(read('memory', config.memory, DEFAULT_SHARE, machine.memoryBytes, parseBytes)),
    diskBytes: Math.floor(read('disk', config.disk, DEFAULT_SHARE, machine.diskBytes, parseBytes)),
    gpu: Math.ceil(read('GPU', config.gpu, '100%', machine.gpu, parseGpu)),
  }
  const { jobMax = {} } = config
  const least = (name: string, text: string | undefined, offered: number, parse: Parse) =>
    Math.min(offered, read(name, text, '100%', offered, parse))
  const maxJobRequirements: Resources = {
    cpu: floorCpu(least('CPU of a job', jobMax.cpu, maxCapacity.cpu, parseCpu)),
    memoryBytes: Math.floor(least('memory of a job', jobMax.memory, maxCapacity.memoryBytes, parseBytes)),
    diskBytes: Math.floor(least('disk of a job', jobMax.disk, maxCapacity.diskBytes, parseBytes)),
    gpu: Math.floor(least('GPUs of a job', jobMax.gpu, maxCapacity.gpu, parseGpu)),
  }
  if (mistakes.length > 0) {
    throw new WeirError('config.invalid', `Cannot use the offered capacity: ${mistakes.join('; ')}`, {
      hint: 'Write a share such as 70% or an amount such as 2 (cores) or 4gb',
    })
  }
  return { maxCapacity, maxJobRequirements }
}

type Parse = (text: string) => number

const DEFAULT_SHARE = '70%'

function amount(text: string, found: number, parse: Parse): number {
  const compact = text.trim()
  if (!compact.endsWith('%')) {
    if (compact === '') throw new WeirError('config.invalid', 'the amount is empty')
    return parse(compact)
  }
  const percent = Number(compact.slice(0, -1).trim() || Number.NaN)
  if (percent >= 0 && percent <= 100) return (found * percent) / 100
  throw new WeirError('config.invalid', `the share ${JSON.stringify(text)} is not between 0% and 100%`)
}

/** Thousandths, rounded down: what is offered is never more than the share. */
function floorCpu(cores: number): number {
  return Math.floor(cores * 1000 + 1e-6) / 1000
}
