import { WeirError } from '../../errors.js'
import type { NetworkProvider, NetworkSlot } from '../../ports/index.js'
import type { SandboxGateway } from './options.js'

/** The network of sandboxes: none, or HTTP that the gateway does for them. There are no namespaces to make. */
export function httpOnly(gateway: SandboxGateway): NetworkProvider {
  return {
    modes: async () => ({ http: true, full: false, problems: [] }),
    async acquire(mode, _who, signal): Promise<NetworkSlot> {
      signal.throwIfAborted()
      if (mode === 'none') return { mode, release: async () => {} }
      if (mode === 'full')
        throw new WeirError('engine.unavailable', 'Cannot give a WebAssembly program full network access', {
          hint: 'It has no sockets: list the hosts that it needs with --network http --domain …',
        })
      const attachment = await gateway.attachSandbox()
      return { mode, attachment, release: () => gateway.detach(attachment) }
    },
  }
}
