// Runs inside a network namespace for the tests: makes sockets there and hands them to its parent over IPC.
import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'

process.on('message', ({ id, make, host, port }) => {
  const fail = (error) => process.send({ id, error: error.message })
  if (make === 'listen') {
    const server = createServer()
    server.on('error', fail)
    server.listen({ host, port, backlog: 512 }, () => process.send({ id }, server, () => server.close()))
  } else if (make === 'udp') {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.on('error', fail)
    // The parent's copy is the only one that may read.
    socket.bind(port, host, () => process.send({ id }, socket, () => socket.close()))
  } else {
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true })
    socket.on('error', fail)
    socket.on('connect', () => process.send({ id }, socket))
  }
})
process.on('disconnect', () => process.exit(0))
