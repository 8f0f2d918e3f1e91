import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type GatewayClient, startGateway } from '../../src/egress/index.js'
import type { AuditRecord } from '../../src/model/index.js'
import type { EgressLease, GatewayAttachment, NodeEgressPolicy } from '../../src/ports/index.js'
import { createAuditFile } from '../../src/stores/audit-file.js'
import { ChannelClient, socketPair } from './channel-client.js'
import type { CorpusRow } from './corpus-row.js'
import { type CorpusTarget, DEFAULT_LIST } from './corpus-runner.js'
import { nodePolicyOf, QUICK_LIMITS } from './in-process-target.js'
import { createTestWorld, DNS_SERVER, Namespace } from '../../src/conformance/index.js'

export interface ProcessTarget extends CorpusTarget {
  readonly gateway: GatewayClient
  job: Namespace
  prepare(row: CorpusRow, learning?: { node: Partial<NodeEgressPolicy> }): Promise<void>
  /** Records since the last row was prepared. */
  records(): Promise<AuditRecord[]>
  /** Closes the lease of the last row. */
  endLease(): Promise<void>
}

/**
 * The gateway as a process of its own in a namespace with an uplink; the job in one with only loopback; origins, a
 * DNS server and internal listeners behind the uplink, on the real addresses. Nothing leaves this machine. Rows go through its
 * proxy, or through the channel of a sandbox, whose descriptor the process is handed.
 */
export async function createProcessTarget(way: 'proxy' | 'channel' = 'proxy'): Promise<ProcessTarget> {
  const tag = `wc${process.pid % 10_000}`
  const world = await createTestWorld(tag)
  const { witnesses, uplink } = world
  const job = Namespace.create(`${tag}j`)
  const dir = mkdtempSync(join(tmpdir(), 'weir-corpus-'))
  const audit = createAuditFile({ dir })
  const start = (allowEch: boolean) =>
    startGateway({
      nodeId: 'n-corpus',
      auditDir: dir,
      audit,
      dnsServers: [DNS_SERVER],
      dnsTimeoutMs: 1_000,
      limits: QUICK_LIMITS,
      allowEch,
      launcher: ['ip', 'netns', 'exec', uplink.name],
    })
  const usual = await start(false)
  let lenient: GatewayClient | undefined
  let current: { key: string; lease: EgressLease; executionId: string; after: number } | undefined
  let channel: ChannelClient | undefined
  let count = 0
  const enter = async (gateway: GatewayClient): Promise<GatewayAttachment> => {
    if (way === 'proxy') return await gateway.attach(job.path)
    const attachment = await gateway.attachSandbox()
    const [theirs, mine] = await socketPair()
    await gateway.carry(attachment, theirs)
    channel = new ChannelClient(mine)
    return attachment
  }
  return {
    witnesses,
    gateway: usual,
    job,
    async prepare(row, learning) {
      const key = JSON.stringify([row.policy ?? {}, learning])
      if (current?.key !== key) {
        await current?.lease.close()
        if (row.policy?.allowEch === true) lenient ??= await start(true)
        const gateway = row.policy?.allowEch === true && lenient !== undefined ? lenient : usual
        await gateway.setNodePolicy({ ...nodePolicyOf(row), ...learning?.node })
        const executionId = `e-corpus-${++count}`
        const attachment = await enter(gateway)
        const lease = await gateway.open(
          { jobId: 'j-corpus', executionId },
          {
            mode: 'http',
            allow: row.policy?.job ?? DEFAULT_LIST,
            ...(learning === undefined ? {} : { learning: true }),
          },
          attachment,
        )
        current = { key, lease, executionId, after: 0 }
      }
      current.after = (await audit.read(current.executionId, 0, 10_000)).at(-1)?.sequence ?? 0
    },
    async endLease() {
      await current?.lease.close()
      current = undefined
    },
    connect: async () =>
      // All that rows do with a connection a conversation of the channel can do as well.
      (channel?.open() as unknown as Socket | undefined) ?? (await job.connect('127.0.0.1', 3128)),
    records: () => audit.read(current?.executionId ?? '', current?.after ?? 0, 1_000),
    async close() {
      channel?.socket.destroy()
      await usual.close()
      await lenient?.close()
      job.close()
      world.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
