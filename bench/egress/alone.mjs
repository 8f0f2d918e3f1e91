import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { compileJobRules, compileNodeRules, decideHost } from '../../dist/egress/index.js'
import { serveGateway } from '../../dist/standalone/index.js'
import { ADDRESS, HOST, residentKib, startWeir } from './proxies.mjs'
import { median, quantile } from './report.mjs'

/** What the others do not do, or not per execution. */
export async function alone(context) {
  const { parts } = context
  if (parts.has('leases')) await leases(context)
  if (parts.has('limits')) await limits(context)
  if (parts.has('neighbour')) await noisyNeighbour(context)
  if (parts.has('policy')) {
    decisions(context)
    await liveChange(context)
  }
}

/** How long it takes until a job can connect, and what each execution costs. */
async function leases({ report, dir, list }) {
  const weir = await startWeir(dir, list)
  try {
    await weir.lease(list.slice(0, 5))
    const before = residentKib(weir.pid)
    const count = 1_000
    const took = []
    for (let index = 0; index < count; index++) {
      const startedAt = performance.now()
      const { port } = await weir.lease(list.slice(0, 5))
      await accepted(port)
      took.push(performance.now() - startedAt)
    }
    const p99 = quantile(took, 0.99)
    report.row('leases', 'lease on a listener of its own until it accepts, p50 ms', { weir: median(took) })
    report.row('leases', 'the same, p99 ms', { weir: p99 }, '≤ 20', p99 <= 20)
    const kib = (residentKib(weir.pid) - before) / count
    report.row('leases', 'KiB per execution (1,000 leases)', { weir: kib }, '≤ 100', kib <= 100)
    await inNamespaces(report, weir, list)
  } finally {
    await weir.close()
  }
}

/** Where holders wait ready-made only the second figure is in the way of a job. */
async function inNamespaces(report, { gateway }, list) {
  const [attaching, opening] = [[], []]
  for (let index = 0; index < 12; index++) {
    const child = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up; echo; exec sleep 60'])
    try {
      await once(child.stdout, 'data')
      const startedAt = performance.now()
      const attachment = await gateway.attach(`/proc/${child.pid}/ns/net`)
      const attachedAt = performance.now()
      const who = { jobId: 'j-inside', executionId: `e-inside-${index}` }
      const lease = await gateway.open(who, { mode: 'http', allow: list }, attachment)
      opening.push(performance.now() - attachedAt)
      attaching.push(attachedAt - startedAt)
      await lease.close()
    } finally {
      child.kill('SIGKILL')
    }
  }
  report.row('leases', 'listeners made inside a network namespace, p50 ms', { weir: median(attaching) })
  const p99 = quantile(opening, 0.99)
  report.row('leases', 'lease on those of a namespace, p99 ms', { weir: p99 }, '≤ 20', p99 <= 20)
}

const RATE = 10

/** The default bounds: 10 Mbit/s in each direction, both directions at the same time. */
async function limits({ report, load, dir, list, windowSeconds, idleSeconds }) {
  const weir = await startWeir(dir, list, { limits: { connectionsMax: 1_024, requestsPerSecond: 10_000 } })
  const tunnel = (port, options) => load.run('tunnel', { proxy: port, seconds: windowSeconds, ...options })
  try {
    const rested = await weir.lease()
    // It waits while everything else is measured.
    const rest = tunnel(rested.port, {
      streams: 4,
      idle: idleSeconds,
      seconds: 1,
      warm: 1,
      base: 1_000,
    })
    rest.catch(() => {})
    for (const streams of [1, 8, 64, 512]) {
      const { port } = await weir.lease()
      const [down, up] = await Promise.all([
        tunnel(port, { streams, direction: 'down', warm: 1 }),
        tunnel(port, { streams, direction: 'up', warm: 1, base: 2_000 + streams }),
      ])
      accuracy(report, `${streams} stream${streams > 1 ? 's' : ''}`, { down, up })
      // With more streams a second holds a few slices of each: their count is what differs.
      if (streams > 1 && streams <= 64) {
        const jain = Math.min(down.jain, up.jain)
        report.row('limits', `fairness of ${streams} streams (Jain)`, { weir: jain }, '≥ 0.95', jain >= 0.95)
      }
    }
    const small = await weir.lease()
    const pieces = await tunnel(small.port, {
      streams: 8,
      direction: 'up',
      write: 64,
      warm: 1,
      base: 3_100,
    })
    accuracy(report, '8 streams in writes of 64 bytes', { up: pieces })
    await betweenExecutions({ report, load, weir, windowSeconds })
    const probed = await weir.lease()
    const probe = await tunnel(probed.port, { streams: 4, direction: 'down', probe: 1, warm: 1 })
    report.row(
      'limits',
      'echo beside 4 streams that use the whole rate, p50 ms',
      { weir: probe.p50 },
      '≤ 25',
      probe.p50 <= 25,
    )
    report.row('limits', 'the same, p99 ms', { weir: probe.p99 }, '≤ 60', probe.p99 <= 60)
    await limitedMemory({ report, load, weir })
    const { firstBytes } = await rest
    // The first second passes the rate and what was stored.
    const stored = (firstBytes - (RATE * 1e6) / 8) / 1_024
    report.row(
      'limits',
      `stored during ${idleSeconds} s without traffic, KiB`,
      { weir: stored },
      '≤ 128',
      stored <= 128,
    )
  } finally {
    await weir.close()
  }
}

function accuracy(report, what, directions) {
  for (const [direction, { mbit, perSecond }] of Object.entries(directions)) {
    const error = (mbit / RATE - 1) * 100
    const worst = Math.max(...perSecond.map((each) => Math.abs(each / RATE - 1) * 100))
    report.row(
      'limits',
      `${RATE} Mbit/s, ${what} ${direction}, error %`,
      { weir: error },
      '± 1',
      Math.abs(error) <= 1,
    )
    report.row('limits', `the same, worst second %`, { weir: worst }, '± 3', worst <= 3)
  }
}

/** Executions with different numbers of streams share what the node has: each has its own rate, so they only meet at the processor. */
async function betweenExecutions({ report, load, weir, windowSeconds }) {
  const streams = [1, 2, 4, 8, 16]
  const opened = []
  for (const _ of streams) opened.push(await weir.lease())
  const results = await Promise.all(
    streams.map((count, index) =>
      load.run('tunnel', { proxy: opened[index].port, streams: count, seconds: windowSeconds, warm: 1 }),
    ),
  )
  const shares = results.map(({ mbit }) => mbit)
  const jain =
    shares.reduce((sum, share) => sum + share, 0) ** 2 /
    (shares.length * shares.reduce((sum, share) => sum + share ** 2, 0))
  report.row(
    'limits',
    'fairness of 5 executions with 1 to 16 streams (Jain)',
    { weir: jain },
    '≥ 0.99',
    jain >= 0.99,
  )
}

/** Hosts that send as fast as they can, and a bound that lets little pass: the difference waits outside. */
async function limitedMemory({ report, load, weir }) {
  const { port } = await weir.lease()
  const streams = 512
  const before = residentKib(weir.pid)
  const flooded = load.run('tunnel', {
    proxy: port,
    streams,
    seconds: 4,
    warm: 1,
  })
  await sleep(4_000)
  const kib = (residentKib(weir.pid) - before) / streams
  await flooded
  report.row('limits', 'KiB per limited stream (512)', { weir: kib }, '≤ 64', kib <= 64)
}

/** One execution at all its bounds at once: connections, requests, both rates. */
async function noisyNeighbour({ report, load, dir, list, seconds }) {
  const weir = await startWeir(dir, list, { limits: {} })
  try {
    const [noisy, quiet] = [await weir.lease(), await weir.lease()]
    const measured = { alone: [], beside: [] }
    const calm = () => load.run('connect', { proxy: quiet.port, seconds, pause: 0.006 })
    for (let round = 0; round < 3; round++) {
      measured.alone.push((await calm()).p99)
      const noise = [
        load.run('tunnel', { proxy: noisy.port, streams: 100, seconds: seconds + 1, warm: 0 }),
        load.run('tunnel', {
          proxy: noisy.port,
          streams: 100,
          direction: 'up',
          seconds: seconds + 1,
          warm: 0,
          base: 4_000,
        }),
        ...[1, 2].map(() => load.run('connect', { proxy: noisy.port, seconds: seconds + 2 })),
      ]
      await sleep(1_000)
      measured.beside.push((await calm()).p99)
      await Promise.all(noise)
    }
    const [before, after] = [median(measured.alone), median(measured.beside)]
    report.row('neighbour', 'CONNECT of a quiet execution, p99 ms', { weir: before })
    report.row('neighbour', 'the same beside one at all its bounds, p99 ms', { weir: after })
    report.row('neighbour', 'how much that is', { weir: after / before }, '≤ 2 ×', after / before <= 2)
  } finally {
    await weir.close()
  }
}

/** In this process: the function that the gateway asks, with 10,000 rules of the node and as many of the job. */
function decisions({ report }) {
  const rulesCount = 10_000
  const patterns = Array.from({ length: rulesCount }, (_, index) => {
    const name = `host${index}.zone${index % 97}.example.com`
    return index % 2 === 0 ? name : `.${name}`
  })
  const node = compileNodeRules(
    {
      allow: patterns,
      deny: patterns.map((text) => `denied-${text.replace(/^\./, '')}`),
      privateExceptions: [],
      self: ['api.example.org'],
    },
    1,
  )
  const rules = {
    mode: 'http',
    job: compileJobRules({ allow: patterns }),
    node,
    ownAddresses: new Set(['203.0.113.9']),
  }
  const requests = Array.from({ length: 1_024 }, (_, index) => ({
    kind: 'connect',
    port: 443,
    host: { kind: 'name', text: patterns[(index * 37) % rulesCount].replace(/^\./, 'a.b.') },
  }))
  const rounds = []
  for (let round = 0; round < 15; round++) {
    const before = process.cpuUsage()
    for (let index = 0; index < 50_000; index++)
      if (!decideHost(requests[index & 1_023], rules).allowed) throw new Error('a listed host is refused')
    const { user, system } = process.cpuUsage(before)
    rounds.push((user + system) / 50_000)
  }
  const micros = median(rounds)
  report.row('policy', 'decision with 10,000 rules in each list, µs', { weir: micros }, '≤ 1', micros <= 1)
}

/** A file of 10,000 hosts is replaced while `weir egress gateway` runs. */
async function liveChange({ report, dir }) {
  const file = join(dir, 'policy.yaml')
  const many = Array.from({ length: 10_000 }, (_, index) => `www${index}.zone${index % 97}.example.net`)
  const write = (allow) => {
    writeFileSync(`${file}.new`, JSON.stringify({ allow, hosts: { [HOST]: ADDRESS } }))
    renameSync(`${file}.new`, file)
  }
  write(many)
  const gateway = await serveGateway({
    policyFile: file,
    allow: [],
    listen: ['127.0.0.1:3140'],
    auditDir: join(dir, 'live'),
  })
  try {
    const [allowing, closing] = [[], []]
    for (let round = 0; round < 5; round++) {
      let startedAt = performance.now()
      write([...many, HOST])
      let tunnel
      while (tunnel === undefined && performance.now() - startedAt < 5_000) tunnel = await tryTunnel(3140)
      if (tunnel === undefined) throw new Error('the changed file did not come into force')
      allowing.push(performance.now() - startedAt)
      const closed = once(tunnel, 'close')
      startedAt = performance.now()
      write(many)
      await closed
      closing.push(performance.now() - startedAt)
    }
    const [allowed, cut] = [median(allowing), median(closing)]
    report.row(
      'policy',
      '10,000 hosts from the file into force, ms',
      { weir: allowed },
      '≤ 100',
      allowed <= 100,
    )
    report.row(
      'policy',
      'a tunnel that is forbidden now is closed, ms',
      { weir: cut },
      '≤ 1000',
      cut <= 1_000,
    )
  } finally {
    await gateway.close(0)
  }
}

/** The socket of a tunnel that waits for its hello; undefined when it was refused. */
function tryTunnel(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', reject)
    socket.on('connect', () => socket.write(`CONNECT ${HOST}:443 HTTP/1.1\r\nHost: ${HOST}:443\r\n\r\n`))
    socket.once('data', (bytes) => {
      if (bytes.toString('latin1').startsWith('HTTP/1.1 200')) return resolve(socket)
      socket.destroy()
      resolve(undefined)
    })
  })
}

function accepted(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', reject)
    socket.on('connect', () => {
      socket.destroy()
      resolve()
    })
  })
}
