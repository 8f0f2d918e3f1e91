// What the way between machines costs: one sync over NATS, and one job on a stack of three nodes.
//   node scripts/build.mjs && node bench/cluster.mjs [rounds]
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadConfig } from '../dist/config/index.js'
import { startDevstack, startNode } from '../dist/node/index.js'
import {
  createNatsTransport,
  openNats,
  ORCHESTRATOR,
  startNatsServer,
  keyPairOf,
} from '../dist/transports/index.js'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

const rounds = Number(process.argv[2] ?? 20)
const clock = { now: () => Date.now(), sleep: (ms, signal) => sleep(ms, undefined, { signal }) }
const silent = { debug() {}, info() {}, warn() {}, error() {} }

console.log('what                                              median        p99')
await roundTrips()
await jobs()
await oneProcess()
process.exit(0)

async function roundTrips() {
  const dir = mkdtempSync(join(tmpdir(), 'weir-bench-'))
  const [brain, node] = [keyPairOf(randomBytes(32)), keyPairOf(randomBytes(32))]
  const users = [
    { kind: 'orchestrator', publicKey: brain.publicKey },
    { kind: 'node', nodeId: 'a', publicKey: node.publicKey },
  ]
  const server = await startNatsServer({
    dir,
    listener: { host: '127.0.0.1', port: 0 },
    users,
    clock,
    logger: silent,
  })
  const open = async (identity, key) => {
    const transport = createNatsTransport({
      identity,
      connect: () => openNats({ url: server.url, isTlsRequired: false, key, identity }),
      clock,
      chance: Math,
      logger: silent,
      intake: { messagesPerSecond: 1e9, bytesPerSecond: 1e12 },
    })
    await transport.connected(5_000)
    return transport
  }
  const orchestrator = await open(ORCHESTRATOR, brain)
  const member = await open('a', node)
  await orchestrator.serve('orchestrator.sync', async () => ({ membership: 'APPROVED', desired: [] }))
  for (const bytes of [1_000, 300_000]) {
    const body = { nodeId: 'a', text: 'x'.repeat(bytes) }
    const times = []
    for (let index = 0; index < 2_000; index++) {
      const beganMs = performance.now()
      await member.request('orchestrator.sync', body, 5_000)
      if (index >= 200) times.push(performance.now() - beganMs)
    }
    print(`round trip of a sync of ${bytes} bytes`, times)
  }
  await member.close()
  await orchestrator.close()
  await server.close()
  rmSync(dir, { recursive: true })
}

async function jobs() {
  const stack = await startDevstack({
    sources: { settings: ['Engines.Disabled=docker', 'Logging.Level=error'], dataDir: '/nonexistent/weir' },
    computeNodes: 3,
    isHybrid: false,
    hasStandardPorts: false,
    onGone: () => {},
  })
  const program = readFileSync(
    join(import.meta.dirname, '../examples/csv-summary/csv-summary.wasm'),
  ).toString('base64')
  try {
    for (const count of [1, 3]) await timeJobs(stack.orchestrator.apiUrl, program, count, 'three nodes')
  } finally {
    await stack.close()
  }
}

/** The same job where both roles share one process. */
async function oneProcess() {
  const dataDir = mkdtempSync(join(tmpdir(), 'weir-bench-'))
  const settings = ['API.Port=0', 'Publishers.Types.Local.Port=0', 'Engines.Disabled=docker']
  const node = await startNode({ config: loadConfig({ dataDir, settings }), logLevel: 'silent' })
  try {
    await timeJobs(node.apiUrl, readProgram(), 1, 'one process')
  } finally {
    await node.close()
    rmSync(dataDir, { recursive: true })
  }
}

async function timeJobs(url, program, count, where) {
  const times = []
  for (let index = 0; index < rounds + 2; index++) {
    const beganMs = performance.now()
    await runJob(url, program, count)
    if (index >= 2) times.push(performance.now() - beganMs)
    await sleep(300)
  }
  print(`job of ${count}, submit to completed, ${where}`, times)
}

function readProgram() {
  return readFileSync(join(import.meta.dirname, '../examples/csv-summary/csv-summary.wasm')).toString(
    'base64',
  )
}

async function runJob(url, program, count) {
  const Source = { Type: 'inline', Params: { URL: `data:application/wasm;base64,${program}` } }
  const Engine = { Type: 'wasm', Params: { EntryModule: { Source, Target: '/m.wasm' } } }
  const Tasks = [{ Name: 'main', Engine, Resources: { CPU: '0.1', Memory: '64mb' } }]
  const answer = await fetch(`${url}/api/v1/orchestrator/jobs`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ Job: { Type: 'batch', Count: count, Tasks } }),
  })
  const { JobID } = await answer.json()
  for (;;) {
    const { Job } = await (await fetch(`${url}/api/v1/orchestrator/jobs/${JobID}`)).json()
    if (Job.State.StateType === 'Completed') return
    if (['Failed', 'Stopped'].includes(Job.State.StateType))
      throw new Error(`the job is ${JSON.stringify(Job.State)}`)
    await sleep(2)
  }
}

function print(what, times) {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share) =>
    `${sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(2)} ms`
  console.log(`${what.padEnd(48)} ${at(0.5).padStart(10)} ${at(0.99).padStart(10)}`)
}
