import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { WeirError } from '../errors.js'
import { findConfigName, nearestConfigName } from './load.js'
import { readValue } from './read-value.js'
import { CONFIG_SCHEMA, type ConfigKey, type ConfigName } from './schema.js'
import { yamlLibrary } from './yaml.js'

/**
 * Sets one key in a configuration file, creating it when needed; comments and order of the file stay. Throws
 * `config.invalid` when the key is unknown, the value is not of its kind, or the file is not YAML.
 */
export function saveConfigValue(file: string, key: string, text: string): ConfigName {
  const name = findConfigName(key)
  if (name === undefined) {
    const nearest = nearestConfigName(key)
    throw new WeirError('config.invalid', `Cannot set ${JSON.stringify(key)}: there is no such key`, {
      hint: nearest === undefined ? 'run `weir config list` to see every key' : `did you mean ${nearest}?`,
    })
  }
  const kind = CONFIG_SCHEMA[name].kind
  const read = readValue(CONFIG_SCHEMA[name] as ConfigKey, text)
  if ('problem' in read)
    throw new WeirError('config.invalid', `Cannot set ${name} to ${JSON.stringify(text)}: ${read.problem}`)

  const document = yamlLibrary().parseDocument(existsSync(file) ? readFileSync(file, 'utf8') : '')
  if (document.errors.length > 0)
    throw new WeirError('config.invalid', `Cannot change ${file}: it is not YAML`, {
      hint: document.errors[0]?.message.split('\n')[0] ?? '',
    })
  // Durations and sizes keep the spelling of the user; the rest is written in its own type.
  const value = kind === 'durationMs' || kind === 'bytes' ? text : read.value
  if (document.has(name)) document.set(name, document.createNode(value))
  else document.setIn(name.split('.'), document.createNode(value))
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const partial = `${file}.${process.pid}.part`
  writeFileSync(partial, document.toString(), { mode: 0o600 })
  renameSync(partial, file)
  return name
}
