// The gateway as any forward proxy, with short deadlines so that rows about waiting do not take long: `own-proxy.mjs DIR`.
import { startGateway } from '../../dist/egress/index.js'
import { PROXY_CONFIGURATION } from '../../dist/conformance/index.js'
import { createAuditFile } from '../../dist/stores/index.js'

const [auditDir] = process.argv.slice(2)
const { allow, deny, dnsServers } = PROXY_CONFIGURATION
const gateway = await startGateway({
  nodeId: 'own',
  auditDir,
  audit: createAuditFile({ dir: auditDir }),
  dnsServers: [...dnsServers],
  dnsTimeoutMs: 1_000,
  limits: { headTimeoutMs: 700, helloTimeoutMs: 1_200, dialTimeoutMs: 1_000 },
})
await gateway.setNodePolicy({ allow: [...allow], deny: [...deny], privateExceptions: [], self: [] })
const attachment = await gateway.attachAddress('127.0.0.1', 3128)
await gateway.open({ jobId: 'own', executionId: 'own' }, { mode: 'http', allow: [...allow] }, attachment)
