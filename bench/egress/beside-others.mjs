import { setTimeout as sleep } from 'node:timers/promises'
import {
  openFilesMax,
  processorMicros,
  residentKib,
  startSquid,
  startTinyproxy,
  startWeir,
} from './proxies.mjs'
import { median } from './report.mjs'

/**
 * What is measured beside Squid and tinyproxy: each in turn, round after round, so that whatever else the machine does
 * meets all of them. Figures are medians of the rounds.
 */
export async function besideOthers({ parts, report, load, dir, list, seconds, rounds, only, profile }) {
  const proxies = []
  try {
    for (const start of [startWeir, startSquid, startTinyproxy]) {
      if (!only.has(start.name.slice(5).toLowerCase())) continue
      const proxy = await start(dir, list, profile === undefined ? {} : { profile })
      if (proxy !== undefined) proxies.push(proxy)
    }
    const inTurn = async (mode, options, figure) => {
      const results = Object.fromEntries(proxies.map(({ name }) => [name, []]))
      // What is compiled, cached or grown by the first requests is no part of the figures.
      for (const { port } of proxies) await load.run(mode, { proxy: port, ...options, seconds: 1 })
      for (let round = 0; round < rounds; round++)
        for (const { name, port, pid } of proxies) {
          const before = processorMicros(pid)
          const result = await load.run(mode, { proxy: port, seconds, ...options })
          results[name].push({ ...result, micros: processorMicros(pid) - before })
        }
      return (pick) =>
        Object.fromEntries(proxies.map(({ name }) => [name, median(results[name].map(pick ?? figure))]))
    }
    if (parts.has('connect')) await connectSetup(report, inTurn)
    if (parts.has('http')) await plainHttp(report, inTurn)
    if (parts.has('tunnel')) await throughput(report, inTurn, seconds)
    if (parts.has('hold')) await holding(report, load, proxies)
  } finally {
    for (const proxy of proxies) await proxy.close()
  }
}

async function connectSetup(report, inTurn) {
  const of = await inTurn('connect', {})
  const p50 = of(({ p50 }) => p50)
  const p99 = of(({ p99 }) => p99)
  report.row('connect', 'CONNECT until the first bytes of the host, p50 ms', p50, '≤ 0.45', p50.weir <= 0.45)
  report.row('connect', 'the same, p99 ms', p99, '≤ 4', p99.weir <= 4)
  if (p50.squid > 0 && p50.weir > 0) {
    const ratio = p50.weir / p50.squid
    report.row(
      'connect',
      'the same, p50 beside Squid (which reads no hello)',
      { weir: ratio },
      '≤ 1.5 ×',
      ratio <= 1.5,
    )
  }
  report.row(
    'connect',
    'the same, processor time of the proxy, µs',
    of(({ micros, count }) => micros / count),
  )
  const failed = of(({ failed }) => failed)
  if (Object.values(failed).some((count) => count > 0))
    report.row('connect', 'tunnels that failed', failed, '0', false)
}

async function plainHttp(report, inTurn) {
  const of = await inTurn('http', { connections: 50 })
  const rate = of(({ perSecond }) => perSecond)
  const p99 = of(({ p99 }) => p99)
  report.row('http', 'plain HTTP, 50 connections, requests per second', rate, '≥ 16000', rate.weir >= 16_000)
  report.row(
    'http',
    'the same, p50 ms',
    of(({ p50 }) => p50),
  )
  report.row('http', 'the same, p99 ms', p99, '≤ 30', p99.weir <= 30)
  report.row(
    'http',
    'the same, processor time of the proxy, µs',
    of(({ micros, count }) => micros / count),
  )
  const failed = of(({ failed }) => failed)
  if (failed.weir > 0) report.row('http', 'requests that failed', failed, '0', false)
}

async function throughput(report, inTurn, seconds) {
  for (const streams of [1, 16])
    for (const direction of ['down', 'up']) {
      const of = await inTurn('tunnel', { streams, direction })
      const gbit = of(({ mbit }) => mbit / 1_000)
      const met = gbit.squid === undefined ? undefined : gbit.weir >= gbit.squid
      const goal = streams === 16 ? '≥ Squid' : ''
      report.row(
        'tunnel',
        `tunnel, ${streams} stream${streams > 1 ? 's' : ''} ${direction}, Gbit/s`,
        gbit,
        goal,
        met,
      )
      const micros = of(({ micros, mbit }) => micros / mbit / seconds)
      report.row('tunnel', 'the same, processor time of the proxy, ms per Gbit', micros)
    }
}

/** Each proxy has a descriptor on either side of a tunnel: the limit of the machine bounds what can be tried. */
async function holding(report, load, proxies) {
  const count = Math.min(10_000, Math.floor((openFilesMax() - 80) / 2))
  const [held, kib, lost, p50, p99] = [{}, {}, {}, {}, {}]
  for (const { name, port, pid } of proxies) {
    const before = residentKib(pid)
    const holder = await load.start('hold', { proxy: port, count, seconds: 45 })
    await sleep(1_000)
    kib[name] = (residentKib(pid) - before) / holder.first.held
    const meanwhile = await load.run('connect', { proxy: port, seconds: 2 })
    p50[name] = meanwhile.p50
    p99[name] = meanwhile.p99
    held[name] = holder.first.held
    const { alive } = await holder.goOn()
    lost[name] = holder.first.held - alive
    await holder.stop()
    await sleep(1_000)
  }
  report.row('hold', `idle tunnels held, of ${count}`, held, `${count}`, held.weir === count)
  report.row('hold', 'of these lost when each sends again', lost, '0', lost.weir === 0)
  report.row('hold', 'KiB per idle tunnel', kib, '≤ 12', kib.weir <= 12)
  report.row('hold', 'CONNECT while they are held, p50 ms', p50)
  report.row('hold', 'the same, p99 ms', p99, '', undefined)
}
