import { statfs } from 'node:fs/promises'
import { arch, availableParallelism, platform, totalmem } from 'node:os'
import type { Resources } from '../model/resources.js'
import { CGROUP_PLACES, readCgroupLimits, type CgroupPlaces } from './cgroup-limits.js'
import { discoverGpus, type Gpu } from './gpu-discovery.js'

/** What this process has of the machine, and how the machine describes itself. */
export interface Machine {
  resources: Resources
  /** `Operating-System`, `Architecture`, and `GPU-<i>`, `GPU-<i>-Memory` per card. */
  labels: Record<string, string>
  /** What could not be found out, for the log. */
  problems: string[]
}

/**
 * Looks at the machine: cores and memory within the limits of the node's own process (affinity, control groups),
 * the free disk of `dataDir`, graphics cards.
 */
export async function detectMachine(dataDir: string, places: CgroupPlaces = CGROUP_PLACES): Promise<Machine> {
  const [limits, disk, { gpus, problems }] = await Promise.all([
    readCgroupLimits(places),
    statfs(dataDir),
    discoverGpus(),
  ])
  return {
    resources: {
      cpu: Math.min(availableParallelism(), limits.cpu),
      memoryBytes: Math.min(totalmem(), limits.memoryBytes),
      diskBytes: disk.bavail * disk.bsize,
      gpu: gpus.length,
    },
    labels: { 'Operating-System': platform(), Architecture: architecture(), ...gpuLabels(gpus) },
    problems,
  }
}

/** The names that container images and Bacalhau's labels use. */
function architecture(): string {
  const name = arch()
  return name === 'x64' ? 'amd64' : name
}

function gpuLabels(gpus: readonly Gpu[]): Record<string, string> {
  return Object.fromEntries(
    gpus.flatMap(({ name, memoryBytes }, index) => [
      [`GPU-${index}`, name.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '')],
      [`GPU-${index}-Memory`, `${Math.floor(memoryBytes / 1024 ** 2)}-MiB`],
    ]),
  )
}
