import { randomUUID } from 'node:crypto'
import { STATUS_CODES, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { ErrorBody } from './error-body.js'
import { writeJson, type BuildInfo } from './wire/index.js'

/** The error of Node's HTTP parser or of its clock for requests that never end. */
export interface ParserError extends Error {
  code?: string
}

/**
 * Answers bytes that never became a request (no HTTP, a head that is too large or never ends) in the shape of every
 * other error, and closes the connection: what follows on it cannot be told apart any more.
 */
export function answerParserError(error: ParserError, socket: Socket, build: BuildInfo): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  // An answer would wait for a handshake that never ends, and the connection with it.
  if (isBeforeTls(socket)) return void socket.destroy()
  if (socket.writable) {
    const body = parserErrorBody(error)
    const text = writeJson(body)
    const head = Object.entries(rawHeaders(build, text)).map(([name, value]) => `${name}: ${value}\r\n`)
    socket.write(
      `HTTP/1.1 ${body.Status} ${STATUS_CODES[body.Status]}\r\n${head.join('')}connection: close\r\n\r\n${text}`,
    )
  }
  socket.destroySoon()
}

/** True for a TLS connection that is not secure yet: nothing can be said on it. */
function isBeforeTls(socket: Socket): boolean {
  return socket instanceof TLSSocket && socket.getPeerFinished() === undefined
}

/**
 * Answers what Node would answer itself without a body: an `Expect` that is not understood (417), and a body that is
 * announced with `Expect: 100-continue` but larger than `bodyBytesMax` is refused before it is sent.
 */
export function answerExpectations(server: Server, bodyBytesMax: number, build: BuildInfo): void {
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    if (Number(request.headers['content-length'] ?? 0) <= bodyBytesMax) response.writeContinue()
    server.emit('request', request, response)
  })
  server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    const expectation = JSON.stringify((request.headers.expect ?? '').slice(0, 80))
    const body = rawBody(
      417,
      `Cannot meet the expectation ${expectation}`,
      'Send 100-continue or no Expect header.',
    )
    const text = writeJson(body)
    response.writeHead(417, { ...rawHeaders(build, text), connection: 'close' }).end(text)
  })
}

function parserErrorBody({ code }: ParserError): ErrorBody {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return rawBody(
        431,
        'Cannot take the request: its head is larger than 16 KiB',
        'Send fewer or shorter headers.',
      )
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return rawBody(
        413,
        'Cannot take the request: its chunk extensions are too long',
        'Send chunks without extensions.',
      )
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return {
        ...rawBody(408, 'Cannot wait longer for the rest of the request', 'Send it again.'),
        Code: 'TimeOut',
      }
    default:
      return rawBody(
        400,
        'Cannot read the request: it is not HTTP/1.1',
        'Check the client and its proxy settings.',
      )
  }
}

function rawBody(status: number, message: string, hint: string): ErrorBody {
  return {
    Status: status,
    Message: message,
    RequestID: '',
    Code: 'BadRequest',
    Component: 'APIServer',
    Hint: hint,
    Details: { WeirCode: status === 408 ? 'api.timeout' : 'api.bad_request' },
  }
}

/** The headers of every answer, for those that fastify does not write. */
export function rawHeaders(build: BuildInfo, text: string): Record<string, string> {
  return {
    ...build.headers,
    'x-request-id': randomUUID(),
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(text)),
    'cache-control': 'no-store',
  }
}
