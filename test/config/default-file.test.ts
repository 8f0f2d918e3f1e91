import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { CONFIG_SCHEMA, defaultConfigFile, loadConfig } from '../../src/config/index.js'
import type { ConfigKey, ConfigName } from '../../src/config/index.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-config-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

describe('the default configuration file', () => {
  const file = join(dir, 'default.yaml')
  writeFileSync(file, defaultConfigFile())
  const names = Object.keys(CONFIG_SCHEMA) as ConfigName[]

  it('reads back as the defaults', () => {
    const read = loadConfig({ dataDir: dir, files: [file] })
    expect(read.values).toEqual(loadConfig({ dataDir: dir, files: ['/dev/null'] }).values)
  })

  it('sets every key that is no secret', () => {
    const { origin } = loadConfig({ dataDir: dir, files: [file] })
    const left = names.filter((name) => origin(name) === 'default')
    expect(left).toEqual(names.filter((name) => (CONFIG_SCHEMA[name] as ConfigKey).secret === true))
  })

  it('explains every key, in lines that fit a page', () => {
    const lines = defaultConfigFile().split('\n')
    const explained = lines
      .filter((line) => line.includes('#'))
      .map((line) => line.replace(/^\s*# /, ''))
      .join(' ')
    for (const name of names) expect(explained).toContain(CONFIG_SCHEMA[name].description)
    expect(lines.filter((line) => line.length > 120)).toEqual([])
  })
})
