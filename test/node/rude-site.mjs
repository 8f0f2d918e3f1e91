// A web site with bad manners, run inside a network namespace: `node rude-site.mjs ADDRESS`.
import { createServer } from 'node:http'

const BYTES = 400_000
const body = Buffer.from(Array.from({ length: BYTES }, (_, at) => at % 251))
const contacts = []
let cut = false

const pages = {
  '/fine.csv': (_request, response) => response.end('id,city,amount\n1,paris,3\n2,lima,4\n'),
  // Bytes for ever: one at a time, or as fast as the reader takes them.
  '/drip.csv': (_request, response) => {
    const timer = setInterval(() => response.write('x'), 50)
    response.once('close', () => clearInterval(timer))
  },
  '/flood.csv': (_request, response) => {
    const more = () => {
      if (!response.destroyed) response.write(Buffer.alloc(65_536, 'x'), () => setImmediate(more))
    }
    more()
  },
  '/silent.csv': () => {},
  '/huge.csv': (_request, response) => {
    response.writeHead(200, { 'content-length': 10 ** 13 }).flushHeaders()
  },
  // Breaks off once, in the middle; a client that asks for the rest gets it.
  '/cut.csv': (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const head = { etag: '"one"', 'content-length': BYTES - from }
    if (from > 0) head['content-range'] = `bytes ${from}-${BYTES - 1}/${BYTES}`
    response.writeHead(from > 0 ? 206 : 200, head)
    if (cut || request.method === 'HEAD') return response.end(body.subarray(from))
    cut = true
    response.write(body.subarray(0, BYTES / 2), () => setTimeout(() => response.destroy(), 50))
  },
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://site')
  contacts.push(`${request.method} ${url.pathname} ${request.headers.range ?? ''}`.trim())
  if (url.pathname === '/contacts') return response.end(JSON.stringify(contacts))
  if (url.pathname === '/redirect.csv')
    return response.writeHead(302, { location: url.searchParams.get('to') ?? '' }).end()
  const page = pages[url.pathname]
  if (page === undefined) response.writeHead(404).end('nothing here')
  else page(request, response)
})
server.listen(80, process.argv[2], () => console.log('ready'))
process.once('SIGTERM', () => process.exit(0))
