import type { HostPattern } from '../../model/index.js'
import { DNS_PORT, EXTRA_PORTS_MAX, PROXY_PORT, WEB_PORTS } from './listeners.js'

/**
 * The ports on which programs that know nothing of proxies are served: those that the job's list opens, and no others,
 * so that a job can keep a port for its own services by not listing it (`example.com:443` leaves 80 to the job). At most
 * 32 beside those of the web; a port of the gateway itself or of mail is never among them. To a learning execution the ports
 * of the web are open.
 */
export function transparentPorts(patterns: readonly HostPattern[], learning = false): ReadonlySet<number> {
  const named = patterns.flatMap(({ port }) => (port === undefined ? WEB_PORTS : [port]))
  const listed = new Set([...named, ...(learning ? WEB_PORTS : [])].filter((port) => !NEVER.has(port)))
  const web = WEB_PORTS.filter((port) => listed.has(port))
  const extra = [...listed].filter((port) => !WEB_PORTS.includes(port)).slice(0, EXTRA_PORTS_MAX)
  return new Set([...web, ...extra])
}

const NEVER: ReadonlySet<number> = new Set([25, DNS_PORT, PROXY_PORT])
