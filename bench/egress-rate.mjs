// Accuracy of the gateway's rate limit: 10 Mbit/s per execution and direction, with 1, 8 and 64 streams.
// Run after `npm run build`: `node bench/egress-rate.mjs [seconds]`. Client, gateway and origin share this process.
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createResolver, Gateway } from '../dist/egress/index.js'
import { createAuditFile } from '../dist/stores/audit-file.js'

const SECONDS = Number(process.argv[2] ?? 4)
const RATE = 10_000_000
const BLOCK = Buffer.alloc(65_536)

const rows = []
for (const direction of ['up', 'down'])
  for (const streams of [1, 8, 64]) rows.push(await measure(direction, streams))
console.log(`rate limit ${RATE / 1e6} Mbit/s, ${SECONDS} s per row, Node ${process.version}`)
console.table(rows)

async function measure(direction, streams) {
  const dir = mkdtempSync(join(tmpdir(), 'weir-bench-'))
  const counts = Array.from({ length: streams }, () => 0)
  let next = 0
  const origin = await listen((socket) => {
    const index = next++
    socket.on('error', () => {})
    socket.once('data', () => {
      if (direction === 'up') socket.on('data', (data) => (counts[index] += data.length))
      else {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        flood(socket)
      }
    })
  })
  const gateway = new Gateway({
    nodeId: 'n-bench',
    audit: createAuditFile({ dir }),
    resolve: createResolver({ hosts: { 'example.com': '93.184.216.10' } }),
    // The judged address stands for the origin of this process.
    dial: () => dial(origin.address().port),
    ownAddresses: () => [],
  })
  gateway.setNodePolicy({ allow: ['example.com'], deny: [], privateExceptions: [], self: [] })
  const door = await listen()
  gateway.hold('door', [door])
  await gateway.open(
    { jobId: 'j-bench', executionId: 'e-bench' },
    { mode: 'http', allow: ['example.com'] },
    'door',
  )
  const sockets = []
  for (let index = 0; index < streams; index++) {
    const socket = await dial(door.address().port)
    sockets.push(socket)
    if (direction === 'down') {
      socket.on('data', (data) => (counts[index] += data.length))
      socket.write('GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n')
    } else {
      socket.write(
        'POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nContent-Length: 999999999999\r\n\r\n',
      )
      flood(socket)
    }
  }
  await sleep(1_000)
  const from = [...counts]
  const perSecond = []
  const startedAt = performance.now()
  for (let second = 0; second < SECONDS; second++) {
    const [at, before] = [performance.now(), sum(counts)]
    await sleep(1_000)
    perSecond.push(((sum(counts) - before) * 8) / ((performance.now() - at) / 1_000) / 1e6)
  }
  const total = ((sum(counts) - sum(from)) * 8) / ((performance.now() - startedAt) / 1_000) / 1e6
  const shares = counts.map((count, index) => count - from[index])
  for (const socket of sockets) socket.destroy()
  await gateway.shutdown()
  origin.close()
  rmSync(dir, { recursive: true, force: true })
  return {
    direction,
    streams,
    'Mbit/s': total.toFixed(3),
    'error %': (((total * 1e6) / RATE - 1) * 100).toFixed(2),
    'worst second %': worst(perSecond).toFixed(2),
    'Jain fairness': (sum(shares) ** 2 / (streams * sum(shares.map((share) => share ** 2)))).toFixed(4),
  }
}

function worst(perSecond) {
  return Math.max(...perSecond.map((mbit) => Math.abs(((mbit * 1e6) / RATE - 1) * 100)))
}

function flood(socket) {
  const more = () => {
    while (!socket.destroyed && socket.write(BLOCK));
  }
  socket.on('drain', more)
  more()
}

function listen(onSocket) {
  return new Promise((resolve) => {
    const server = createServer({ allowHalfOpen: true }, onSocket)
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
}

function dial(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.on('error', () => {})
      resolve(socket)
    })
    socket.once('error', reject)
  })
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0)
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
