// What it costs to know where a job may go: `weir network check` over many nodes, the choice of a node for jobs whose hosts
// are all different, and long lists put in force. In one process, without store or transport. Needs a build.
//
//   node bench/network-check.mjs
import { loadavg } from 'node:os'
import { compileNodeRules } from '../dist/egress/index.js'
import { HostPatternSet, packEgressLists, parseHostPatterns } from '../dist/model/index.js'
import { checkEgress } from '../dist/orchestrator/index.js'
import { Fleet } from '../dist/orchestrator/fleet.js'
import { demandOf } from '../dist/orchestrator/job-demand.js'
import { nodeInfo, nodeRecord } from './orchestrator-nodes.mjs'

const DEMAND = {
  engine: 'docker',
  sources: [],
  publisher: '',
  network: 'HTTP',
  signedBy: [],
  constraints: [],
  resources: { cpu: 0.1, memoryBytes: 1e8, diskBytes: 0, gpu: 0 },
}
const NODES = 1_000
const RUNS = 15

console.log(
  `load of the machine before: ${loadavg()
    .map((value) => value.toFixed(2))
    .join(' ')}`,
)
console.log(
  '\nChecking a job over 1,000 nodes with 100 patterns each: wall and CPU time, median of 15, milliseconds',
)
for (const [name, lists] of [
  ['one list for all', () => 0],
  ['20 different lists', (index) => index % 20],
  ['1,000 different lists', (index) => index],
]) {
  const fleet = new Fleet()
  for (let index = 0; index < NODES; index++) fleet.put(record(index, lists(index)), true)
  for (const asked of [1, 10, 100]) {
    const domains = Array.from({ length: asked }, (_, index) => `www.host${index}.example${index % 50}.com`)
    const [wall, cpu] = median(() => checkEgress({ domains }, fleet.values(), 0))
    console.log(`  ${name}, ${asked} hosts asked:`.padEnd(44), `${wall} wall, ${cpu} CPU`)
  }
}

console.log('\nChoosing a node among 1,000 for jobs that all name other hosts: decisions per second')
for (const [name, lists] of [
  ['one list for all', () => 0],
  ['1,000 different lists', (index) => index],
]) {
  const fleet = new Fleet()
  for (let index = 0; index < NODES; index++) fleet.put(record(index, lists(index)), true)
  let job = 0
  const place = () => {
    job++
    const domains = parseHostPatterns([`a${job}.host${job % 100}.example1.com`, `b${job}.shared.example.org`])
    const demand = demandOf({ ...DEMAND, domains })
    const { chosen } = fleet.place(demand, {
      wanted: 1,
      past: new Map(),
      nodeQueueFactor: 1.5,
      seed: `j-${job}`,
    })
    if (chosen.length !== 1) throw new Error('no node was chosen')
  }
  const started = process.cpuUsage()
  const count = 2_000
  for (let index = 0; index < count; index++) place()
  const { user, system } = process.cpuUsage(started)
  console.log(`  ${name}:`.padEnd(44), `${Math.round((count * 1e6) / (user + system))} per second of CPU`)
}

console.log('\n10,000 patterns: median of 15, milliseconds')
const long = Array.from(
  { length: 10_000 },
  (_, index) => `${['', '.', '*.'][index % 3]}host${index}.example${index % 97}.com`,
)
const policy = { allow: long, deny: [], privateExceptions: [], self: [] }
console.log(
  '  read as canonical texts:'.padEnd(44),
  ...shown(() => parseHostPatterns(long, { allowPublicSuffix: true })),
)
const patterns = parseHostPatterns(long)
console.log('  made into a set:'.padEnd(44), ...shown(() => new HostPatternSet(patterns)))
console.log('  put in force by the gateway:'.padEnd(44), ...shown(() => compileNodeRules(policy, 1)))
console.log(
  '  packed for the orchestrator:'.padEnd(44),
  ...shown(() => packEgressLists({ allow: long, deny: [] })),
)
const bytes = JSON.stringify(long).length
console.log(
  '  bytes, plain and packed:'.padEnd(44),
  bytes,
  packEgressLists({ allow: long, deny: [] }).data.length,
)

function record(index, list) {
  const made = nodeRecord(index, Date.now())
  const allow = Array.from({ length: 99 }, (_, at) => `.host${at}.example${(at + (list % 2)) % 50}.com`)
  const egress = {
    ...nodeInfo(index).egress,
    acceptsNetworkedJobs: true,
    deny: [],
    allow: ['.example.org', `.own${list}.example.net`, '.example1.com', ...allow.slice(0, 97)],
  }
  return { ...made, info: { ...made.info, egress } }
}

function shown(work) {
  const [wall, cpu] = median(work)
  return [`${wall} wall, ${cpu} CPU`]
}

function median(work) {
  const runs = Array.from({ length: RUNS }, () => {
    const [cpu, started] = [process.cpuUsage(), performance.now()]
    work()
    const wall = performance.now() - started
    const { user, system } = process.cpuUsage(cpu)
    return [wall, (user + system) / 1_000]
  })
  return [0, 1].map((which) =>
    runs
      .map((run) => run[which])
      .toSorted((a, b) => a - b)
      [RUNS >> 1].toFixed(1),
  )
}
