// The egress gateway beside Squid and tinyproxy (Debian's packages), and its limits. All of it happens in namespaces of its
// own: nothing listens on this machine, and nothing is left behind, however it ends. Needs root, util-linux, iproute2, a C
// compiler and a build; a proxy that is not installed is left out.
//
//   node bench/egress.mjs                              # everything, about eight minutes
//   node bench/egress.mjs --only connect,http          # parts: connect http tunnel hold leases limits neighbour policy
//   node bench/egress.mjs --seconds 5 --rounds 5       # longer and more measurements of each kind
//   node bench/egress.mjs --output markdown            # table | json | markdown
//   node bench/egress.mjs --only http --proxies weir --profile DIR   # CPU profiles of the gateway process
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { alone } from './egress/alone.mjs'
import { besideOthers } from './egress/beside-others.mjs'
import { buildLoad } from './egress/load.mjs'
import { ADDRESS, domainList, HOST } from './egress/proxies.mjs'
import { Report } from './egress/report.mjs'

const PARTS = ['connect', 'http', 'tunnel', 'hold', 'leases', 'limits', 'neighbour', 'policy']

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: PARTS.join(',') },
    proxies: { type: 'string', default: 'weir,squid,tinyproxy' },
    domains: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    window: { type: 'string', default: '10' },
    idle: { type: 'string', default: '60' },
    output: { type: 'string', default: 'table' },
    profile: { type: 'string' },
    inside: { type: 'string' },
  },
})
const unknown = options.only.split(',').filter((part) => !PARTS.includes(part))
if (unknown.length > 0) {
  console.error(`There is no part "${unknown.join('", "')}"; there are ${PARTS.join(', ')}`)
  process.exit(2)
}

if (options.inside === undefined) await outside()
else await inside(options.inside)

/** Starts this file again where 93.184.216.0/24 is this machine, although no interface has such an address. */
async function outside() {
  const dir = mkdtempSync(join(tmpdir(), 'weir-bench-'))
  // Squid gives its rights up and reads and writes here all the same.
  chmodSync(dir, 0o711)
  const hosts = join(dir, 'hosts')
  writeFileSync(hosts, `127.0.0.1 localhost\n${ADDRESS} ${HOST}\n`)
  const prepare = [
    'ip link set lo up',
    // Thousands of connections a second: finding a free port must not be what is measured.
    'echo 10000 65535 > /proc/sys/net/ipv4/ip_local_port_range',
    'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse',
    'ip route add local 93.184.216.0/24 dev lo',
    `mount --bind ${hosts} /etc/hosts`,
    'ulimit -n $(ulimit -Hn)',
    'exec "$@"',
  ].join(' && ')
  const self = [process.execPath, fileURLToPath(import.meta.url), ...process.argv.slice(2), '--inside', dir]
  const child = spawn(
    'unshare',
    [
      '--net',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      'sh',
      '-c',
      prepare,
      'sh',
      ...self,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  )
  // With the first process of the namespace everything in it ends.
  const stop = () => child.kill('SIGKILL')
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop)
  const status = await new Promise((resolve) => child.on('exit', resolve).on('error', resolve))
  rmSync(dir, { recursive: true, force: true })
  process.exitCode = typeof status === 'number' ? status : 1
}

async function inside(dir) {
  process.chdir('/')
  const load = buildLoad(dir)
  const report = new Report(options.output)
  const origin = await load.start('origin')
  const context = {
    parts: new Set(options.only.split(',')),
    only: new Set(options.proxies.split(',')),
    report,
    load,
    dir,
    list: domainList(Number(options.domains)),
    seconds: Number(options.seconds),
    rounds: Number(options.rounds),
    windowSeconds: Number(options.window),
    idleSeconds: Number(options.idle),
    profile: options.profile,
  }
  const before = loads()
  report.begin()
  try {
    if (['connect', 'http', 'tunnel', 'hold'].some((part) => context.parts.has(part)))
      await besideOthers(context)
    await alone(context)
  } finally {
    await origin.stop()
  }
  const [model] = cpus()
  const about = `${options.domains} domains listed, logs written by all. ${cpus().length} × ${model?.model.trim()}, Node ${process.version}; load before ${before}, after ${loads()}.`
  if (options.output === 'table') console.log(about)
  report.end(about)
}

function loads() {
  return loadavg()[0].toFixed(1)
}
