import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Config, loadConfig } from '../../src/config/index.js'
import type { WeirError } from '../../src/errors.js'
import { keyPairOf } from '../../src/model/index.js'
import { ownEgress } from '../../src/node/own-egress.js'
import { changeTrustedKeys, readTrustedKeys, trustedKeysFile } from '../../src/node/trusted-keys.js'

const [KEY = '', OTHER = ''] = [1, 2].map((seed) => keyPairOf(new Uint8Array(32).fill(seed)).publicKey)
const FOREVER = { name: 'forever', key: OTHER, allow: ['b.example.com'] }
const EXPIRY = Date.parse('2026-01-31T12:00:00Z')
const BRIEF = { name: 'brief', key: KEY, allow: ['a.example.com'], expires: '2026-01-31T12:00:00Z' }

let dir: string
let config: Config
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'weir-keys-'))
  await writeFile(join(dir, 'allowed'), 'example.com\n')
  const settings = [`Egress.AllowFile=${join(dir, 'allowed')}`]
  config = loadConfig({ dataDir: join(dir, 'data'), environment: {}, files: [], settings, flags: {} })
})
afterEach(() => rm(dir, { recursive: true, force: true }))

it('ends trust that has expired, also when a file cannot be read at that moment', async () => {
  await changeTrustedKeys(config, () => [BRIEF, FOREVER])
  expect((await stat(trustedKeysFile(config))).mode & 0o777).toBe(0o600)
  let nowMs = EXPIRY - 1
  const warnings: WeirError[] = []
  const warn = (error: WeirError): unknown => warnings.push(error)
  const rules = ownEgress({ config, self: [], reading: {}, clock: { now: () => nowMs }, warn })
  expect((await rules.read()).keys?.map(({ name }) => name)).toEqual(['brief', 'forever'])
  await writeFile(join(dir, 'allowed'), 'not a host\n')
  // As long as nothing has expired a list that cannot be read changes nothing, and that is an error.
  await expect(rules.read()).rejects.toMatchObject({ code: 'config.invalid' })
  expect(rules.isDue()).toBe(false)
  nowMs = EXPIRY
  expect(rules.isDue()).toBe(true)
  expect(await rules.read()).toMatchObject({
    allow: ['example.com'],
    keys: [{ name: 'forever', key: OTHER, allow: ['b.example.com'] }],
  })
  expect(warnings).toMatchObject([{ code: 'config.invalid' }])
  expect(rules.isDue()).toBe(false)
})

it('trusts both of two keys that are added at the same instant', async () => {
  await Promise.all([BRIEF, FOREVER].map((one) => changeTrustedKeys(config, (keys) => [...keys, one])))
  const names = (await readTrustedKeys(config)).map(({ name }) => name)
  expect(names.toSorted()).toEqual(['brief', 'forever'])
})

it('trusts nobody without the file, and names every mistake of one', async () => {
  expect(await readTrustedKeys(config)).toEqual([])
  await changeTrustedKeys(config, () => [FOREVER])
  const keys = [
    { name: 'a b', key: KEY, allow: ['.com'] },
    { name: 'x', key: `${KEY.slice(0, -1)}A`, allow: [], expires: 'soon' },
    { ...FOREVER, more: 1 },
    { name: 'y', key: KEY, allow: 'example.com' },
  ]
  await writeFile(trustedKeysFile(config), JSON.stringify({ keys }))
  const error = await readTrustedKeys(config).catch((thrown: WeirError) => thrown)
  expect(error).toMatchObject({
    code: 'config.invalid',
    details: {
      problems: [
        expect.stringContaining('keys[0]: "a b" is no name'),
        expect.stringMatching(/keys\[0\]: .*\.com/),
        expect.stringContaining('keys[1]: '),
        expect.stringContaining('keys[1]: "expires"'),
        expect.stringContaining('keys[2]: nothing is called "more"'),
        expect.stringContaining('keys[3]: "allow" is not a list'),
      ],
    },
  })
  await writeFile(trustedKeysFile(config), '{"keys": [')
  await expect(changeTrustedKeys(config, (known) => [...known])).rejects.toMatchObject({
    code: 'config.invalid',
  })
})
