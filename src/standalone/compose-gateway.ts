import { createProxyAuthenticator } from '../access/index.js'
import { createResolver, Gateway, type GatewayProcessOptions } from '../egress/index.js'
import { createAuditFile } from '../stores/index.js'

/** A gateway with audit files, a resolver and credentials: what runs in its process, or in this one. */
export function composeGateway(options: GatewayProcessOptions): Gateway {
  const {
    nodeId,
    auditDir,
    auditBytesMax,
    auditTurnOver,
    dnsServers,
    hosts,
    dnsTimeoutMs,
    limits,
    allowEch,
    authorities,
  } = options
  return new Gateway({
    nodeId,
    audit: createAuditFile({
      dir: auditDir,
      ...(auditBytesMax === undefined ? {} : { bytesMax: auditBytesMax }),
      ...(auditTurnOver === undefined ? {} : { turnOver: auditTurnOver }),
    }),
    resolve: createResolver({
      servers: dnsServers ?? [],
      hosts: hosts ?? {},
      ...(dnsTimeoutMs === undefined ? {} : { timeoutMs: dnsTimeoutMs }),
    }),
    limits: limits ?? {},
    allowEch: allowEch === true,
    ...(authorities === undefined ? {} : { authorities }),
    createAuthenticator: (credentials) => createProxyAuthenticator(credentials, Date),
  })
}
