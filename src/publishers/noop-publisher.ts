import type { Publisher } from '../ports/data.js'

/** Keeps nothing (`noop`): the published result has an empty type, which means there is nothing to download. */
export function noopPublisher(): Publisher {
  return {
    type: 'noop',
    admit: async () => [],
    publish: async () => ({ Type: '' }),
  }
}
