import { spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import {
  chmod,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises' // prettier-ignore
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { collectOutputs, type CollectLimits } from '../../src/compute/collect-outputs.js'
import { OpenDirectory } from '../../src/compute/open-directory.js'
import { removeTree } from '../../src/compute/remove-tree.js'

let dir = ''
let out = ''
let into = ''
beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'weir-collect-')))
  out = join(dir, 'out')
  into = join(dir, 'into')
  await mkdir(out)
  await mkdir(into)
})
afterEach(() => removeTree(dir))

const never = new AbortController().signal
const collect = (limits: Partial<CollectLimits> = {}, signal = never) =>
  collectOutputs(
    [{ name: 'outputs', hostDir: out }],
    into,
    { bytesMax: 10_000_000, filesMax: 10_000, ...limits },
    signal,
  )
const collected = (...path: string[]) => join(into, 'outputs', ...path)

/** Makes directories one in another, deeper than a path can say; returns nothing but the tree. */
function makeDeep(at: string, depth: number): void {
  let current = new OpenDirectory(at)
  for (let i = 0; i < depth; i += 1) {
    writeFileSync(current.path('f'), String(i))
    mkdirSync(current.path('d'))
    const next = new OpenDirectory(current.path('d'))
    current.close()
    current = next
  }
  current.close()
}

describe('collecting', () => {
  it('moves files and directories, also empty ones, and counts them', async () => {
    await mkdir(join(out, 'a', 'empty'), { recursive: true })
    await writeFile(join(out, 'a', 'one'), 'hello')
    await writeFile(join(out, 'two'), '')
    expect(await collect()).toEqual({ bytes: 5, files: 2, skipped: [], skippedCount: 0 })
    expect(await readFile(collected('a', 'one'), 'utf8')).toBe('hello')
    expect(await readdir(collected('a'))).toEqual(['empty', 'one'])
    expect(await readFile(collected('two'), 'utf8')).toBe('')
  })

  it('gives every output its directory, also when the program removed or replaced it', async () => {
    await symlink('/etc', join(dir, 'evil'))
    const result = await collectOutputs(
      [
        { name: 'outputs', hostDir: out },
        { name: 'gone', hostDir: join(dir, 'gone') },
        { name: 'evil', hostDir: join(dir, 'evil') },
      ],
      into,
      { bytesMax: 1000, filesMax: 10 },
      never,
    )
    expect((await readdir(into)).toSorted()).toEqual(['evil', 'gone', 'outputs'])
    expect(await readdir(join(into, 'evil'))).toEqual([])
    expect(result.skipped.map(({ path }) => path)).toEqual(['gone', 'evil'])
  })

  it('P-17 keeps to the directory that was opened before the run when its path means something else now', async () => {
    const opened = new OpenDirectory(out)
    await writeFile(join(out, 'mine'), 'x')
    await rename(out, join(dir, 'moved'))
    await symlink('/etc', out)
    try {
      await collectOutputs(
        [{ name: 'outputs', hostDir: out, opened }],
        into,
        { bytesMax: 9, filesMax: 9 },
        never,
      )
    } finally {
      opened.close()
    }
    expect(await readdir(collected())).toEqual(['mine'])
  })

  it('O-26 leaves out links, pipes, sockets and devices, and never their targets', async () => {
    await symlink('/etc/passwd', join(out, 'shadow'))
    await symlink('/etc', join(out, 'etc'))
    await symlink('nowhere', join(out, 'dangling'))
    spawnSync('mkfifo', [join(out, 'pipe')])
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(out, 'socket'), resolve))
    const device = spawnSync('mknod', [join(out, 'null'), 'c', '1', '3']).status === 0
    await writeFile(join(out, 'good'), 'x')
    const result = await collect()
    await new Promise((resolve) => server.close(resolve))
    expect(await readdir(collected())).toEqual(['good'])
    const reasons = Object.fromEntries(result.skipped.map(({ path, reason }) => [path, reason]))
    expect(reasons).toMatchObject({
      'outputs/shadow': expect.stringContaining('symbolic link'),
      'outputs/etc': expect.stringContaining('symbolic link'),
      'outputs/dangling': expect.stringContaining('symbolic link'),
      'outputs/pipe': 'it is a named pipe',
      'outputs/socket': 'it is a socket',
      ...(device ? { 'outputs/null': 'it is a device' } : {}),
    })
  })

  it('O-26 copies hard-linked files, so that nothing outside is tied to the result', async () => {
    await writeFile(join(dir, 'outside'), 'secret')
    await link(join(dir, 'outside'), join(out, 'linked'))
    await writeFile(join(out, 'a'), 'twice')
    await link(join(out, 'a'), join(out, 'b'))
    expect(await collect()).toMatchObject({ files: 3, bytes: 16, skippedCount: 0 })
    await writeFile(join(dir, 'outside'), 'changed')
    expect(await readFile(collected('linked'), 'utf8')).toBe('secret')
    for (const name of ['a', 'b', 'linked']) expect((await stat(collected(name))).nlink).toBe(1)
  })

  it('takes set-user-id bits and odd rights away', async () => {
    await writeFile(join(out, 'tool'), 'x')
    await chmod(join(out, 'tool'), 0o6711)
    await writeFile(join(out, 'hidden'), 'x')
    await chmod(join(out, 'hidden'), 0o000)
    await mkdir(join(out, 'locked'))
    await writeFile(join(out, 'locked', 'f'), 'x')
    await chmod(join(out, 'locked'), 0o000)
    expect(await collect()).toMatchObject({ files: 3, skippedCount: 0 })
    expect((await stat(collected('tool'))).mode & 0o7777).toBe(0o755)
    expect((await stat(collected('hidden'))).mode & 0o7777).toBe(0o644)
    expect((await stat(collected('locked'))).mode & 0o777).toBe(0o755)
  })

  it('O-25 leaves out what does not fit, sparse files by their apparent size, and takes the rest', async () => {
    const fd = openSync(join(out, 'sparse'), 'w')
    ftruncateSync(fd, 2 ** 40)
    closeSync(fd)
    linkSync(join(out, 'sparse'), join(out, 'sparse2'))
    await writeFile(join(out, 'small'), 'x'.repeat(1000))
    const result = await collect({ bytesMax: 1_000_000 })
    expect(result).toMatchObject({ files: 1, bytes: 1000, skippedCount: 2 })
    expect(result.skipped[0]?.reason).toBe(
      'its 1099511627776 bytes do not fit into the limit of 1000000 bytes',
    )
    expect(await readdir(collected())).toEqual(['small'])
  })

  it('O-25 stops at the limit of files and directories, and says so once', async () => {
    for (let i = 0; i < 3000; i += 1) writeFileSync(join(out, `f${i}`), '')
    const result = await collect({ filesMax: 1000 })
    expect(result).toMatchObject({ files: 1000, skippedCount: 1 })
    expect(result.skipped[0]?.reason).toMatch(/limit of 1000 files and directories was reached/)
    expect((await readdir(collected())).length).toBe(1000)
  })

  it('is bounded by directories and by links as well, and so is the list of what was left out', async () => {
    for (let i = 0; i < 500; i += 1) mkdirSync(join(out, `d${i}`))
    expect(await collect({ filesMax: 100 })).toMatchObject({ files: 0, skippedCount: 1 })
    await removeTree(join(into, 'outputs'))
    await removeTree(out)
    await mkdir(out)
    for (let i = 0; i < 2500; i += 1) symlinkSync('x', join(out, `l${i}`))
    const result = await collect({ filesMax: 100 })
    expect(result.skippedCount).toBe(2001)
    expect(result.skipped.length).toBe(1000)
  })

  it('O-25 takes a tree of 5,000 directories as far as results go', async () => {
    makeDeep(out, 5000)
    const result = await collect()
    expect(result).toMatchObject({ files: 127, skippedCount: 2 })
    expect(result.skipped[0]?.reason).toBe('it is deeper than 128 directories')
    expect(result.skipped[0]?.path.length).toBeLessThan(500)
    expect(spawnSync('tar', ['-cf', '/dev/null', '-C', into, '.']).status).toBe(0)
  })

  it('leaves out paths that are too long to unpack anywhere', async () => {
    let current = new OpenDirectory(out)
    for (let i = 0; i < 14; i += 1) {
      mkdirSync(current.path('n'.repeat(255)))
      const next = new OpenDirectory(current.path('n'.repeat(255)))
      current.close()
      current = next
    }
    current.close()
    expect((await collect()).skipped[0]?.reason).toBe('its path is longer than 3072 bytes')
  })

  it('keeps odd names that are UTF-8, and leaves out others, with a list that is safe to show', async () => {
    const names = ['line\nbreak', '\u202egnp.exe', '..%2fup', '-rf', ' ', 'x'.repeat(255), '\u001b[2J']
    for (const name of names) await writeFile(join(out, name), 'x')
    await writeFile(Buffer.concat([Buffer.from(join(out, 'bad')), Buffer.from([0xff, 0x0a])]), 'x')
    const result = await collect()
    expect((await readdir(collected())).toSorted()).toEqual(names.toSorted())
    expect(result.skipped).toEqual([{ path: 'outputs/badÿ\\u000a', reason: 'its name is not UTF-8' }])
  })

  it('ends with the reason of the signal', async () => {
    await writeFile(join(out, 'f'), 'x')
    await expect(collect({}, AbortSignal.abort(new Error('node stops')))).rejects.toThrow('node stops')
  })

  it('says what is wrong when the result directory cannot be written', async () => {
    await rm(into, { recursive: true })
    await expect(collect()).rejects.toMatchObject({ code: 'publisher.failed' })
  })

  const shm = existsSync('/dev/shm') && spawnSync('df', ['/dev/shm', tmpdir()]).status === 0
  it.skipIf(!shm)(
    `copies when the outputs are on another file system${shm ? '' : ' (skipped: needs /dev/shm)'}`,
    async () => {
      const other = await mkdtemp('/dev/shm/weir-collect-')
      try {
        await writeFile(join(other, 'f'), 'x'.repeat(3_000_000))
        const limits = { bytesMax: 10_000_000, filesMax: 10 }
        const result = await collectOutputs([{ name: 'outputs', hostDir: other }], into, limits, never)
        expect(result).toMatchObject({ files: 1, bytes: 3_000_000, skippedCount: 0 })
        expect((await stat(collected('f'))).size).toBe(3_000_000)
      } finally {
        await removeTree(other)
      }
    },
  )

  const mounts = process.geteuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
  it.skipIf(!mounts)(
    `does not enter a mounted file system${mounts ? '' : ' (skipped: needs root)'}`,
    async () => {
      await mkdir(join(out, 'mnt'))
      expect(
        spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'weir-test', join(out, 'mnt')]).status,
      ).toBe(0)
      try {
        await writeFile(join(out, 'mnt', 'inside'), 'x')
        expect((await collect()).skipped).toEqual([
          { path: 'outputs/mnt', reason: 'another file system is mounted there' },
        ])
        await expect(removeTree(out)).rejects.toMatchObject({ code: 'compute.cleanup' })
        expect(existsSync(join(out, 'mnt', 'inside'))).toBe(true)
      } finally {
        spawnSync('umount', [join(out, 'mnt')])
      }
    },
  )
})

describe('removing a tree', () => {
  it('removes any depth, names, rights and kinds, and never what links point to', async () => {
    await mkdir(join(dir, 'precious'))
    await writeFile(join(dir, 'precious', 'f'), 'x')
    makeDeep(out, 700)
    await symlink(join(dir, 'precious'), join(out, 'link'))
    await mkdir(join(out, 'locked', 'inner'), { recursive: true })
    await chmod(join(out, 'locked', 'inner'), 0o000)
    await chmod(join(out, 'locked'), 0o555)
    await writeFile(Buffer.concat([Buffer.from(join(out, 'bad')), Buffer.from([0xff])]), 'x')
    spawnSync('mkfifo', [join(out, 'pipe')])
    await removeTree(out)
    expect((await readdir(dir)).toSorted()).toEqual(['into', 'precious'])
    expect(await readdir(join(dir, 'precious'))).toEqual(['f'])
  })

  it('removes a link itself, a file, and accepts what is missing', async () => {
    await symlink(into, join(dir, 'link'))
    await removeTree(join(dir, 'link'))
    expect((await lstat(into)).isDirectory()).toBe(true)
    await writeFile(join(dir, 'file'), 'x')
    await removeTree(join(dir, 'file'))
    await removeTree(join(dir, 'missing'))
    expect((await readdir(dir)).toSorted()).toEqual(['into', 'out'])
  })

  it('lets other work happen in between', async () => {
    for (let i = 0; i < 3000; i += 1) writeFileSync(join(out, `f${i}`), '')
    let turns = 0
    const timer = setInterval(() => (turns += 1), 1)
    await removeTree(out)
    clearInterval(timer)
    expect(turns).toBeGreaterThan(1)
  })
})

describe('a collection that was cut off', () => {
  const limits = { bytesMax: 10_000, filesMax: 100 }
  const again = () =>
    collectOutputs([{ name: 'outputs', hostDir: out }], into, limits, never, { again: true })

  it('is finished: what was brought stays and counts, what was half copied is copied anew', async () => {
    await mkdir(join(out, 'sub'))
    await writeFile(join(out, 'sub', 'first'), 'first')
    await collect()
    // As it is when the node dies between a file's move and its rights, and in the middle of copying a linked one.
    await chmod(collected('sub', 'first'), 0o4711)
    await writeFile(join(out, 'linked'), 'linked content')
    await link(join(out, 'linked'), join(out, 'twin'))
    await writeFile(collected('linked'), 'linked co')
    await writeFile(join(out, 'sub', 'second'), 'second')
    const { files, bytes, skippedCount } = await again()
    expect({ files, bytes, skippedCount }).toEqual({ files: 4, bytes: 5 + 6 + 14 + 14, skippedCount: 0 })
    expect(await readFile(collected('linked'), 'utf8')).toBe('linked content')
    expect(await readFile(collected('sub', 'first'), 'utf8')).toBe('first')
    expect(await readFile(collected('sub', 'second'), 'utf8')).toBe('second')
    expect((await stat(collected('sub', 'first'))).mode & 0o7777).toBe(0o755)
  })

  it('gives the same when it is done once more, and begins from nothing as well', async () => {
    await writeFile(join(out, 'file'), 'content')
    expect(await again()).toMatchObject({ files: 1, bytes: 7 })
    expect(await again()).toMatchObject({ files: 1, bytes: 7 })
    expect(await readFile(collected('file'), 'utf8')).toBe('content')
  })

  it('keeps to the limits over both together', async () => {
    await writeFile(join(out, 'large'), 'x'.repeat(9_000))
    await collect()
    await writeFile(join(out, 'more'), 'y'.repeat(2_000))
    expect(await again()).toMatchObject({ files: 1, bytes: 9_000, skippedCount: 1 })
  })
})
