/**
 * A program of its own, started inside a job's network namespace: binds the gateway's listeners there, hands them to
 * its parent over IPC and exits. Arguments: port. The namespace of a socket is the one it was created in, so the
 * gateway accepts from inside while it lives outside. Imports nothing but Node, to start fast.
 */
import { createServer, type Server } from 'node:net'

const port = Number(process.argv[2])

function bind(host: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host, port, backlog: 512 }, () => resolve(server))
  })
}

function send(message: object, server?: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(message, server, {}, (error) => (error ? reject(error) : resolve()))
  })
}

try {
  const four = await bind('127.0.0.1')
  // IPv6 may be switched off in the namespace; then IPv4 is all there is.
  const six = await bind('::1').catch(() => undefined)
  await send({ listener: 'four', more: six !== undefined }, four)
  if (six !== undefined) await send({ listener: 'six', more: false }, six)
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException
  await send({ failed: code ?? message })
  process.exitCode = 1
}
process.disconnect()
process.exit()
