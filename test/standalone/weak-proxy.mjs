// A forward proxy as many people would write it: the end of the name is compared, and nothing else is looked at.
import { createServer, request } from 'node:http'
import { connect } from 'node:net'

const allowed = (host) => host.endsWith('example.com') || host === 'exact.test'

const server = createServer((incoming, outgoing) => {
  const url = new URL(incoming.url, 'http://nowhere')
  if (!allowed(url.hostname)) {
    outgoing.statusCode = 403
    return outgoing.end('no')
  }
  const onward = request(url, { method: incoming.method, headers: incoming.headers }, (answer) => {
    outgoing.writeHead(answer.statusCode, answer.headers)
    answer.pipe(outgoing)
  })
  onward.on('error', () => outgoing.destroy())
  incoming.pipe(onward)
})
server.on('connect', ({ url }, socket, head) => {
  const [host, port] = url.split(':')
  if (!allowed(host)) return socket.end('HTTP/1.1 403 Forbidden\r\n\r\n')
  const onward = connect(Number(port), host, () => {
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    onward.write(head)
    socket.pipe(onward).pipe(socket)
  })
  onward.on('error', () => socket.destroy())
  socket.on('error', () => onward.destroy())
})
server.on('clientError', (_error, socket) =>
  socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'),
)
server.listen(3128, '127.0.0.1')
