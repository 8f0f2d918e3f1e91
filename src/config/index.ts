export { defaultConfigFile } from './default-file.js'
export {
  type Config,
  type ConfigSources,
  findConfigName,
  loadConfig,
  nearestConfigName,
  variableOf,
} from './load.js'
export { writeValue } from './read-value.js'
export {
  configMistakes,
  requireConfigName,
  saveConfigValue,
  saveConfigValues,
  throwTogether,
  unsetConfigValue,
} from './save.js'
export {
  CONFIG_SCHEMA,
  type ConfigKey,
  type ConfigKind,
  type ConfigName,
  type ConfigValues,
} from './schema.js'
