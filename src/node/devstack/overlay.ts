import type { Config, ConfigName, ConfigValues } from '../../config/index.js'

/** Values that one process of a stack has beside the user's. */
export type Overlay = { -readonly [Name in ConfigName]?: ConfigValues[Name] }

/** A configuration in a form that crosses between processes. */
export interface PlainConfig {
  dataDir: string
  values: ConfigValues
  origins: Partial<Record<ConfigName, string>>
}

/** The user's configuration with other values where the user has said nothing. `always` wins over the user. */
export function overlayConfig(own: Config, dataDir: string, { unlessSaid, always }: Overlays): PlainConfig {
  const origins: Partial<Record<ConfigName, string>> = {}
  for (const name of Object.keys(own.values) as ConfigName[])
    if (own.origin(name) !== 'default') origins[name] = own.origin(name)
  const chosen = { ...unlessSaid }
  for (const name of Object.keys(unlessSaid) as ConfigName[]) if (name in origins) delete chosen[name]
  const mine = { ...chosen, ...always }
  for (const name of Object.keys(mine) as ConfigName[]) origins[name] = 'devstack'
  return { dataDir, values: { ...own.values, ...mine }, origins }
}

export interface Overlays {
  unlessSaid: Overlay
  always: Overlay
}

export function configOf({ dataDir, values, origins }: PlainConfig): Config {
  return Object.freeze({
    dataDir,
    values: Object.freeze(values),
    origin: (name: ConfigName) => origins[name] ?? 'default',
  })
}
