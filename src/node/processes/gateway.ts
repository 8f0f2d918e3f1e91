/**
 * The gateway process: holds the gateway and obeys its parent over IPC. It dies with its
 * parent, and when anything unforeseen happens: then nothing leaves until the parent has started it again.
 */
import { createControl, type ControlRequest } from '../../egress/index.js'
import { composeGateway } from '../../standalone/index.js'

const control = createControl(composeGateway)

process.on('message', (message: ControlRequest, handle: unknown) => {
  void control(message, handle).then((reply) => {
    if (process.connected) process.send?.(reply)
    if (message.call === 'shutdown') process.disconnect()
  })
})
process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const) {
  // A terminal or a service manager sends these to the whole group; the parent decides when this process ends.
  process.on(signal, () => {})
}
