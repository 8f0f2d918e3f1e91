import {
  lstatSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import {
  CONFIG_SCHEMA,
  loadConfig,
  saveConfigValue,
  saveConfigValues,
  unsetConfigValue,
} from '../../src/config/index.js'
import type { ConfigName } from '../../src/config/index.js'

const dir = mkdtempSync(join(tmpdir(), 'weir-save-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

let count = 0
function fileWith(text: string): string {
  const file = join(dir, `${count++}.yaml`)
  writeFileSync(file, text)
  return file
}

const read = (file: string, name: ConfigName): unknown =>
  loadConfig({ dataDir: dir, files: [file] }).values[name]

describe('changing a configuration file', () => {
  it('keeps comments, order and other keys', () => {
    const file = fileWith(
      '# mine\nLogging:\n  Level: warn # quiet\nAPI:\n  # the door\n  Port: 5 # was 4\n  Host: h\n',
    )
    saveConfigValue(file, 'api.port', '6')
    expect(readFileSync(file, 'utf8')).toBe(
      '# mine\nLogging:\n  Level: warn # quiet\nAPI:\n  # the door\n  Port: 6 # was 4\n  Host: h\n',
    )
  })

  it.each([
    ['nested in lower case', 'api:\n  port: 5\n', 'api:\n  port: 6\n'],
    ['dotted', 'API.Port: 5\n', 'API.Port: 6\n'],
    [
      'half dotted',
      'jobdefaults.batch:\n  Task.Resources: {CPU: "1"}\n',
      'jobdefaults.batch:\n  Task.Resources: { CPU: "6" }\n',
    ],
  ])('finds a key that is written %s', (_how, before, after) => {
    const file = fileWith(before)
    saveConfigValue(file, before.includes('CPU') ? 'JobDefaults.Batch.Task.Resources.CPU' : 'API.Port', '6')
    expect(readFileSync(file, 'utf8')).toBe(after)
  })

  it('goes on below what is there in another case', () => {
    const file = fileWith('api:\n  host: h\n')
    saveConfigValue(file, 'API.Port', '6')
    expect(readFileSync(file, 'utf8')).toBe('api:\n  host: h\n  Port: 6\n')
  })

  it('fills a map that is empty', () => {
    const file = fileWith('API:\n')
    saveConfigValue(file, 'API.Port', '6')
    expect(read(file, 'API.Port')).toBe(6)
  })

  it('writes nothing when one of several values is wrong', () => {
    const file = fileWith('API: {Port: 5}\n')
    expect(() => saveConfigValues(file, { 'API.Host': 'h', 'API.Port': 'x' })).toThrow(/API\.Port/)
    expect(readFileSync(file, 'utf8')).toBe('API: {Port: 5}\n')
  })

  it('takes a key out, and with it the maps that it leaves empty', () => {
    const file = fileWith('Logging: {Level: warn}\nOrchestrator:\n  Scheduler:\n    triesmax: 9\n')
    expect(unsetConfigValue(file, 'orchestrator.scheduler.TRIESMAX')).toEqual({
      name: 'Orchestrator.Scheduler.TriesMax',
      wasSet: true,
    })
    expect(readFileSync(file, 'utf8')).toBe('Logging: { Level: warn }\n')
    expect(unsetConfigValue(file, 'API.Port').wasSet).toBe(false)
  })

  it('keeps a link a link and leaves nothing beside it', () => {
    const place = mkdtempSync(join(dir, 'link-'))
    writeFileSync(join(place, 'real.yaml'), '')
    symlinkSync('real.yaml', join(place, 'link.yaml'))
    saveConfigValue(join(place, 'link.yaml'), 'API.Port', '6')
    expect(lstatSync(join(place, 'link.yaml')).isSymbolicLink()).toBe(true)
    expect(read(join(place, 'real.yaml'), 'API.Port')).toBe(6)
    expect(readdirSync(place).toSorted()).toEqual(['link.yaml', 'real.yaml'])
  })

  it.each([
    ['text instead of a map', 'just text\n'],
    ['a list', '- a\n'],
    ['broken YAML', 'a: [\n'],
  ])('refuses a file that holds %s and leaves it as it is', (_what, text) => {
    const file = fileWith(text)
    expect(() => saveConfigValue(file, 'API.Port', '6')).toThrow(/Cannot change/)
    expect(readFileSync(file, 'utf8')).toBe(text)
  })

  it('reads back whatever was set, and forgets whatever was unset, in any order', () => {
    const values = {
      'API.Host': ['h', 'a: b', '"', '#x', 'true', '12'],
      'API.Port': ['0', '65535'],
      'Egress.Allow': ['', 'a.b', 'a.b,.c.d,*.e.f:8080'],
      Labels: ['', 'a=b', 'a=1,b=true'],
      'Compute.KeepFinished': ['0s', '1h30m'],
      'Compute.OutputBytesMax': ['1gi', '5mb'],
      'Compute.Enabled': ['true', 'no'],
    } as const
    const step = fc.oneof(
      ...(Object.keys(values) as (keyof typeof values)[]).map((name) =>
        fc.record({ name: fc.constant(name), text: fc.constantFrom(undefined, ...values[name]) }),
      ),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const file = fileWith('# first\n')
        const expected = new Map<ConfigName, string>()
        for (const { name, text } of steps) {
          if (text === undefined) unsetConfigValue(file, name)
          else saveConfigValue(file, name, text)
          if (text === undefined) expected.delete(name)
          else expected.set(name, text)
        }
        const config = loadConfig({ dataDir: dir, files: [file] })
        const settings = [...expected].map(([name, text]) => `${name}=${text}`)
        const wanted = loadConfig({ dataDir: dir, files: ['/dev/null'], settings })
        expect(config.values).toEqual(wanted.values)
        for (const name of Object.keys(CONFIG_SCHEMA) as ConfigName[])
          expect(config.origin(name) === 'default').toBe(!expected.has(name))
      }),
      { numRuns: 60 },
    )
  })
})
