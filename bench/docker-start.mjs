// How long until a container runs: weir's networked jobs with a warm holder beside plain isolated containers.
//
// Prints a table of medians. Needs root, a Docker engine and a static /bin/busybox; runs what was built
// (npm run build). Usage: node bench/docker-start.mjs [rounds, default 15]
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Docker from 'dockerode'
import { pack } from 'tar-stream'
import { createDockerExecutor } from '../dist/executors/docker/index.js'
import { startGateway } from '../dist/egress/index.js'
import { createAuditFile } from '../dist/stores/audit-file.js'

const rounds = Number(process.argv[2] ?? 15)
const IMAGE = 'weir-bench:1'
const nodeId = `n-bench-${process.pid}`
const docker = new Docker({ socketPath: '/var/run/docker.sock' })
const dir = mkdtempSync(join(tmpdir(), 'weir-bench-'))

await importImage()
const gateway = await startGateway({ nodeId, auditDir: dir, audit: createAuditFile({ dir }) })
await gateway.setNodePolicy({ allow: ['example.com'], deny: [], privateExceptions: [], self: [] })
const executor = createDockerExecutor({
  nodeId,
  holderPoolSize: 1,
  attach: (path) => gateway.attach(path),
  detach: (attachment) => gateway.detach(attachment),
  full: {},
})
const modes = await executor.network.modes()
for (const problem of modes.problems) console.error(problem)

const HARDENED = {
  CapDrop: ['ALL'],
  SecurityOpt: ['no-new-privileges:true'],
  LogConfig: { Type: 'none', Config: {} },
  Init: true,
  Memory: 128 * 1024 * 1024,
  MemorySwap: 128 * 1024 * 1024,
  NanoCpus: 1e9,
  PidsLimit: 1024,
}

const ways = {
  'docker run --network none (command line)': { run: () => runCommandLine('none') },
  'docker run --network bridge (command line)': { run: () => runCommandLine('bridge') },
  'engine API, --network none, defaults': { run: () => runApi({ NetworkMode: 'none' }) },
  'engine API, --network none, hardened as a job': {
    run: () => runApi({ NetworkMode: 'none', ...HARDENED }),
  },
  'weir none, warm holder': { run: () => runWeir('none') },
  'weir http, warm holder + lease': { run: () => runWeir('http') },
  'weir full, warm holder + cable': { run: () => runWeir('full') },
}

try {
  const results = Object.fromEntries(Object.keys(ways).map((name) => [name, []]))
  // Round robin, so that whatever else the machine does meets all of them.
  for (let round = -1; round < rounds; round++) {
    for (const [name, { run }] of Object.entries(ways)) {
      await executor.network.warm()
      const sample = await run()
      if (round >= 0) results[name].push(sample)
    }
  }
  print(results)
} finally {
  await executor.close()
  await gateway.close()
  await docker.getImage(IMAGE).remove({ force: true })
  rmSync(dir, { recursive: true, force: true })
}
process.exit(0)

/** `first`: until the program's first byte was read; `end`: until its exit code was known. Milliseconds. */
async function runCommandLine(network) {
  const begin = performance.now()
  const child = spawn('docker', [
    'run',
    '--rm',
    '--label',
    'weir.bench=1',
    '--network',
    network,
    IMAGE,
    '/bin/busybox',
    'echo',
    'x',
  ])
  let first = 0
  child.stdout.once('data', () => (first = performance.now() - begin))
  await new Promise((resolve) => child.once('exit', resolve))
  return { first, end: performance.now() - begin }
}

async function runApi(HostConfig) {
  const begin = performance.now()
  const container = await docker.createContainer({
    Image: IMAGE,
    Cmd: ['/bin/busybox', 'echo', 'x'],
    HostConfig,
    Labels: { 'weir.bench': '1' },
  })
  const stream = await container.attach({ stream: true, stdout: true, stderr: true })
  await container.start()
  let first = 0
  for await (const _chunk of stream) first ||= performance.now() - begin
  await container.wait()
  const end = performance.now() - begin
  await container.remove({ force: true })
  return { first, end }
}

async function runWeir(mode) {
  const executionId = `e-${Math.random().toString(36).slice(2)}`
  const signal = AbortSignal.timeout(30_000)
  const scratchDir = mkdtempSync(join(dir, 'run-'))
  const Params = { Image: IMAGE, Entrypoint: ['/bin/busybox'], Parameters: ['echo', 'x'] }
  let first = 0
  const begin = performance.now()
  const network = await executor.network.acquire(mode, { executionId }, signal)
  const lease =
    network.attachment === undefined
      ? undefined
      : await gateway.open(
          { jobId: 'j-bench', executionId },
          { mode: 'http', allow: ['example.com'] },
          network.attachment,
        )
  const running = await executor.start(
    {
      nodeId,
      jobId: 'j-bench',
      executionId,
      task: { Engine: { Type: 'docker', Params } },
      engine: { Type: 'docker', Params },
      env: lease?.env ?? {},
      resources: { cpu: 1, memoryBytes: 128 * 1024 * 1024, diskBytes: 0, gpu: 0 },
      volumes: [],
      outputs: [],
      network,
      output: { write: () => void (first ||= performance.now() - begin) },
      scratchDir,
    },
    () => {},
    signal,
  )
  await running.exit
  const end = performance.now() - begin
  await running.remove?.()
  await lease?.close()
  await network.release()
  return { first, end }
}

function print(results) {
  const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
  const best = (values) => Math.min(...values)
  console.log(
    `\nStart of a container, ${rounds} rounds each, milliseconds, ${spawnSync('nproc').stdout.toString().trim()} cores\n`,
  )
  console.log(`${'way'.padEnd(48)}first byte: median  best   exit known: median  best`)
  for (const [name, samples] of Object.entries(results)) {
    const cells = ['first', 'end'].flatMap((key) => {
      const values = samples.map((sample) => sample[key])
      return [median(values), best(values)].map((value) => value.toFixed(0))
    })
    console.log(
      `${name.padEnd(48)}${cells[0].padStart(18)}${cells[1].padStart(6)}${cells[2].padStart(20)}${cells[3].padStart(6)}`,
    )
  }
}

async function importImage() {
  const archive = pack()
  archive.entry({ name: 'bin/busybox', mode: 0o755 }, readFileSync('/bin/busybox'))
  archive.finalize()
  const stream = await docker.importImage(archive, {
    repo: 'weir-bench',
    tag: '1',
    changes: 'LABEL weir.bench=1',
  })
  stream.resume()
  await once(stream, 'end')
}
