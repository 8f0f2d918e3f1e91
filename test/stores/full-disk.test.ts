import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, openSync, closeSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { JobStore } from '../../src/ports/index.js'
import { openSqliteStore } from '../../src/stores/index.js'
import { sampleJob } from '../orchestrator/samples.js'

const problem = await smallDiskProblem()
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`

describe.skipIf(problem !== undefined)(`the SQLite store on a disk that is full${skipped}`, () => {
  const disks: string[] = []
  afterEach(() => {
    for (const disk of disks.splice(0)) unmount(disk)
  })
  function smallDisk(): string {
    const disk = mount()
    disks.push(disk)
    return disk
  }

  it('says so, loses nothing that was acknowledged, and works again when there is room', async () => {
    const disk = smallDisk()
    const path = join(disk, 'jobs.db')
    const store = await openSqliteStore(path)
    const { acknowledged, refused } = await fill(store)
    expect(acknowledged.length).toBeGreaterThan(10)
    expect(refused.length).toBeGreaterThan(0)
    for (const { error } of refused) {
      expect(error).toMatchObject({
        code: 'store.unavailable',
        retryable: true,
        hint: expect.stringContaining('Free some disk space') as string,
      })
    }
    // Reading goes on, from memory and from disk, and knows nothing of what was refused.
    await expectExactly(store, acknowledged, refused)

    remount(disk, '32m')
    const revision = await store.commit({ jobs: [sampleJob({ id: 'j-after' })] })
    expect((await store.snapshot()).revision).toBe(revision)
    await store.close()
    const again = await openSqliteStore(path)
    await expectExactly(again, [...acknowledged, 'j-after'], refused)
    await again.close()
  })

  it('takes commits that were made on what got lost for stale', async () => {
    const disk = smallDisk()
    const store = await openSqliteStore(join(disk, 'jobs.db'))
    await fill(store)
    const large = store.commit({ jobs: [sampleJob({ id: 'j-large', message: 'x'.repeat(400_000) })] })
    const seen = await store.snapshot()
    await expect(large).rejects.toMatchObject({ code: 'store.unavailable' })
    remount(disk, '32m')
    await expect(
      store.commit({ jobs: [sampleJob({ id: 'j-built-on-it' })] }, seen.revision),
    ).rejects.toMatchObject({ code: 'store.stale' })
    await store.commit({ jobs: [sampleJob({ id: 'j-after' })] })
    await store.close()
  })

  it('cannot be opened where there is no room at all, and says so', async () => {
    const disk = smallDisk()
    const fd = openSync(join(disk, 'filler'), 'w')
    expect(() => {
      for (;;) writeSync(fd, Buffer.alloc(65_536))
    }).toThrow('ENOSPC')
    closeSync(fd)
    await expect(openSqliteStore(join(disk, 'jobs.db'))).rejects.toMatchObject({ code: 'store.unavailable' })
    remount(disk, '32m')
    await (await openSqliteStore(join(disk, 'jobs.db'))).close()
  })
})

describe('the SQLite store on a damaged file', () => {
  it('answers with an error, never with something else, and goes on where the file is sound', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-store-'))
    try {
      const path = join(dir, 'jobs.db')
      const store = await openSqliteStore(path)
      for (let index = 0; index < 400; index++) {
        const id = `j-${String(index).padStart(4, '0')}`
        await store.commit({ jobs: [sampleJob({ id, state: 'Completed', message: id.repeat(6_000) })] })
      }
      await store.close()
      copyFileSync(path, `${path}.sound`)
      const damaged = await openSqliteStore(path)
      // Behind its back, while it is open, in the middle of the file.
      const { size } = statSync(path)
      const fd = openSync(path, 'r+')
      const from = Math.floor(size / 2 / 4096) * 4096
      writeSync(fd, Buffer.alloc(Math.floor(size / 4), 0xa5), 0, undefined, from)
      closeSync(fd)
      const snapshot = await damaged.snapshot()
      let [sound, broken] = [0, 0]
      for (let index = 0; index < 400; index++) {
        const id = `j-${String(index).padStart(4, '0')}`
        try {
          const job = snapshot.job(id)
          if (job !== undefined) expect(job.message).toBe(id.repeat(6_000))
          sound += Number(job !== undefined)
        } catch (error) {
          expect(error).toMatchObject({ code: 'store.unavailable' })
          broken += 1
        }
      }
      expect(sound).toBeGreaterThan(0)
      expect(broken).toBeGreaterThan(0)
      await damaged.close()
      await expect(openSqliteStore(path)).rejects.toMatchObject({ code: 'store.unavailable' })
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
})

/** Commits of several jobs at once until one is refused, and some more. */
async function fill(
  store: JobStore,
): Promise<{ acknowledged: string[]; refused: { id: string; error: unknown }[] }> {
  const acknowledged: string[] = []
  const refused: { id: string; error: unknown }[] = []
  for (let round = 0; round < 200 && refused.length < 6; round++) {
    await Promise.all(
      ['a', 'b', 'c'].map(async (part) => {
        const id = `j-${round}-${part}`
        // Every second one has ended, so it is read from disk and not from memory.
        const state = round % 2 === 0 ? 'Completed' : 'Running'
        try {
          await store.commit({ jobs: [sampleJob({ id, state, message: 'x'.repeat(20_000) })] })
          acknowledged.push(id)
        } catch (error) {
          refused.push({ id, error })
        }
      }),
    )
  }
  return { acknowledged, refused }
}

async function expectExactly(
  store: JobStore,
  acknowledged: readonly string[],
  refused: readonly { id: string }[],
): Promise<void> {
  const snapshot = await store.snapshot()
  expect(acknowledged.filter((id) => snapshot.job(id) === undefined)).toEqual([])
  expect(refused.filter(({ id }) => snapshot.job(id) !== undefined)).toEqual([])
  const listed = await store.listJobs({ orderBy: 'created_at', reverse: false, limit: 0, offset: 0 })
  expect(listed.jobs.map((job) => job.id).toSorted()).toEqual([...acknowledged].toSorted())
}

function mount(size = '2m'): string {
  const dir = mkdtempSync(join(tmpdir(), 'weir-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'weir-test', dir], { stdio: 'pipe' })
  } catch (error) {
    rmSync(dir, { recursive: true, force: true })
    throw error
  }
  return dir
}

function remount(disk: string, size: string): void {
  execFileSync('mount', ['-o', `remount,size=${size}`, disk], { stdio: 'pipe' })
}

function unmount(disk: string): void {
  execFileSync('umount', ['-l', disk], { stdio: 'pipe' })
  rmSync(disk, { recursive: true, force: true })
}

async function smallDiskProblem(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    await import('better-sqlite3')
  } catch {
    return 'better-sqlite3 is not installed'
  }
  try {
    unmount(mount())
    return undefined
  } catch {
    return 'a file system in memory cannot be mounted here'
  }
}
