import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCgroupLimits } from '../../src/compute/cgroup-limits.js'
import { discoverGpus, parseNvidia, parseRocm, parseXpu } from '../../src/compute/gpu-discovery.js'
import { detectMachine } from '../../src/compute/index.js'

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'weir-cgroup-'))
})
afterAll(() => rm(root, { recursive: true, force: true }))

let trees = 0
/** A directory that looks like the kernel's files. */
async function kernelFiles(files: Record<string, string>) {
  const base = join(root, String(++trees))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(base, name)), { recursive: true })
    await writeFile(join(base, name), text)
  }
  return { membershipFile: join(base, 'cgroup'), mount: join(base, 'fs') }
}

describe('readCgroupLimits', () => {
  it('takes the tightest of version 2 groups, own and above', async () => {
    const places = await kernelFiles({
      cgroup: '0::/system.slice/weir.service\n',
      'fs/system.slice/memory.max': '2000000000\n',
      'fs/system.slice/weir.service/memory.max': '3000000000\n',
      'fs/system.slice/weir.service/cpu.max': '150000 100000\n',
      'fs/system.slice/cpu.max': 'max 100000\n',
    })
    expect(await readCgroupLimits(places)).toEqual({ cpu: 1.5, memoryBytes: 2_000_000_000 })
  })

  it('takes version 1 groups, also where controllers share a directory', async () => {
    const places = await kernelFiles({
      cgroup: '4:memory:/a/b\n3:cpu,cpuacct:/a\n0::/\n',
      'fs/memory/a/memory.limit_in_bytes': '1073741824\n',
      'fs/memory/a/b/memory.limit_in_bytes': '9223372036854771712\n',
      'fs/cpu,cpuacct/a/cpu.cfs_quota_us': '50000\n',
      'fs/cpu,cpuacct/a/cpu.cfs_period_us': '100000\n',
    })
    expect(await readCgroupLimits(places)).toEqual({ cpu: 0.5, memoryBytes: 1024 ** 3 })
  })

  it('reads the root of the mount where the path of the group is not visible, as in a container', async () => {
    const places = await kernelFiles({
      cgroup: '0::/docker/0123\n',
      'fs/memory.max': '500000000\n',
      'fs/cpu.max': '200000 100000\n',
    })
    expect(await readCgroupLimits(places)).toEqual({ cpu: 2, memoryBytes: 500_000_000 })
  })

  it('finds no limit where there is none', async () => {
    const places = await kernelFiles({
      cgroup: '1:cpu:/\n0::/x\n',
      'fs/cpu/cpu.cfs_quota_us': '-1\n',
      'fs/cpu/cpu.cfs_period_us': '100000\n',
      'fs/x/memory.max': 'max\n',
    })
    expect(await readCgroupLimits(places)).toEqual({ cpu: Infinity, memoryBytes: Infinity })
  })
})

describe('graphics cards', () => {
  it('are read from each vendor’s tool', () => {
    expect(parseNvidia('Tesla T4, 15360\nNVIDIA A100-SXM4-40GB, 40960\n')).toEqual([
      { vendor: 'NVIDIA', name: 'Tesla T4', memoryBytes: 15_360 * 1024 ** 2 },
      { vendor: 'NVIDIA', name: 'NVIDIA A100-SXM4-40GB', memoryBytes: 40_960 * 1024 ** 2 },
    ])
    const rocm = JSON.stringify({
      card0: { 'Card series': 'Instinct MI210', 'VRAM Total Memory (B)': '68702699520' },
      system: { 'Driver version': '6.2' },
    })
    expect(parseRocm(rocm)).toEqual([{ vendor: 'AMD', name: 'Instinct MI210', memoryBytes: 68_702_699_520 }])
    expect(parseXpu('Device Name,Memory Physical Size\n"Intel(R) GPU Flex 170","14248.00 MiB"\n')).toEqual([
      { vendor: 'Intel', name: 'Intel(R) GPU Flex 170', memoryBytes: 14_248 * 1024 ** 2 },
    ])
  })

  it('are none where tools are missing, and a tool that fails is told', async () => {
    const found = await discoverGpus(async (program) => {
      if (program === 'nvidia-smi') throw new Error('driver not loaded')
      throw Object.assign(new Error('missing'), { code: 'ENOENT' })
    })
    expect(found).toEqual({ gpus: [], problems: ['nvidia-smi: driver not loaded'] })
  })
})

describe('detectMachine', () => {
  it('finds cores, memory and disk of this machine and labels it', async () => {
    const { resources, labels } = await detectMachine(tmpdir())
    expect(resources.cpu).toBeGreaterThan(0)
    expect(resources.memoryBytes).toBeGreaterThan(1024 ** 2)
    expect(resources.diskBytes).toBeGreaterThan(0)
    expect(labels).toMatchObject({ 'Operating-System': process.platform })
    expect(labels.Architecture).toMatch(/^(amd64|arm64|\w+)$/)
  })
})
