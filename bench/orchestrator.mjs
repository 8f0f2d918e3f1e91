// The orchestrator under load: the real one, on a real SQLite file, with simulated nodes in the same process (their work
// and that of the transport is in the numbers). Needs a build.
//
//   node bench/orchestrator.mjs            about a minute
//   node bench/orchestrator.mjs --full     also 10,000 nodes and 100,000 finished jobs
//   node bench/orchestrator.mjs --only placing,submit,life,restart,listing
//   node bench/orchestrator.mjs --store /path   use (and keep) a database instead of a temporary one for `life` and later
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import { createApiServer } from '../dist/api/index.js'
import { newEvaluationId, newJobId, parseLabelSelector } from '../dist/model/index.js'
import { createOrchestrator } from '../dist/orchestrator/index.js'
import { REAL_CHANCE, REAL_CLOCK } from '../dist/node/real-time.js'
import { openSqliteStore } from '../dist/stores/index.js'
import { createInProcessTransport } from '../dist/transports/index.js'
import { nodeRecord, startNodes } from './orchestrator-nodes.mjs'

const { values: flags } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    only: { type: 'string', default: 'placing,submit,life,restart,listing' },
    store: { type: 'string' },
    restart: { type: 'string' },
  },
})
setFlagsFromString('--expose_gc')
const collectGarbage = runInNewContext('gc')
const sections = new Set(flags.only.split(','))
const directory = mkdtempSync(join(tmpdir(), 'weir-bench-'))
const kept = flags.store ?? join(directory, 'jobs.db')

try {
  if (flags.restart === undefined) await benchmark()
  else await measureRestart(flags.restart)
} finally {
  rmSync(directory, { recursive: true, force: true })
}

async function benchmark() {
  say(
    `load of the machine before: ${loadavg()
      .map((value) => value.toFixed(2))
      .join(' ')}`,
  )
  if (sections.has('placing')) await placing()
  if (sections.has('submit')) await submitting()
  if (sections.has('life')) await lives()
  if (sections.has('restart')) await restarts()
  if (sections.has('listing')) await listing()
}

// -- Placing ---------------------------------------------------------------------------------------------------------

async function placing() {
  const rows = []
  for (const [nodes, jobs] of flags.full
    ? [
        [100, 5_000],
        [1_000, 20_000],
        [10_000, 20_000],
      ]
    : [
        [100, 4_000],
        [1_000, 6_000],
      ]) {
    for (const [kind, specOf] of [
      ['alike', sameSpec],
      ['8 kinds', mixedSpec],
      ['all different', differentSpec],
    ]) {
      rows.push(await placeBacklog(nodes, jobs, kind, specOf))
    }
  }
  say('\nPlacing a backlog: jobs stored as submitted, placed on idle nodes that report each as running')
  print(['nodes', 'jobs', 'demands', 'placed/s', 'CPU ms/job', 'commits', 'longest pause ms'], rows)
}

async function placeBacklog(nodes, jobs, kind, specOf) {
  const path = join(directory, `placing-${nodes}-${kind.replace(' ', '-')}.db`)
  const store = await openSqliteStore(path)
  const now = Date.now()
  for (let from = 0; from < nodes; from += 1_000) {
    const count = Math.min(1_000, nodes - from)
    await store.commit({ nodes: Array.from({ length: count }, (_, index) => nodeRecord(from + index, now)) })
  }
  for (let from = 0; from < jobs; from += 1_000)
    await store.commit(submissions(from, Math.min(1_000, jobs - from), specOf))
  const transport = createInProcessTransport({ clock: REAL_CLOCK })
  const orchestrator = newOrchestrator(store, transport)
  const fleet = await startNodes(transport, nodes, { holds: true })
  const placed = countPlaced(store, jobs)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const cpu = process.cpuUsage()
  const started = performance.now()
  await orchestrator.start()
  const commits = await placed
  const seconds = (performance.now() - started) / 1_000
  const used = process.cpuUsage(cpu)
  delay.disable()
  await fleet.close()
  await orchestrator.close()
  await transport.close()
  await store.close()
  removeDatabase(path)
  const cpuMs = (used.user + used.system) / 1_000 / jobs
  return [
    nodes,
    jobs,
    kind,
    Math.round(jobs / seconds),
    cpuMs.toFixed(2),
    commits,
    (delay.max / 1e6).toFixed(0),
  ]
}

/** Resolves with the number of commits when so many executions were stored. */
async function countPlaced(store, wanted) {
  const closing = new AbortController()
  const tooLong = AbortSignal.any([closing.signal, AbortSignal.timeout(120_000)])
  let [seen, commits] = [0, 0]
  const { revision } = await store.snapshot()
  for await (const { change } of store.watch(revision, tooLong)) {
    commits += 1
    for (const execution of change.executions ?? []) if (execution.revision === 1) seen += 1
    if (seen >= wanted) break
  }
  closing.abort()
  if (seen < wanted) throw new Error(`only ${seen} of ${wanted} executions were placed in time`)
  return commits
}

// -- Submitting ------------------------------------------------------------------------------------------------------

async function submitting() {
  const seconds = flags.full ? 30 : 10
  const rows = []
  for (const [nodes, perSecond] of flags.full
    ? [
        [1_000, 200],
        [1_000, 400],
        [10_000, 200],
      ]
    : [[1_000, 200]]) {
    rows.push(await submitOverHttp(nodes, perSecond, seconds))
  }
  say(
    '\nSubmitting over HTTP on loopback, each commit flushed to the disk, jobs placed and finished meanwhile',
  )
  say(
    '(latency from the moment a submission was due, client in a thread of its own; two seconds before it are not counted)',
  )
  print(['nodes', 'submits/s', 'submitted', 'median ms', 'p95 ms', 'p99 ms', 'max ms', 'finished'], rows)
}

async function submitOverHttp(nodes, perSecond, seconds) {
  const path = join(directory, 'submit.db')
  const store = await openSqliteStore(path)
  const transport = createInProcessTransport({ clock: REAL_CLOCK })
  const orchestrator = newOrchestrator(store, transport)
  await orchestrator.start()
  const fleet = await startNodes(transport, nodes)
  await fleet.join()
  const nothing = { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 }
  const api = await createApiServer({
    jobs: orchestrator,
    identity: { nodeId: 'n-orchestrator' },
    nodeInfo: () => ({
      ...nodeRecord(0, 0).info,
      nodeId: 'n-orchestrator',
      roles: ['orchestrator'],
      maxCapacity: nothing,
    }),
    version: { weir: '0.0.0', bacalhau: '1.5.2' },
  })
  const { url } = await api.listen({ host: '127.0.0.1', port: 0 })
  const latencies = await submitInThread({ url, perSecond, seconds, warmUpSeconds: 2, spec: mixedSpec(0) })
  await until(async () => (await unfinished(store)) === 0, 30_000)
  const finished = (
    await store.listJobs({
      states: ['Completed'],
      orderBy: 'created_at',
      reverse: false,
      limit: 0,
      offset: 0,
    })
  ).jobs.length
  await api.close()
  await fleet.close()
  await orchestrator.close()
  await transport.close()
  await store.close()
  removeDatabase(path)
  return [
    nodes,
    perSecond,
    latencies.length,
    ...[0.5, 0.95, 0.99, 1].map((share) => quantile(latencies, share).toFixed(1)),
    finished,
  ]
}

function submitInThread(workerData) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./orchestrator-submitter.mjs', import.meta.url), { workerData })
    worker.once('message', (latencies) => resolve(latencies.toSorted((a, b) => a - b)))
    worker.once('error', reject)
  })
}

// -- Whole lives and memory ------------------------------------------------------------------------------------------

async function lives() {
  const steps = flags.full ? [1_000, 10_000, 100_000] : [1_000, 10_000]
  const store = await openSqliteStore(kept)
  const transport = createInProcessTransport({ clock: REAL_CLOCK })
  const orchestrator = newOrchestrator(store, transport)
  await orchestrator.start()
  const fleet = await startNodes(transport, 1_000)
  await fleet.join()
  const rows = [[0, '', '', ...memory()]]
  let done = 0
  for (const step of steps) {
    const count = step - done
    const cpu = process.cpuUsage()
    const started = performance.now()
    await runLives(orchestrator, store, done, count)
    const seconds = (performance.now() - started) / 1_000
    const used = process.cpuUsage(cpu)
    done = step
    rows.push([
      step,
      Math.round(count / seconds),
      ((used.user + used.system) / 1_000 / count).toFixed(2),
      ...memory(),
    ])
  }
  await fleet.close()
  const holding = await startActive(orchestrator, store)
  say(
    '\nWhole lives (submit, place, run at once, finish) with 1,000 nodes, 256 submissions at a time; memory after it',
  )
  print(['finished jobs', 'jobs/s', 'CPU ms/job', 'heap MiB', 'resident MiB'], rows)
  say(`\nMemory of an active job (waiting for a node): ${holding} KiB`)
  await orchestrator.close()
  await transport.close()
  await store.close()
}

async function runLives(orchestrator, store, from, count) {
  let next = from
  const submitter = async () => {
    while (next < from + count) {
      const index = next++
      await orchestrator.submit({ spec: mixedSpec(index), clientMeta: {} })
    }
  }
  await Promise.all(Array.from({ length: 256 }, submitter))
  await until(async () => (await unfinished(store)) === 0, 120_000)
}

/** Heap per job that waits, in KiB. They are stopped again. */
async function startActive(orchestrator, store) {
  const count = 5_000
  const [before] = memory()
  const waits = { ...mixedSpec(0), Constraints: [{ Key: 'region', Operator: '=', Values: ['nowhere'] }] }
  waits.Tasks = [
    { ...waits.Tasks[0], Timeouts: { ExecutionTimeout: 0, QueueTimeout: 86_400, TotalTimeout: 0 } },
  ]
  const ids = []
  for (let from = 0; from < count; from += 250) {
    const some = Array.from({ length: 250 }, (_, index) =>
      orchestrator.submit({ spec: { ...waits, Labels: { number: String(from + index) } }, clientMeta: {} }),
    )
    for (const { jobId } of await Promise.all(some)) ids.push(jobId)
  }
  await until(async () => {
    const snapshot = await store.snapshot()
    return ids.every((id) => snapshot.job(id)?.state === 'Queued')
  }, 60_000)
  const [after] = memory()
  for (let from = 0; from < count; from += 250)
    await Promise.all(ids.slice(from, from + 250).map((id) => orchestrator.stop(id, 'measured')))
  return (((after - before) * 1024) / count).toFixed(1)
}

/** Heap after a collection and resident memory, in MiB. */
function memory() {
  collectGarbage()
  collectGarbage()
  const { heapUsed, rss } = process.memoryUsage()
  return [(heapUsed / 2 ** 20).toFixed(1), (rss / 2 ** 20).toFixed(0)]
}

async function unfinished(store) {
  let count = 0
  for (const _ of (await store.snapshot()).activeJobs()) count += 1
  return count
}

// -- Restart ---------------------------------------------------------------------------------------------------------

async function restarts() {
  await fillFinished(kept, flags.full ? 100_000 : 10_000)
  const rows = [restartRow('none', kept)]
  const active = join(directory, 'active.db')
  const store = await openSqliteStore(active)
  for (let from = 0; from < 10_000; from += 1_000) await store.commit(running(from, 1_000))
  await store.close()
  await fillFinished(active, 10_000 + (flags.full ? 100_000 : 10_000))
  rows.push(restartRow('10,000 running', active))
  say('\nRestart in a fresh process: open the store and start the orchestrator')
  print(
    ['active jobs', 'jobs in all', 'database MiB', 'open ms', 'start ms', 'both ms', 'resident MiB'],
    rows,
  )
  removeDatabase(active)
}

function restartRow(active, path) {
  const size = (statSync(path).size / 2 ** 20).toFixed(0)
  const all = []
  for (let run = 0; run < 3; run++) {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [import.meta.filename, '--restart', path],
      { encoding: 'utf8' },
    )
    if (status !== 0) throw new Error(stderr)
    all.push(JSON.parse(stdout))
  }
  const middle = all.toSorted((a, b) => a.openMs + a.startMs - b.openMs - b.startMs)[1]
  const { openMs, startMs, jobs, rssMiB } = middle
  return [
    active,
    jobs,
    size,
    openMs.toFixed(0),
    startMs.toFixed(0),
    (openMs + startMs).toFixed(0),
    rssMiB.toFixed(0),
  ]
}

async function measureRestart(path) {
  const started = performance.now()
  const store = await openSqliteStore(path)
  const opened = performance.now()
  const transport = createInProcessTransport({ clock: REAL_CLOCK })
  const orchestrator = newOrchestrator(store, transport)
  await orchestrator.start()
  const ready = performance.now()
  const rssMiB = process.memoryUsage().rss / 2 ** 20
  const page = { orderBy: 'created_at', reverse: false, limit: 10_000 }
  let jobs = 0
  for (let more = true; more; ) {
    const found = await store.listJobs({ ...page, offset: jobs })
    jobs += found.jobs.length
    more = found.more
  }
  await orchestrator.close()
  await transport.close()
  await store.close()
  console.log(JSON.stringify({ openMs: opened - started, startMs: ready - opened, jobs, rssMiB }))
}

/** Finished jobs as a real run leaves them, until there are so many. */
async function fillFinished(path, wanted) {
  const store = await openSqliteStore(path)
  const known = await countJobs(store)
  for (let from = known; from < wanted; from += 500)
    await store.commit(finished(from, Math.min(500, wanted - from)))
  await store.close()
}

async function countJobs(store) {
  let [offset, more] = [0, true]
  while (more) {
    const found = await store.listJobs({ orderBy: 'created_at', reverse: false, limit: 10_000, offset })
    offset += found.jobs.length
    more = found.more
  }
  return offset
}

// -- Listing ---------------------------------------------------------------------------------------------------------

async function listing() {
  const wanted = flags.full ? 100_000 : 10_000
  await fillFinished(kept, wanted)
  const store = await openSqliteStore(kept)
  const transport = createInProcessTransport({ clock: REAL_CLOCK })
  const orchestrator = newOrchestrator(store, transport)
  await orchestrator.start()
  const newest = { orderBy: 'created_at', reverse: true, limit: 50, offset: 0 }
  const selector = (text) => ({ labels: parseLabelSelector([text]).constraints })
  const { jobs } = await orchestrator.jobs(newest)
  const one = jobs[0].id
  const deep = Math.floor(wanted * 0.9)
  const rows = []
  for (const [what, work] of [
    ['first page of 50, newest first', () => orchestrator.jobs(newest)],
    [`page of 50 after ${deep}`, () => orchestrator.jobs({ ...newest, offset: deep })],
    ['page of 50 by last change', () => orchestrator.jobs({ ...newest, orderBy: 'modified_at' })],
    ['page of 50 of one namespace (1 in 1,000)', () => orchestrator.jobs({ ...newest, namespace: 'team-7' })],
    ['page of 50 of one state (all)', () => orchestrator.jobs({ ...newest, states: ['Completed'] })],
    ['page of 50 of one state (none)', () => orchestrator.jobs({ ...newest, states: ['Failed'] })],
    ['label that 1 in 10 has', () => orchestrator.jobs({ ...newest, ...selector('tier=3') })],
    ['label that 1 in 10,000 has', () => orchestrator.jobs({ ...newest, ...selector('number=77') })],
    ['label that none has', () => orchestrator.jobs({ ...newest, ...selector('number=none') })],
    ['one job by its full id', () => orchestrator.job(one)],
    ['one job by a short id', () => orchestrator.job(one.slice(0, 10))],
    ['executions of one job', () => orchestrator.executions(one)],
    ['history of one job', () => orchestrator.history(one, { level: 'all', afterSequence: 0, limit: 100 })],
  ]) {
    const times = []
    for (let run = 0; run < 21 && times.reduce((sum, ms) => sum + ms, 0) < 3_000; run++) {
      const started = performance.now()
      await work()
      times.push(performance.now() - started)
    }
    times.sort((a, b) => a - b)
    rows.push([what, quantile(times, 0.5).toFixed(2), quantile(times, 1).toFixed(2)])
  }
  await orchestrator.close()
  await transport.close()
  await store.close()
  say(`\nListing with ${wanted} finished jobs`)
  print(['what', 'median ms', 'max ms'], rows)
}

// -- Jobs ------------------------------------------------------------------------------------------------------------

function spec(index, changes = {}, task = {}) {
  return {
    Name: `job-${index}`,
    Namespace: index % 1_000 === 7 ? 'team-7' : 'default',
    Type: 'batch',
    Priority: 0,
    Count: 1,
    Constraints: [],
    Meta: {},
    Labels: { tier: String(index % 10), number: String(index % 10_000) },
    ...changes,
    Tasks: [
      {
        Name: 'main',
        Engine: { Type: 'docker', Params: { Image: 'busybox:1.36', Parameters: ['sh', '-c', 'echo hello'] } },
        Publisher: { Type: '' },
        Env: {},
        Meta: {},
        InputSources: [],
        ResultPaths: [],
        Resources: { CPU: '100m', Memory: '100mb', Disk: '', GPU: '' },
        Network: { Type: 'None', Domains: [] },
        Timeouts: { ExecutionTimeout: 0, QueueTimeout: 600, TotalTimeout: 0 },
        ...task,
      },
    ],
  }
}

function sameSpec(index) {
  return spec(index)
}

/** Four sizes; half of them in one region; half of them with network access. */
function mixedSpec(index) {
  const Resources = {
    CPU: ['100m', '250m', '500m', '1'][index % 4],
    Memory: ['100mb', '1gb'][index % 2],
    Disk: '',
    GPU: '',
  }
  const Constraints = index % 8 < 4 ? [] : [{ Key: 'region', Operator: 'in', Values: ['eu', 'us'] }]
  const Network =
    index % 3 > 0
      ? { Type: 'None', Domains: [] }
      : { Type: 'HTTP', Domains: ['www.example.com', 'packages.example.net'] }
  return spec(index, { Constraints }, { Resources, Network })
}

/** No two ask for the same. */
function differentSpec(index) {
  const Resources = {
    CPU: `${100 + (index % 997)}m`,
    Memory: `${100 + (index % 1_009)}mb`,
    Disk: '',
    GPU: '',
  }
  const Network = { Type: 'HTTP', Domains: [`host-${index}.example.com`] }
  return spec(
    index,
    { Constraints: [{ Key: 'region', Operator: '!=', Values: [`r${index}`] }] },
    { Resources, Network },
  )
}

function newJob(index, specOf, state, now) {
  return {
    id: newJobId(REAL_CHANCE),
    spec: specOf(index),
    state,
    message: '',
    details: {},
    version: 0,
    revision: 1,
    createTimeMs: now,
    modifyTimeMs: now,
  }
}

/** What submissions store. */
function submissions(from, count, specOf) {
  const change = { jobs: [], evaluations: [], history: [] }
  for (let index = from; index < from + count; index++) {
    const now = Date.now()
    const job = newJob(index, specOf, 'Pending', now)
    change.jobs.push(job)
    change.evaluations.push({
      id: newEvaluationId(REAL_CHANCE),
      jobId: job.id,
      namespace: job.spec.Namespace,
      trigger: 'job-register',
      priority: 0,
      waitUntilMs: 0,
      createTimeMs: now,
    })
    change.history.push(line(job, 'Submission', 'Job submitted'))
  }
  return change
}

function running(from, count) {
  const change = { jobs: [], executions: [], history: [], nodes: [] }
  for (let index = from; index < from + count; index++) {
    const now = Date.now()
    const job = newJob(index, mixedSpec, 'Running', now)
    change.jobs.push(job)
    change.executions.push(execution(job, index, 'Running', 'Running'))
    change.history.push(line(job, 'Submission', 'Job submitted'), line(job, 'State Update', 'Running'))
    if (index < 1_000) change.nodes.push(nodeRecord(index, now))
  }
  return change
}

function finished(from, count) {
  const change = { jobs: [], executions: [], history: [] }
  for (let index = from; index < from + count; index++) {
    const job = newJob(index, mixedSpec, 'Completed', Date.now() - 1_000_000 + index)
    const done = execution(job, index, 'Stopped', 'Completed')
    change.jobs.push(job)
    change.executions.push(done)
    change.history.push(
      line(job, 'Submission', 'Job submitted'),
      line(job, 'Scheduling', 'Requested execution on n-00001', done.id),
      line(job, 'State Update', 'Running'),
      line(job, 'Execution', 'Running', done.id),
      line(job, 'Execution', 'Completed successfully', done.id),
      line(job, 'State Update', 'Completed'),
    )
  }
  return change
}

function execution(job, index, desired, observed) {
  const now = job.createTimeMs
  return {
    id: `e-${REAL_CHANCE.uuid()}`,
    jobId: job.id,
    namespace: job.spec.Namespace,
    nodeId: nodeRecord(index % 1_000, 0).info.nodeId,
    evaluationId: '',
    slot: 0,
    attempt: 0,
    desired: { state: desired, message: '', sinceMs: now },
    observed: {
      state: observed,
      sequence: 2,
      message: '',
      code: '',
      hint: '',
      retryable: false,
      startTimeMs: now,
      ...(observed === 'Running' ? {} : { endTimeMs: now }),
    },
    resources: { cpu: 0.1, memoryBytes: 1e8, diskBytes: 0, gpu: 0 },
    revision: 3,
    createTimeMs: now,
    modifyTimeMs: now,
  }
}

function line(job, topic, message, executionId) {
  const { createTimeMs: timeMs, version: jobVersion } = job
  return {
    jobId: job.id,
    ...(executionId === undefined ? {} : { executionId }),
    topic,
    message,
    details: {},
    timeMs,
    jobVersion,
  }
}

// -- Odds and ends ---------------------------------------------------------------------------------------------------

function newOrchestrator(store, transport) {
  return createOrchestrator({
    store,
    transport,
    clock: REAL_CLOCK,
    chance: REAL_CHANCE,
    nodeId: 'n-orchestrator',
  })
}

async function until(isTrue, timeoutMs) {
  const end = performance.now() + timeoutMs
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error('the orchestrator did not get there in time')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

function removeDatabase(path) {
  for (const end of ['', '-wal', '-shm']) if (existsSync(path + end)) rmSync(path + end)
}

function say(text) {
  console.log(text)
}

function print(head, lines) {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((cells) => String(cells[column]).length)),
  )
  for (const cells of [head, ...lines])
    console.log(
      cells
        .map((cell, column) =>
          column === 0 ? String(cell).padEnd(widths[column]) : String(cell).padStart(widths[column]),
        )
        .join('  '),
    )
}
