import { lookup } from 'node:dns/promises'
import { WeirError } from '../../errors.js'
import { isPublicAddress, parseIpAddress } from '../../model/index.js'
import { DEFAULT_REGISTRY } from './image-reference.js'
import type { ImageReference } from './image-reference.js'

/**
 * Refuses to let the engine talk to a registry that is not on the public internet, unless the operator lists it: the
 * engine runs outside every job's network, so an image reference would otherwise reach the node's own neighbours.
 *
 * A name is looked up and refused when any of its addresses is not public. The engine looks it up again, so this
 * stops mistakes and plain abuse, not a name server that answers differently the second time; images that need no
 * pull are not affected. Rejects with `image.unavailable`.
 */
export async function guardRegistry(
  reference: ImageReference,
  allowPrivate: readonly string[],
  resolve: (host: string) => Promise<string[]> = resolveAll,
): Promise<void> {
  const { registry } = reference
  if (registry === DEFAULT_REGISTRY || allowPrivate.includes(registry)) return
  const host = registry.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1')
  const addresses = parseIpAddress(host) === undefined ? await resolve(host) : [host]
  const refused = addresses.find((address) => {
    const parsed = parseIpAddress(address)
    return parsed === undefined || !isPublicAddress(parsed)
  })
  if (host !== 'localhost' && refused === undefined) return
  throw new WeirError(
    'image.unavailable',
    `Cannot pull ${JSON.stringify(reference.text)}: the registry "${registry}" is not on the public internet`,
    { hint: 'Ask the operator of the node to list this registry, or use an image of a public one' },
  )
}

/** No answer is no refusal: the pull itself then says that the registry cannot be found. */
async function resolveAll(host: string): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address)
  } catch {
    return []
  }
}
