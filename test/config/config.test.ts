import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  CONFIG_SCHEMA,
  type ConfigName,
  loadConfig,
  requireConfigName,
  saveConfigValue,
  variableOf,
  writeValue,
} from '../../src/config/index.js'
import { isWeirError } from '../../src/errors.js'

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'weir-config-'))
})
afterEach(() => {
  rmSync(dir, { recursive: true })
})

function write(name: string, text: string): string {
  const file = join(dir, name)
  writeFileSync(file, text)
  return file
}

function problemsOf(load: () => unknown): string {
  try {
    load()
  } catch (error) {
    if (isWeirError(error, 'config.invalid')) return error.message
    throw error
  }
  throw new Error('the configuration was accepted')
}

describe('loadConfig', () => {
  it('accepts networked jobs nowhere and listens on loopback by default', () => {
    const config = loadConfig({ dataDir: dir })
    expect(config.values['JobAdmissionControl.AcceptNetworkedJobs']).toBe(false)
    expect(config.values['API.Host']).toBe('127.0.0.1')
    expect(config.values['Egress.Allow']).toEqual([])
    expect(config.origin('API.Host')).toBe('default')
  })

  it('lets environment win over file, flag over environment and -c over all', () => {
    const file = write('a.yaml', 'API:\n  Port: 1\n  Host: file\nLogging.Level: debug\n')
    const config = loadConfig({
      dataDir: dir,
      files: [file],
      environment: { WEIR_API_PORT: '2', WEIR_API_HOST: 'environment' },
      flags: { 'API.Port': '3' },
      settings: ['api.port=4'],
    })
    expect(config.values['API.Port']).toBe(4)
    expect(config.values['API.Host']).toBe('environment')
    expect(config.values['Logging.Level']).toBe('debug')
    expect(config.origin('API.Host')).toBe('environment')
    expect(config.origin('Logging.Level')).toBe(file)
  })

  it('means the home directory by ~/ in every path', () => {
    const settings = ['Egress.AllowFile=~/lists/allowed', 'Engines.Types.Docker.Socket=/run/docker.sock']
    const { values } = loadConfig({ dataDir: dir, settings })
    expect(values['Egress.AllowFile']).toBe(join(homedir(), 'lists/allowed'))
    expect(values['Engines.Types.Docker.Socket']).toBe('/run/docker.sock')
  })

  it('works inside a job, among the variables that jobs are given', () => {
    const given = ['JOB_ID', 'EXECUTION_ID', 'NODE_ID', 'JOB_TYPE', 'PARTITION_INDEX', 'PARTITION_COUNT']
    const environment = Object.fromEntries(given.map((name) => [`WEIR_${name}`, '1']))
    expect(() => loadConfig({ dataDir: dir, environment })).not.toThrow()
    expect(() => loadConfig({ dataDir: dir, environment: { WEIR_JOB: '1' } })).toThrow('WEIR_JOB')
  })

  it('reads config.yaml of the data directory when no file is named', () => {
    write('config.yaml', 'labels: {region: eu}\negress: {allow: [example.com, .example.org]}\n')
    const config = loadConfig({ dataDir: dir })
    expect(config.values.Labels).toEqual({ region: 'eu' })
    expect(config.values['Egress.Allow']).toEqual(['example.com', '.example.org'])
  })

  it('says of a section that it is one, in any case, and names a key in it', () => {
    for (const section of ['Egress', 'egress'])
      expect(() => requireConfigName(section, 'get')).toThrow(
        expect.objectContaining({
          message: `Cannot get "${section}": it is a section of keys`,
          hint: expect.stringContaining('Egress.'),
        }),
      )
  })

  it('reads lists and maps as text with commas or as JSON, as the documentation writes them in YAML', () => {
    const read = (...settings: string[]) => loadConfig({ dataDir: dir, settings }).values
    const json = read(
      'Compute.AllowListedLocalPaths=["/data/**", "/scratch:rw"]',
      'Labels={"zone": "a", "disk": "b"}',
      'Egress.PrivateExceptions=[]',
    )
    const commas = read('Compute.AllowListedLocalPaths=/data/**,/scratch:rw', 'Labels=zone=a,disk=b')
    expect(json).toEqual(commas)
    expect(read('Egress.Allow=[2606:2800:21f::1]:443,example.com')['Egress.Allow']).toHaveLength(2)
    expect(problemsOf(() => read('Compute.AllowListedLocalPaths=["/data"', 'Labels={"a"'))).toMatch(
      /expected a list[^]*expected k=v pairs/,
    )
  })

  it('names every mistake at once, with the nearest key for a misspelt one', () => {
    const file = write('bad.yaml', 'API:\n  Prot: 1\nCompute:\n  KeepFinished: soon\n')
    const message = problemsOf(() =>
      loadConfig({
        dataDir: dir,
        files: [file],
        environment: { WEIR_API_PORT: '70000', WEIR_NO_SUCH: '1' },
        settings: ['Labels'],
      }),
    )
    expect(message).toContain('did you mean API.Port?')
    expect(message).toContain('Compute.KeepFinished: expected a duration')
    expect(message).toContain('the largest value is 65535')
    expect(message).toContain('WEIR_NO_SUCH')
    expect(message).toContain('Labels needs a value')
  })

  it('refuses a data directory that holds a variable, or is relative in the environment', () => {
    expect(problemsOf(() => loadConfig({ environment: { WEIR_DIR: 'here' } }))).toContain('absolute path')
    expect(problemsOf(() => loadConfig({ dataDir: '' }))).toContain('absolute path')
    expect(loadConfig({ dataDir: 'here' }).dataDir).toBe(join(process.cwd(), 'here'))
    expect(problemsOf(() => loadConfig({ environment: { WEIR_DIR: '/x/$HOME' } }))).toContain('not expanded')
  })

  it('reads back every default from the text that it prints', () => {
    for (const [name, key] of Object.entries(CONFIG_SCHEMA)) {
      const config = loadConfig({ dataDir: dir, settings: [`${name}=${writeValue(key, key.default)}`] })
      expect(config.values[name as ConfigName], name).toEqual(key.default)
    }
  })

  it('gives each key an environment variable of its own', () => {
    const names = Object.keys(CONFIG_SCHEMA) as ConfigName[]
    expect(new Set(names.map(variableOf)).size).toBe(names.length)
  })
})

describe('saveConfigValue', () => {
  it('changes one key and keeps comments', () => {
    const file = write('config.yaml', '# mine\nAPI:\n  Port: 1 # chosen\n')
    saveConfigValue(file, 'api.host', '::1')
    saveConfigValue(file, 'Egress.Allow', 'example.com,.example.org')
    const text = readFileSync(file, 'utf8')
    expect(text).toContain('# mine')
    expect(text).toContain('# chosen')
    const config = loadConfig({ dataDir: dir })
    expect(config.values['API.Host']).toBe('::1')
    expect(config.values['API.Port']).toBe(1)
    expect(config.values['Egress.Allow']).toEqual(['example.com', '.example.org'])
  })

  it('refuses an unknown key and a value of the wrong kind, and leaves the file alone', () => {
    const file = write('config.yaml', 'API: {Port: 1}\n')
    expect(problemsOf(() => saveConfigValue(file, 'API.Prt', '1'))).toContain('no such key')
    expect(problemsOf(() => saveConfigValue(file, 'API.Port', 'x'))).toContain('whole number')
    expect(readFileSync(file, 'utf8')).toBe('API: {Port: 1}\n')
  })
})
