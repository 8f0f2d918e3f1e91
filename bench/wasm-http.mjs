// What HTTP costs a WebAssembly program: one small request, and a large download, through the channel of its sandbox, beside
// curl in a network namespace of the same gateway (what a container has) and curl without any gateway.
//
//   node bench/wasm-http.mjs [--requests 200] [--mib 256]
//
// Needs root (network namespaces), bubblewrap, curl, and the fixtures (node scripts/build-wasm-fixtures.mjs); runs what was built
// (npm run build). The web server is in a namespace of its own, and nothing leaves this machine. The rate limits are out of the
// way. Times of curl are its own (time_total), without the start of its process; it makes a connection for each request, and the
// gateway uses those of the sandbox's requests again.
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ip, Namespace } from '../dist/conformance/index.js'
import { startGateway } from '../dist/egress/index.js'
import { createWasmExecutor } from '../dist/executors/wasm/index.js'
import { createAuditFile } from '../dist/stores/audit-file.js'

const { values } = parseArgs({
  options: { requests: { type: 'string', default: '200' }, mib: { type: 'string', default: '256' } },
})
const requests = Number(values.requests)
const bytes = Number(values.mib) * 1024 * 1024
const SITE = '93.184.219.2'
const HOST = 'www.example.com'
const PROGRAM = join(import.meta.dirname, '../dist/test-fixtures/wasm/c-http.wasm')

const piece = Buffer.alloc(64 * 1024, 'x')
let runs = 0
const listeners = []
const tag = `wb${process.pid % 10_000}`
const dir = mkdtempSync(join(tmpdir(), 'weir-bench-'))
const names = { sites: `${tag}s`, uplink: `${tag}u`, job: `${tag}j` }
const spaces = Object.fromEntries(Object.entries(names).map(([key, name]) => [key, Namespace.create(name)]))
try {
  connect()
  await serve()
  const audit = createAuditFile({ dir })
  const gateway = await startGateway({
    nodeId: 'n-bench',
    auditDir: dir,
    audit,
    hosts: { [HOST]: SITE },
    authorities: readFileSync(join(dir, 'site.pem'), 'utf8'),
    limits: { bitsPerSecondUp: 1e11, bitsPerSecondDown: 1e11, requestsPerSecond: 1e6 },
    launcher: ['ip', 'netns', 'exec', names.uplink],
  })
  await gateway.setNodePolicy({ allow: [HOST], deny: [], privateExceptions: [], self: [] })
  const executor = createWasmExecutor({ nodeId: 'n-bench', dataDir: join(dir, 'wasm'), gateway })
  const attachment = await gateway.attach(spaces.job.path)
  const policy = { mode: 'http', allow: [HOST] }
  const lease = await gateway.open({ jobId: 'j', executionId: 'e-curl' }, policy, attachment)
  const rows = []
  for (const scheme of ['http', 'https']) {
    const url = `${scheme}://${HOST}`
    const resolve = ['--resolve', `${HOST}:80:${SITE}`, '--resolve', `${HOST}:443:${SITE}`]
    const proxied = ['--proxy', lease.proxyUrl]
    rows.push([`${scheme}, WebAssembly`, ...(await wasm(gateway, executor, url))])
    rows.push([`${scheme}, curl through the proxy`, ...(await curl(names.job, url, proxied))])
    rows.push([`${scheme}, curl without gateway`, ...(await curl(names.uplink, url, resolve))])
  }
  console.log(`| way | small request p50 | p95 | ${values.mib} MiB |\n| --- | ---: | ---: | ---: |`)
  for (const [way, p50, p95, mibPerSecond] of rows)
    console.log(`| ${way} | ${p50.toFixed(2)} ms | ${p95.toFixed(2)} ms | ${mibPerSecond.toFixed(0)} MiB/s |`)
  await executor.close()
  await gateway.close()
  for (const listener of listeners) listener.close()
} finally {
  for (const space of Object.values(spaces)) space.close()
  rmSync(dir, { recursive: true, force: true })
}

/** The sites and the gateway face each other; the job has nothing but loopback. */
function connect() {
  ip(
    'link',
    'add',
    `${tag}a`,
    'netns',
    names.uplink,
    'type',
    'veth',
    'peer',
    'name',
    `${tag}b`,
    'netns',
    names.sites,
  )
  for (const [space, device, address] of [
    [names.uplink, `${tag}a`, '93.184.219.1/30'],
    [names.sites, `${tag}b`, `${SITE}/30`],
  ]) {
    ip('-n', space, 'addr', 'add', address, 'dev', device)
    ip('-n', space, 'link', 'set', device, 'up')
  }
}

async function serve() {
  const key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2'.split(' ')
  const subject = ['-subj', '/CN=site', '-addext', `subjectAltName=DNS:${HOST}`]
  const files = ['-keyout', 'site.key', '-out', 'site.pem']
  execFileSync('openssl', ['req', '-x509', ...key, ...subject, ...files], { cwd: dir, stdio: 'ignore' })
  const tls = { key: readFileSync(join(dir, 'site.key')), cert: readFileSync(join(dir, 'site.pem')) }
  for (const [port, server] of [
    [80, createServer(answer)],
    [443, createTlsServer(tls, answer)],
  ]) {
    const listener = await spaces.sites.listen(SITE, port)
    listeners.push(listener)
    listener.on('connection', (socket) => server.emit('connection', socket))
  }
}

function answer(request, response) {
  if (request.url !== '/big') return response.end('small\n')
  response.writeHead(200, { 'content-length': bytes })
  let left = bytes
  const more = () => {
    while (left > 0) {
      const part = piece.subarray(0, Math.min(left, piece.length))
      left -= part.length
      if (!response.write(part)) return response.once('drain', more)
    }
    response.end()
  }
  more()
}

async function wasm(gateway, executor, url) {
  const executionId = `e-${++runs}`
  const slot = await executor.network.acquire('http', { executionId }, AbortSignal.timeout(10_000))
  const who = { jobId: 'j', executionId }
  const lease = await gateway.open(who, { mode: 'http', allow: [HOST] }, slot.attachment)
  let out = ''
  const run = await executor.start(
    runSpec(executionId, slot, url, (text) => (out += text)),
    () => {},
    AbortSignal.timeout(300_000),
  )
  const exit = await run.exit
  await lease.close()
  await slot.release()
  const times = [...out.matchAll(/^latency 200 ([\d.]+)$/gm)].map(([, ms]) => Number(ms))
  const [, got, ms] = /^count 200 (\d+) result 0 ms ([\d.]+)$/m.exec(out) ?? []
  if (times.length !== requests || Number(got) !== bytes)
    throw new Error(`it went wrong: ${out} ${exit.message}`)
  return [...quantiles(times), bytes / 1024 / 1024 / (Number(ms) / 1000)]
}

function runSpec(executionId, network, url, keep) {
  const module = { Source: { Type: 'inline' }, Alias: '', Target: '/wasm/entry.wasm' }
  const Parameters = ['latency', `${url}/`, String(requests), 'count', `${url}/big`]
  return {
    nodeId: 'n-bench',
    jobId: 'j',
    executionId,
    task: {
      Name: 'main',
      Engine: { Type: 'wasm', Params: { EntryModule: module, Parameters, EnvironmentVariables: {} } },
      Resources: { CPU: '', Memory: '', Disk: '', GPU: '' },
      Network: { Type: 'HTTP', Domains: [HOST] },
    },
    engine: { Type: 'wasm' },
    env: {},
    resources: { cpu: 0, memoryBytes: 64 << 20, diskBytes: 0, gpu: 0 },
    volumes: [],
    outputs: [],
    modules: { entry: { hostPath: PROGRAM, target: '/wasm/entry.wasm', writable: false }, imports: [] },
    network,
    output: { write: (_stream, data) => keep(Buffer.from(data).toString()) },
    scratchDir: dir,
  }
}

/** Each request on a connection of its own. The sandbox's requests use connections to the host again: ratios show that as well. */
async function curl(space, url, how) {
  const common = ['-s', '--cacert', join(dir, 'site.pem'), ...how, '-o', '/dev/null', '-w', '%{time_total}\n']
  const small = Array.from({ length: requests }, () => [...common, '-H', 'Connection: close', `${url}/`])
  const one = small.flatMap((args, index) => (index === 0 ? args : ['--next', ...args]))
  const times = (await output(space, one))
    .trim()
    .split('\n')
    .map((seconds) => Number(seconds) * 1000)
  const seconds = Number(await output(space, [...common, `${url}/big`]))
  return [...quantiles(times), bytes / 1024 / 1024 / seconds]
}

function output(space, args) {
  return new Promise((resolve, reject) => {
    const child = spawn('ip', ['netns', 'exec', space, 'curl', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (data) => (text += data))
    child.on('error', reject)
    child.on('close', (code) => (code === 0 ? resolve(text) : reject(new Error(`curl ended with ${code}`))))
  })
}

function quantiles(times) {
  const sorted = times.toSorted((a, b) => a - b)
  return [0.5, 0.95].map((share) => sorted[Math.floor((sorted.length - 1) * share)])
}
