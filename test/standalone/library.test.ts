import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openEgressGateway } from '../../src/standalone/library.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-library-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

describe('weir/egress', () => {
  it('is what its page says: the examples compile, and run', { timeout: 60_000 }, () => {
    const page = readFileSync(join(PACKAGE_ROOT, 'docs/egress-library.md'), 'utf8')
    const examples = [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code = '']) => code)
    const files = examples.map((code, index) => {
      writeFileSync(join(dir, `example-${index}.ts`), code)
      return `example-${index}.ts`
    })
    mkdirSync(join(dir, 'node_modules/@types'), { recursive: true })
    symlinkSync(PACKAGE_ROOT, join(dir, 'node_modules/weir'))
    symlinkSync(join(PACKAGE_ROOT, 'node_modules/@types/node'), join(dir, 'node_modules/@types/node'))
    writeFileSync(join(dir, 'package.json'), '{"type": "module"}')
    const compilerOptions = {
      strict: true,
      module: 'NodeNext',
      target: 'ES2022',
      types: ['node'],
      outDir: 'built',
    }
    writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
    execFileSync(join(PACKAGE_ROOT, 'node_modules/.bin/tsc'), ['-p', dir], { stdio: 'pipe' })
    const printed = files.map((file) =>
      execFileSync(process.execPath, [join(dir, 'built', file.replace('.ts', '.js'))], {
        cwd: dir,
        encoding: 'utf8',
      }),
    )
    expect(printed).toEqual([
      'true\n',
      '403 elsewhere.test egress.not_in_job_list\n1 --domain elsewhere.test:80\n',
    ])
  })

  it('has no other entry', () => {
    const { exports } = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as {
      exports: object
    }
    expect(Object.keys(exports)).toEqual(['./egress', './package.json'])
  })

  it('refuses bad lists and taken names, and grants nothing then', async () => {
    const gateway = await openEgressGateway({ auditDir: join(dir, 'records'), runs: 'here' })
    try {
      await expect(gateway.grant({ allow: ['.com'] })).rejects.toMatchObject({ code: 'pattern.invalid' })
      const one = await gateway.grant({ allow: ['example.com'], name: 'one' })
      await expect(gateway.grant({ allow: [], name: 'one' })).rejects.toMatchObject({
        code: 'egress.unavailable',
      })
      const { port } = new URL(one.proxyUrl)
      const place = { host: '127.0.0.1', port: Number(port) }
      await expect(gateway.grant({ allow: [] }, place)).rejects.toMatchObject({ code: 'egress.unavailable' })
      expect(await one.close()).toMatchObject({ records: 0 })
      const again = await gateway.grant({ allow: ['example.com'], name: 'one' }, place)
      expect(again.proxyUrl).toBe(one.proxyUrl)
    } finally {
      await gateway.close()
      await gateway.close()
    }
  })
})
