import { isIP } from 'node:net'
import fc from 'fast-check'
import { canonicalName, hostInUrl, readHost } from '../../../src/model/index.js'
import type { FuzzTarget } from '../target.js'
import { hostish } from '../texts.js'

/** The strict reader of request targets, beside the lenient one of browsers. */
export const hosts: FuzzTarget = {
  name: 'hosts',
  promise: 'a host that is accepted has one spelling, and other parsers read the same host in it',
  open: () => ({
    property: fc.property(hostish, (text) => {
      const reading = readHost(text)
      if (!reading.ok) return
      const { host } = reading
      const again = readHost(hostInUrl(host))
      if (!again.ok || again.host.text !== host.text) throw new Error(`"${host.text}" is not read as itself`)
      if (host.kind === 'address') {
        if (isIP(host.text) === 0) throw new Error(`"${host.text}" is no address for the system`)
        return
      }
      if (!/^[a-z0-9._-]+$/.test(host.text)) throw new Error(`"${host.text}" is not canonical`)
      const seen = new URL(`http://${text}/`).hostname.replace(/\.$/, '')
      if (seen !== host.text) throw new Error(`a browser reads "${seen}", we read "${host.text}"`)
    }),
  }),
}

/** Names that people write, with letters of all scripts. */
export const names: FuzzTarget = {
  name: 'names',
  promise: 'a name that is accepted is canonical at once, and never another name in disguise',
  open: () => ({
    property: fc.property(hostish, (text) => {
      const reading = canonicalName(text)
      if (!reading.ok) return
      const again = canonicalName(reading.name)
      if (!again.ok || again.name !== reading.name)
        throw new Error(`"${reading.name}" changes when read again`)
      const strict = readHost(reading.name)
      if (!strict.ok && !/number/.test(strict.reason))
        throw new Error(`"${reading.name}" could never be asked for: ${strict.reason}`)
    }),
  }),
}
