import { describe, it } from 'vitest'
import { combineTransports, createInProcessTransport } from '../../src/transports/index.js'
import { describeTransport, type TransportPair } from '../conformance/transport.js'
import { CLOCK, noNats, ORCHESTRATOR, startNetwork } from './message-server.js'

describeTransport('inside one process', async () => {
  const transport = createInProcessTransport({ clock: CLOCK })
  return { server: transport, client: transport }
})

if (noNats === '') {
  describeTransport('over NATS', async () => natsPair())
  describeTransport('of a process that also serves others', async () => {
    const { server, cleanUp } = await natsPair()
    const combined = combineTransports(createInProcessTransport({ clock: CLOCK }), server)
    return { server: combined, client: combined, cleanUp }
  })
} else describe.skip(`the transport over NATS (skipped: ${noNats})`, () => it('', () => {}))

/** The one who may ask everybody, on two connections: one asks, one answers. */
async function natsPair(): Promise<TransportPair> {
  const network = await startNetwork()
  const server = await network.transport(ORCHESTRATOR, network.orchestrator)
  const client = await network.transport(ORCHESTRATOR, network.orchestrator)
  return { server: openedUp(server), client: openedUp(client), cleanUp: () => network.close() }
}

/** Only subjects of nodes may be asked; the suite's short names become such. */
function openedUp(
  transport: Awaited<ReturnType<Awaited<ReturnType<typeof startNetwork>>['transport']>>,
): TransportPair['server'] {
  const named = (subject: string): string => (subject.startsWith('node.') ? subject : `node.x.${subject}`)
  return {
    request: (subject, body, timeoutMs) => transport.request(named(subject), body, timeoutMs),
    serve: (subject, handler) => transport.serve(named(subject), handler),
    close: () => transport.close(),
  }
}
