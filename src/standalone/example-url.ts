import { type HostPattern, HostPatternSet, hostInUrl } from '../model/index.js'

/**
 * A URL that is within `allow` and not denied, to try a gateway with; undefined when there is none. Of a wildcard it is a name
 * that probably exists.
 */
export function exampleUrl(allow: readonly string[], deny: readonly string[]): string | undefined {
  const own = { allowPublicSuffix: true, allowPrivate: true } as const
  const denied = HostPatternSet.parse(deny, { ...own, portlessMeans: 'any' })
  for (const pattern of HostPatternSet.parse(allow, own).patterns) {
    const host = hostOf(pattern)
    const { port, scheme = port === 443 ? 'https' : 'http' } = pattern
    const usual = scheme === 'http' ? 80 : 443
    if (denied.match(host, port ?? usual, scheme) !== undefined) continue
    const place = hostInUrl(host)
    return `${scheme}://${place}${port === undefined || port === usual ? '' : `:${port}`}/`
  }
  return undefined
}

function hostOf({ reach, host }: HostPattern): string {
  return reach === 'below' ? `www.${host}` : host
}
