/**
 * A program of its own, started inside a network namespace: makes sockets there and hands them to its parent over IPC.
 * Imports nothing but Node, to start fast.
 */
import { createSocket } from 'node:dgram'
import { connect, createServer, type TcpNetConnectOpts } from 'node:net'

interface Wish {
  id: number
  make: 'listen' | 'udp' | 'connect'
  host: string
  port: number
}

process.on('message', ({ id, make, host, port }: Wish) => {
  const fail = (error: Error): void => {
    process.send?.({ id, error: error.message })
  }
  if (make === 'listen') {
    const server = createServer()
    server.on('error', fail)
    server.listen({ host, port, backlog: 512 }, () =>
      process.send?.({ id }, server, {}, () => server.close()),
    )
  } else if (make === 'udp') {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.on('error', fail)
    // The parent's copy is the only one that may read.
    socket.bind(port, host, () => process.send?.({ id }, socket, {}, () => socket.close()))
  } else {
    const options: TcpNetConnectOpts = { host, port, allowHalfOpen: true, noDelay: true }
    const socket = connect(options)
    socket.on('error', fail)
    socket.on('connect', () => process.send?.({ id }, socket))
  }
})
process.on('disconnect', () => process.exit(0))
