import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { localDirectorySource } from '../../src/sources/index.js'

let dir = ''
beforeEach(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'weir-local-')))
  await mkdir(join(dir, 'data', 'deep', 'er'), { recursive: true })
  await mkdir(join(dir, 'data2'))
  await writeFile(join(dir, 'data', 'file.csv'), 'x')
  await writeFile(join(dir, 'secret'), 'x')
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const never = new AbortController().signal
const input = (SourcePath: unknown, params: Record<string, unknown> = {}) => ({
  Source: { Type: 'localDirectory', Params: { SourcePath, ...params } },
  Alias: '',
  Target: '/inputs',
})
async function mount(allowed: string[], path: unknown, params: Record<string, unknown> = {}) {
  const source = localDirectorySource({ allowed })
  const problems = await source.admit(input(path, params))
  const fetched = source.fetch(input(path, params), '/nowhere', { bytesMax: 0 }, never)
  if (problems.length === 0) return (await fetched)[0]
  await expect(fetched).rejects.toMatchObject({ code: 'source.refused' })
  return problems[0]?.message
}

describe('what belongs to the node', () => {
  it('is given to no job, also where the operator allows all around it: it could start jobs through a socket', async () => {
    const node = join(dir, 'data', 'deep', 'er')
    const socket = join(dir, 'data2', 'api.sock')
    await symlink(node, join(dir, 'link'))
    const source = localDirectorySource({ allowed: ['/'], withheld: [join(dir, 'link'), socket] })
    const answer = async (path: string) => {
      const problems = await source.admit(input(path))
      const fetched = source.fetch(input(path), '/nowhere', { bytesMax: 0 }, never)
      if (problems.length === 0) return (await fetched)[0]?.hostPath
      await expect(fetched).rejects.toMatchObject({ code: 'source.refused' })
      return problems[0]?.message
    }
    // Itself, below, above, by a link; a socket that comes only when the node has started.
    for (const path of ['/', dir, join(dir, 'data'), join(dir, 'data', 'deep'), node, join(dir, 'data2')])
      expect(await answer(path), path).toMatch(/belongs to the node/)
    await mkdir(join(node, 'inner'))
    expect(await answer(join(node, 'inner'))).toMatch(/belongs to the node/)
    await writeFile(socket, '')
    expect(await answer(socket)).toMatch(/belongs to the node/)
    // What only begins like it is something else.
    await mkdir(join(dir, 'data', 'deep', 'errand'))
    expect(await answer(join(dir, 'data', 'deep', 'errand'))).toBe(join(dir, 'data', 'deep', 'errand'))
    expect(await answer(join(dir, 'data', 'file.csv'))).toBe(join(dir, 'data', 'file.csv'))
  })
})

describe('a local directory', () => {
  it('is mounted read-only where the operator lists it, as are files and directories below', async () => {
    const allowed = [join(dir, 'data')]
    expect(await mount(allowed, join(dir, 'data'))).toEqual({
      hostPath: join(dir, 'data'),
      target: '/inputs',
      writable: false,
    })
    expect(await mount(allowed, join(dir, 'data', 'file.csv'))).toMatchObject({
      hostPath: join(dir, 'data', 'file.csv'),
    })
    expect(await mount(allowed, `${join(dir, 'data', 'deep')}/`)).toMatchObject({
      hostPath: join(dir, 'data', 'deep'),
    })
  })

  it('is refused when nothing is listed, and beside what is listed', async () => {
    expect(await mount([], join(dir, 'data'))).toMatch(/not among the allowed/)
    expect(await mount([join(dir, 'data')], join(dir, 'data2'))).toMatch(/not among the allowed/)
    expect(await mount([join(dir, 'data')], dir)).toMatch(/not among the allowed/)
  })

  it('gives the same answer for what is missing and what is forbidden', async () => {
    const missing = await mount([join(dir, 'data')], join(dir, 'absent'))
    const forbidden = await mount([join(dir, 'data')], join(dir, 'secret'))
    expect(forbidden).toMatch(/not among/)
    expect(missing).toBe((forbidden as string).replace('secret', 'absent'))
  })

  it('P-02 is judged by where the path leads: links and ".." do not help', async () => {
    await symlink('/', join(dir, 'data', 'root'))
    await symlink(join(dir, 'secret'), join(dir, 'data', 'link'))
    const allowed = [join(dir, 'data'), join(dir, 'data', '**')]
    expect(await mount(allowed, join(dir, 'data', 'root'))).toMatch(/not among/)
    expect(await mount(allowed, join(dir, 'data', 'root', 'etc'))).toMatch(/not among/)
    expect(await mount(allowed, join(dir, 'data', 'link'))).toMatch(/not among/)
    expect(await mount(allowed, `${dir}/data/deep/../../secret`)).toMatch(/not among/)
    expect(await mount(allowed, `${dir}/data/deep/../file.csv`)).toMatchObject({
      hostPath: join(dir, 'data', 'file.csv'),
    })
  })

  it('follows links of the operator in the listed path itself', async () => {
    await symlink(join(dir, 'data'), join(dir, 'alias'))
    expect(await mount([join(dir, 'alias')], join(dir, 'alias', 'deep'))).toMatchObject({
      hostPath: join(dir, 'data', 'deep'),
    })
  })

  it('is checked again when the job starts', async () => {
    const source = localDirectorySource({ allowed: [join(dir, 'data')] })
    const asked = input(join(dir, 'data', 'deep'))
    expect(await source.admit(asked)).toEqual([])
    await rm(join(dir, 'data', 'deep'), { recursive: true })
    await symlink('/etc', join(dir, 'data', 'deep'))
    await expect(source.fetch(asked, '', { bytesMax: 0 }, never)).rejects.toMatchObject({
      code: 'source.refused',
    })
  })

  it('is writable only when the job asks and the entry says :rw', async () => {
    const rw = [`${join(dir, 'data')}:rw`]
    const ro = [`${join(dir, 'data')}:ro`]
    expect(await mount(rw, join(dir, 'data'))).toMatchObject({ writable: false })
    expect(await mount(rw, join(dir, 'data'), { ReadWrite: true })).toMatchObject({ writable: true })
    expect(await mount(rw, join(dir, 'data'), { readwrite: 'true' })).toMatchObject({ writable: true })
    expect(await mount(ro, join(dir, 'data'), { ReadWrite: true })).toMatch(/reading only/)
  })

  it.each([
    ['*', 'data', true],
    ['dat?', 'data', true],
    ['dat[ab]', 'data', true],
    ['dat[!a]', 'data', false],
    ['{data,other}', 'data2', false],
    ['data{,2}', 'data2', true],
    ['**', 'data/deep/er', true],
    ['**/er', 'data/deep/er', true],
    ['**/er', 'data/deep', false],
    ['data/*/er', 'data/deep/er', true],
    ['data/**', 'data', true],
    ['d*a', 'secret', false],
    ['data.', 'data2', false],
  ])('pattern %s for %s: %s', async (pattern, path, allowed) => {
    const result = await mount([`${dir}/${pattern}`], join(dir, path))
    if (allowed) expect(result).toMatchObject({ hostPath: join(dir, path) })
    else expect(result).toMatch(/not among/)
  })

  it('is refused when it is a pipe, relative, or no text', async () => {
    spawnSync('mkfifo', [join(dir, 'data', 'pipe')])
    expect(await mount([join(dir, 'data')], join(dir, 'data', 'pipe'))).toMatch(/neither a directory nor/)
    expect(await mount([join(dir, 'data')], 'data')).toMatch(/not absolute/)
    expect(await mount([join(dir, 'data')], 7)).toMatch(/not absolute/)
    expect(await mount([join(dir, 'data')], `${dir}/data\0`)).toMatch(/not absolute/)
  })

  it('is not created on request', async () => {
    expect(await mount([join(dir, 'data')], join(dir, 'data'), { CreateAs: 'dir' })).toMatch(/creates no/)
  })

  it.each(['data', '/a/../b', '/a[b', `/${'{a,b}'.repeat(8)}`])('the entry "%s" is a mistake', (entry) => {
    expect(() => localDirectorySource({ allowed: [entry] })).toThrow(
      expect.objectContaining({ code: 'config.invalid' }),
    )
  })
})
