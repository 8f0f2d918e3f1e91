/**
 * The gateway process: composes the egress room with the audit file and obeys its parent over IPC. It dies with its
 * parent, and when anything unforeseen happens: then nothing leaves until the parent has started it again.
 */
import { createControl, createResolver, Gateway, type ControlRequest } from '../../egress/index.js'
import { createAuditFile } from '../../stores/index.js'

const control = createControl((options) => {
  const { nodeId, auditDir, auditBytesMax, dnsServers, hosts, dnsTimeoutMs, limits, allowEch } = options
  return new Gateway({
    nodeId,
    audit: createAuditFile({
      dir: auditDir,
      ...(auditBytesMax === undefined ? {} : { bytesMax: auditBytesMax }),
    }),
    resolve: createResolver({
      servers: dnsServers ?? [],
      hosts: hosts ?? {},
      ...(dnsTimeoutMs === undefined ? {} : { timeoutMs: dnsTimeoutMs }),
    }),
    limits: limits ?? {},
    allowEch: allowEch === true,
  })
})

process.on('message', (message: ControlRequest) => {
  void control(message).then((reply) => {
    if (process.connected) process.send?.(reply)
    if (message.call === 'shutdown') process.disconnect()
  })
})
process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGHUP'] as const) {
  // A terminal sends these to the whole group; the parent decides when this process ends.
  process.on(signal, () => {})
}
