import { describe, expect, it } from 'vitest'
import { judgeEvidence } from '../../src/model/evidence.js'
import { keyPairOf, type NodeInfo, signReceipt } from '../../src/model/index.js'
import { guardSync } from '../../src/node/membership/sync-guard.js'
import { REAL_CHANCE, REAL_CLOCK } from '../../src/node/real-time.js'
import { createOrchestrator } from '../../src/orchestrator/index.js'
import { SYNC_SUBJECT, type Transport } from '../../src/ports/index.js'
import { openMemoryStore } from '../../src/stores/index.js'
import { createInProcessTransport } from '../../src/transports/index.js'
import { sampleInfo } from '../orchestrator/samples.js'

const KNOWN = keyPairOf(Buffer.alloc(32, 1))
const FORGED = keyPairOf(Buffer.alloc(32, 2))

/** A network in which the connection proves who speaks, as NATS does. */
function speaking(inner: Transport, from: string): Transport {
  return {
    request: (subject, body, timeoutMs) => inner.request(subject, body, timeoutMs),
    close: () => inner.close(),
    serve: (subject, handler) => inner.serve(subject, (body, signal) => handler(body, signal, from)),
  }
}

describe('a node that claims another key than the one it joined with', () => {
  it('is shown with the key that it joined with, so that receipts of the other one are not believed', async () => {
    const transport = createInProcessTransport({ clock: REAL_CLOCK, chance: REAL_CHANCE })
    const store = openMemoryStore()
    const members = new Map([['n-1', KNOWN.publicKey]])
    const orchestrator = createOrchestrator({
      store,
      transport: guardSync(speaking(transport, 'n-1'), (nodeId) => members.get(nodeId)),
      clock: REAL_CLOCK,
      chance: REAL_CHANCE,
      nodeId: 'n-o',
    })
    await orchestrator.start()
    try {
      const say = (nodeId: string, info: Partial<NodeInfo> = {}) =>
        transport.request(
          SYNC_SUBJECT,
          {
            nodeId,
            incarnation: 'i-1',
            info: { ...sampleInfo(nodeId), ...info },
            knownRevision: 0,
            observed: [],
            leaving: false,
          },
          5_000,
        )
      for (const claim of [{ publicKey: FORGED.publicKey }, {}]) {
        await say('n-1', claim)
        expect((await orchestrator.node('n-1')).info.publicKey).toBe(KNOWN.publicKey)
      }
      await expect(say('n-2', { publicKey: KNOWN.publicKey })).rejects.toMatchObject({
        code: 'api.forbidden',
      })

      const receipt = (key: typeof KNOWN) =>
        signReceipt(
          {
            nodeId: 'n-1',
            jobId: 'j-1',
            executionId: 'e-1',
            network: 'http',
            startTimeMs: 1,
            endTimeMs: 2,
            policyGenerations: [],
            records: 0,
            chainHead: '',
            allowed: 0,
            refused: 0,
            bytesUp: 0,
            bytesDown: 0,
            codes: {},
            destinations: [],
            destinationsTruncated: false,
          },
          key,
        )
      const { info } = await orchestrator.node('n-1')
      const judge = (key: typeof KNOWN) =>
        judgeEvidence({ records: [], receipts: [receipt(key)] }, () => info.publicKey)[0]
      expect(judge(KNOWN)).toMatchObject({ intact: true })
      expect(judge(FORGED)).toMatchObject({
        intact: false,
        problems: [expect.stringContaining('another key than that of node n-1')],
      })

      members.delete('n-1')
      await expect(say('n-1')).rejects.toMatchObject({ code: 'node.refused' })
    } finally {
      await orchestrator.close()
      await transport.close()
      await store.close()
    }
  })
})
