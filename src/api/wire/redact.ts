import type { WireObject } from './job.js'

const SHOWN_INSTEAD = '<redacted>'

/**
 * A second net under the configuration's own: replaces filled values under keys that sound like a secret, at any depth.
 */
export function redactSecrets(config: WireObject): WireObject {
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [key, redacted(key, value)]))
}

function redacted(key: string, value: unknown): unknown {
  if (typeof value === 'object' && value !== null) {
    if (Array.isArray(value)) return isSecret(key) && value.length > 0 ? SHOWN_INSTEAD : value
    return redactSecrets(value as WireObject)
  }
  return isSecret(key) && typeof value === 'string' && value !== '' ? SHOWN_INSTEAD : value
}

function isSecret(key: string): boolean {
  return /(password|secret|token|apikey|credential|privatekey|accesskey)s?$/i.test(key)
}
