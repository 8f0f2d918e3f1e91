import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { packDirectory } from '../../src/client/upload.js'
import { inlineSource } from '../../src/sources/index.js'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-upload-'))
  await mkdir(join(dir, 'in', 'deep'), { recursive: true })
  await mkdir(join(dir, 'node'))
  await writeFile(join(dir, 'in', 'deep', 'a'), 'hello')
  await writeFile(join(dir, 'main.wasm'), 'module'.repeat(1000))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

async function unpackedOnNode(URL: string) {
  const input = { Source: { Type: 'inline', Params: { URL } }, Alias: '', Target: '/inputs' }
  const limits = { bytesMax: 1_000_000 }
  const [volume] = await inlineSource().fetch(input, join(dir, 'node'), limits, new AbortController().signal)
  return volume?.hostPath ?? ''
}

describe('an upload', () => {
  it('of a file arrives as that file', async () => {
    const url = await packDirectory(join(dir, 'main.wasm'))
    expect(url).toMatch(/^data:application\/octet-stream;base64,/)
    expect(await readFile(await unpackedOnNode(url), 'utf8')).toBe('module'.repeat(1000))
  })

  it('of a file can be compressed, and is the only file of a directory then', async () => {
    const url = await packDirectory(join(dir, 'main.wasm'), { compressFile: true })
    expect(url).toMatch(/^data:application\/gzip;base64,/)
    expect(url.length).toBeLessThan(500)
    expect(await readFile(join(await unpackedOnNode(url), 'main.wasm'), 'utf8')).toBe('module'.repeat(1000))
  })

  it('of a directory arrives as that directory, and is the same every time', async () => {
    const url = await packDirectory(join(dir, 'in'))
    expect(await packDirectory(join(dir, 'in'))).toBe(url)
    expect(await readFile(join(await unpackedOnNode(url), 'deep', 'a'), 'utf8')).toBe('hello')
  })

  it('follows a link at the path itself, not inside', async () => {
    await symlink(join(dir, 'in'), join(dir, 'link'))
    expect(await packDirectory(join(dir, 'link'))).toBe(await packDirectory(join(dir, 'in')))
    await symlink('/etc/passwd', join(dir, 'in', 'deep', 'passwd'))
    await expect(packDirectory(join(dir, 'in'))).rejects.toMatchObject({
      code: 'input.invalid',
      message: expect.stringContaining('deep/passwd'),
    })
  })

  it('that does not fit into a job is refused', async () => {
    await writeFile(join(dir, 'in', 'big'), randomBytes(20_000))
    await expect(packDirectory(join(dir, 'in'), { lengthMax: 10_000 })).rejects.toMatchObject({
      code: 'spec.too_large',
    })
    await expect(packDirectory(join(dir, 'in', 'big'), { lengthMax: 10_000 })).rejects.toMatchObject({
      code: 'spec.too_large',
      hint: expect.stringContaining('URL'),
    })
  })

  it('of something that is missing or no file says so', async () => {
    await expect(packDirectory(join(dir, 'absent'))).rejects.toMatchObject({
      code: 'input.invalid',
      message: expect.stringContaining('ENOENT'),
    })
    await expect(packDirectory('/dev/null')).rejects.toMatchObject({ code: 'input.invalid' })
  })
})
