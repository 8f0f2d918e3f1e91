import { type IncomingMessage, createServer } from 'node:http'
import { Duplex } from 'node:stream'
import fc from 'fast-check'
import { readRequest } from '../../../src/egress/index.js'
import { requestHeadForOrigin } from '../../../src/egress/http/forwarded-headers.js'
import { hostInUrl } from '../../../src/model/index.js'
import { readCorpus } from '../../egress/corpus-row.js'
import type { FuzzTarget } from '../target.js'
import { byteChanges, changed } from '../texts.js'

/** Rows of the attack corpus whose first bytes are a request. */
const HEADS = readCorpus()
  .map((row) => row.send[0]?.text ?? '')
  .filter((text) => text.length > 0 && text.length < 2_000)

const SPLICES = ['\r\n', '\n', '\r', ' ', '\t', ':', 'Host: evil.test\r\n', 'Content-Length: 5\r\n', '%0d%0a']
  .concat(
    'Transfer-Encoding: chunked\r\n',
    'Connection: host\r\n',
    '\r\n\r\nGET http://evil.test/ HTTP/1.1\r\n',
  )
  .concat('@evil.test', '\\', '#', 'http://', '\0', '\u00ff', ' HTTP/1.1', 'x: y\r\n z\r\n')

/** Requests of the attack corpus, changed at random, read by us; what we would send on is read by Node's own parser. */
export const requestHeads: FuzzTarget = {
  name: 'request-heads',
  promise: 'an origin reads in what we forward exactly the one request that was decided on',
  open: () => ({
    property: fc.asyncProperty(
      fc.constantFrom(...HEADS),
      fc.array(fc.tuple(fc.nat(300), fc.constantFrom(...SPLICES)), { maxLength: 3 }),
      byteChanges,
      async (head, splices, changes) => {
        let text = head
        for (const [at, splice] of splices) {
          const place = at % (text.length + 1)
          text = text.slice(0, place) + splice + text.slice(place)
        }
        const reading = readRequest(changed(Buffer.from(text, 'latin1'), changes))
        if (reading.state !== 'ok' || reading.request.kind !== 'http') return
        const { request } = reading
        const forwarded = requestHeadForOrigin(request)
        const seen = await asOriginReads(forwarded)
        if (seen === undefined) return
        const port = request.port === 80 ? '' : `:${request.port}`
        const wanted = {
          host: `${hostInUrl(request.host)}${port}`,
          method: request.method,
          path: request.path,
          length: request.body.kind === 'length' ? String(request.body.bytes) : undefined,
          coding: request.body.kind === 'chunked' ? 'chunked' : undefined,
        }
        for (const [what, value] of Object.entries(wanted)) {
          const found = seen[what as keyof typeof wanted]
          if (found !== value)
            throw new Error(
              `an origin reads ${what} as ${JSON.stringify(found)}, not ${JSON.stringify(value)}`,
            )
        }
        if (seen.requests !== 1) throw new Error(`an origin reads ${seen.requests} requests`)
      },
    ),
  }),
}

interface SeenRequest {
  host: string | undefined
  method: string
  path: string
  length: string | undefined
  coding: string | undefined
  requests: number
}

/** Undefined when the parser refuses it, as an origin may. */
function asOriginReads(head: string): Promise<SeenRequest | undefined> {
  return new Promise((resolve) => {
    const requests: IncomingMessage[] = []
    const server = createServer((request) => void requests.push(request))
    for (const event of ['upgrade', 'connect', 'checkContinue', 'checkExpectation'] as const)
      server.on(event, (request: IncomingMessage) => void requests.push(request))
    let isRefused = false
    server.on('clientError', () => {
      isRefused = true
    })
    const wire = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
    server.emit('connection', wire)
    wire.push(Buffer.from(head, 'latin1'))
    setImmediate(() => {
      wire.destroy()
      const [first] = requests
      if (isRefused || first === undefined) return resolve(undefined)
      const { headers, method = '', url = '' } = first
      resolve({
        host: headers.host,
        method,
        path: url,
        length: headers['content-length'],
        coding: headers['transfer-encoding'],
        requests: requests.length,
      })
    })
  })
}
