import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readLocalBlob, sendBlobs } from '../../src/cli/local-blobs.js'
import { WeirClient } from '../../src/client/index.js'
import { blobCid, parseJobSpec } from '../../src/model/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { startServer as startApi } from '../api/with-server.js'
import { PROGRAMS, isDefaultPortTaken, missingSandbox, startServer, weir } from './with-cli.js'
import type { TestServer } from './with-cli.js'

const missing = missingSandbox()
const skipped = missing === undefined ? '' : ` (skipped: ${missing})`
const isTaken = await isDefaultPortTaken()
const CSV = join(PACKAGE_ROOT, 'examples/csv-summary/csv-summary.wasm')
const fixture = (name: string): string => join(PACKAGE_ROOT, 'test/fixtures/wasm/bin', `${name}.wasm`)
const cidOf = (content: Uint8Array): string => blobCid(createHash('sha256').update(content).digest())

/** A section that engines skip: a module of several megabytes that does the same. */
const large = (module: Buffer): Buffer =>
  Buffer.concat([module, Buffer.from([0, 0x82, 0x80, 0x80, 0x02, 1, 0x78]), Buffer.alloc(4 * 1024 * 1024)])

describe.skipIf(missing !== undefined)(`programs by content, from the command line${skipped}`, () => {
  let server: TestServer
  beforeAll(async () => {
    server = await startServer()
    for (const name of ['math', 'uses-math']) copyFileSync(fixture(name), join(server.dir, `${name}.wasm`))
    writeFileSync(join(server.dir, 'hello.wasm'), PROGRAMS.hello as Buffer)
    writeFileSync(join(server.dir, 'large.wasm'), large(PROGRAMS.hello as Buffer))
  })
  afterAll(async () => {
    await server.stop()
  })

  it('are sent once, run again by their CID, and listed', async () => {
    const cid = cidOf(PROGRAMS.hello as Buffer)
    const first = await server.weir(['wasm', 'run', 'hello.wasm'])
    expect([first.code, first.stdout]).toEqual([0, 'hello\n'])
    expect(first.stderr).toContain(`Uploaded hello.wasm`)
    expect(first.stderr).toContain(cid)
    expect((await server.weir(['wasm', 'run', 'hello.wasm'])).stderr).toContain('on the server already')
    expect(await server.weir(['wasm', 'run', cid])).toMatchObject({ code: 0, stdout: 'hello\n' })
    expect(await server.weir(['wasm', 'upload', 'hello.wasm'])).toMatchObject({ code: 0, stdout: `${cid}\n` })
    const report = await server.weir(['wasm', 'validate', '--output', 'json', cid])
    expect(JSON.parse(report.stdout)).toMatchObject({ CID: cid, Valid: true, Kind: 'command' })
    const list = JSON.parse((await server.weir(['wasm', 'list', '--output', 'json'])).stdout) as object[]
    expect(list).toMatchObject([{ CID: cid }])
  })

  it('may be larger than a job, as may files that are given to them', async () => {
    expect(await server.weir(['wasm', 'run', 'large.wasm'])).toMatchObject({ code: 0, stdout: 'hello\n' })
    const rows = Array.from({ length: 100_000 }, (_, index) => `${index},city-${index % 3},2`)
    writeFileSync(join(server.dir, 'rows.csv'), ['id,city,amount', ...rows, ''].join('\n'))
    const args = ['--input', './rows.csv', CSV, '/inputs/rows.csv', '/outputs/totals.csv', '2', '3']
    expect(await server.weir(['wasm', 'run', ...args])).toMatchObject({
      code: 0,
      stdout: '100000 rows, 3 keys\n',
    })
  })

  it('are linked with modules by file, URL and CID', async () => {
    const math = readFileSync(fixture('math'))
    const url = `data:application/wasm;base64,${math.toString('base64')}`
    for (const module of ['math.wasm', 'math=./math.wasm', `math=${url}`, `math=${cidOf(math)}`]) {
      const { code, stderr } = await server.weir(['wasm', 'run', '--import-module', module, 'uses-math.wasm'])
      expect({ module, code }, stderr).toEqual({ module, code: 42 })
    }
    const alone = await server.weir(['wasm', 'run', 'uses-math.wasm'])
    expect([alone.code, alone.stderr]).toEqual([125, expect.stringContaining('--import-module math=FILE')])
    const other = await server.weir(['wasm', 'run', '--import-module', 'maths=math.wasm', 'uses-math.wasm'])
    expect([other.code, other.stderr]).toEqual([125, expect.stringContaining('Nobody provides math.add')])
  })

  it.each<[what: string, args: string[], hint: string]>([
    ['a name with a mistake', ['helo.wasm'], 'Did you mean hello.wasm?'],
    ['a name without its ending', ['hello'], 'Did you mean hello.wasm?'],
    ['half a CID', ['bafkreihdwdcefgh4dqkjv67uz'], 'is none'],
    ['a directory', ['.'], 'Name the compiled module'],
    ['a scheme that nobody fetches', ['ftp://example.com/x.wasm'], 'no scheme that is fetched'],
    ['an entry point with a mistake', ['--entry-point', 'memory', 'hello.wasm'], '--entry-point'],
    ['content that is not there', [cidOf(Buffer.from('x'))], 'weir wasm upload'],
  ])('%s is answered with what to do', async (_what, args, hint) => {
    const { code, stderr } = await server.weir(['wasm', 'run', ...args])
    expect(code).toBe(125)
    expect(stderr).toContain(hint)
  })
})

describe.skipIf(missing !== undefined || isTaken)(`programs by content, without a server${skipped}`, () => {
  it('may be larger than a job as well', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-content-'))
    try {
      writeFileSync(join(dir, 'large.wasm'), large(PROGRAMS.hello as Buffer))
      const ran = await weir(['wasm', 'run', 'large.wasm'], {
        cwd: dir,
        env: { WEIR_DIR: join(dir, 'data'), HOME: dir },
      })
      expect([ran.code, ran.stdout], ran.stderr).toEqual([0, 'hello\n'])
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  })
})

describe('a server that keeps no content', () => {
  it('gets the program inside the job, as Bacalhau’s clients send it', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-content-'))
    mkdirSync(join(dir, 'x'))
    const api = await startApi({ blobs: undefined })
    const client = new WeirClient({ baseUrl: api.url })
    try {
      const file = join(dir, 'x/hello.wasm')
      writeFileSync(file, PROGRAMS.hello as Buffer)
      const blob = await readLocalBlob(file, 'hello.wasm', true)
      const EntryModule = { Source: { Type: 'blob', Params: { CID: blob.cid } } }
      const Engine = { Type: 'wasm', Params: { EntryModule } }
      const { spec } = parseJobSpec({ Type: 'batch', Tasks: [{ Name: 'main', Engine }] })
      const sent = await sendBlobs(client, spec, [blob], () => {})
      expect(sent.Tasks[0].Engine.Params?.EntryModule).toMatchObject({
        Source: { Type: 'inline', Params: { URL: expect.stringMatching(/^data:application\/gzip;base64,/) } },
      })
    } finally {
      client.close()
      await api.close()
      rmSync(dir, { recursive: true, force: true })
    }
  })
})
