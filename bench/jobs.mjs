// Submit → finished for no-op jobs against a running server, beside Docker's own command, and the memory of a node at
// rest. Needs a build; Docker rows need a Docker engine, networked rows root. `node bench/jobs.mjs [RUNS]`, default 20.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WeirClient } from '../dist/client/index.js'
import { importBusyboxImage } from '../dist/demo/busybox-image.js'
import { startDemoServer } from '../dist/demo/server.js'
import { entryPoint, PACKAGE_ROOT } from '../dist/package-root.js'

const runs = Math.min(200, Math.max(1, Number(process.argv[2] ?? 20)))
const IMAGE = 'weir-bench/busybox:local'
const directory = mkdtempSync(join(tmpdir(), 'weir-bench-'))
const image = await importBusyboxImage(IMAGE)
const hasDocker = typeof image !== 'string'
const server = await startDemoServer(directory, {
  'JobAdmissionControl.AcceptNetworkedJobs': true,
  'Egress.Allow': ['example.com'],
})
const client = new WeirClient({ baseUrl: `http://127.0.0.1:${server.port}` })
const rows = []
try {
  const atRest = await memoryAtRest()
  const noop = readFileSync(join(PACKAGE_ROOT, 'test/fixtures/wasm/bin/noop.wasm')).toString('base64')
  const wasm = {
    Type: 'wasm',
    Params: {
      EntryModule: {
        Source: { Type: 'inline', Params: { URL: `data:application/wasm;base64,${noop}` } },
        Target: '/noop.wasm',
      },
    },
  }
  await measure('WASM no-op, in the node', () => inNode(wasm))
  await measure('WASM no-op, `weir wasm run`', () =>
    cli(['wasm', 'run', join(PACKAGE_ROOT, 'test/fixtures/wasm/bin/noop.wasm')]),
  )
  await throughput('WASM no-op, jobs per second (100 at once)', wasm, 100)
  if (hasDocker) {
    const docker = { Type: 'docker', Params: { Image: IMAGE, Parameters: ['true'] } }
    const network = { Type: 'HTTP', Domains: ['example.com'] }
    await measure('Docker no-op, in the node', () => inNode(docker))
    if (process.getuid() === 0)
      await measure('Docker no-op with --network http, in the node', () => inNode(docker, network))
    await measure('Docker no-op, `weir docker run`', () => cli(['docker', 'run', IMAGE, 'true']))
    await measure('`docker run --rm --network none` (peer)', () =>
      timed(() => spawnSync('docker', ['run', '--rm', '--network', 'none', IMAGE, 'true'])),
    )
  }
  print(['What', 'median', 'p95', 'min'], rows)
  console.log('')
  const sum = (column) => atRest.reduce((total, row) => total + Number(row[column]), 0).toFixed(1)
  // Pages that several processes share count once in the second column, by parts.
  print(['At rest', 'resident MiB', 'proportional MiB'], [...atRest, ['all', sum(1), sum(2)]])
} finally {
  client.close()
  await server.close()
  if (hasDocker) await image.remove()
  rmSync(directory, { recursive: true, force: true })
}

/** Milliseconds from submission to the end of the job, by the server's own clock. */
async function inNode(engine, network = { Type: 'None' }) {
  const { JobID } = await client.submit({
    Type: 'batch',
    Tasks: [{ Name: 'main', Engine: engine, Network: network }],
  })
  const job = await ended(JobID)
  return Number(BigInt(Math.round(job.ModifyTime)) - BigInt(Math.round(job.CreateTime))) / 1e6
}

async function ended(id) {
  for (;;) {
    const { Job } = await client.job(id)
    if (Job.State.StateType === 'Completed') return Job
    if (['Failed', 'Stopped'].includes(Job.State.StateType))
      throw new Error(`job ${Job.State.StateType}: ${Job.State.Message}`)
    await new Promise((resolve) => setTimeout(resolve, 3))
  }
}

async function throughput(what, engine, count) {
  const started = performance.now()
  const ids = await Promise.all(
    Array.from({ length: count }, () =>
      client.submit({
        Type: 'batch',
        Tasks: [
          {
            Name: 'main',
            Engine: engine,
            Resources: { CPU: '0.1', Memory: '100mb' },
            Timeouts: { QueueTimeout: 300 },
          },
        ],
      }),
    ),
  )
  for (const { JobID } of ids) await ended(JobID)
  rows.push([what, `${(count / ((performance.now() - started) / 1000)).toFixed(1)}/s`, '', ''])
}

function cli(args) {
  return timed(() => {
    const result = spawnSync(process.execPath, [entryPoint('cli/main.js'), ...args], {
      env: { ...process.env, WEIR_API_PORT: String(server.port), WEIR_DIR: directory },
    })
    if (result.status !== 0) throw new Error(result.stderr.toString())
  })
}

function timed(work) {
  const started = performance.now()
  work()
  return performance.now() - started
}

async function measure(what, once) {
  const all = []
  for (let run = 0; run < runs + 2; run++) {
    const ms = await once()
    if (run >= 2) all.push(ms)
  }
  all.sort((a, b) => a - b)
  const at = (share) => `${all[Math.min(all.length - 1, Math.floor(all.length * share))].toFixed(1)} ms`
  rows.push([what, at(0.5), at(0.95), at(0)])
}

/** Every process of the server after ten quiet seconds, by the kernel's count. */
async function memoryAtRest() {
  await new Promise((resolve) => setTimeout(resolve, 10_000))
  const parents = new Map(
    readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => [Number(pid), statusOf(pid)]),
  )
  const root = [...parents].find(
    ([, { command }]) => command.includes('cli/main.js') && command.includes(directory),
  )
  if (root === undefined) throw new Error('the server process was not found')
  const family = [root[0]]
  for (const pid of family) for (const [child, { parent }] of parents) if (parent === pid) family.push(child)
  return family.map((pid) => {
    const { command, resident, proportional } = parents.get(pid)
    const name = command.includes('gateway.js')
      ? 'gateway'
      : pid === root[0]
        ? 'node'
        : command.includes('bwrap')
          ? 'sandbox launcher (waiting slot)'
          : 'waiting slot'
    return [name, resident.toFixed(1), proportional.toFixed(1)]
  })
}

function statusOf(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    return {
      parent: Number(/^PPid:\s+(\d+)/m.exec(status)?.[1]),
      resident: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024,
      proportional:
        Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) / 1024,
      command: readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '),
    }
  } catch {
    return { parent: 0, resident: 0, proportional: 0, command: '' } // the process ended while it was looked at
  }
}

function print(head, lines) {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => String(line[column]).length)),
  )
  for (const line of [head, ...lines])
    console.log(
      line
        .map((cell, column) =>
          column === 0 ? String(cell).padEnd(widths[column]) : String(cell).padStart(widths[column]),
        )
        .join('  '),
    )
}
