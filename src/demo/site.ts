import { createServer } from 'node:http'

/**
 * The web sites of the demo, run inside its network namespace: `node site.js ADDRESS`. Serves a CSV file and a page on
 * port 80, under whatever name it is asked for.
 */
const CITIES = ['paris', 'lima', 'osaka', 'accra']

const server = createServer((request, response) => {
  if (request.url === '/sales.csv') {
    response.setHeader('content-type', 'text/csv')
    response.end(salesCsv())
  } else {
    response.setHeader('content-type', 'text/plain')
    response.end(`hello from ${request.headers.host ?? 'nobody'}\n`)
  }
})

server.listen(80, process.argv[2], () => {
  console.log('ready')
})
process.once('SIGTERM', () => {
  server.closeAllConnections()
  server.close()
})

function salesCsv(): string {
  const rows = Array.from(
    { length: 20_000 },
    (_, row) => `${row},${CITIES[row % CITIES.length]},${(row * 37) % 1000}`,
  )
  return `${['row,city,amount', ...rows].join('\n')}\n`
}
