import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGateway } from '../../dist/egress/index.js'
import { createAuditFile } from '../../dist/stores/audit-file.js'

/** The host that everything is asked for, and where it is: routed to this machine's own loopback. */
export const HOST = 'www.example.com'
export const ADDRESS = '93.184.216.34'

/** As many exact names as wanted, `HOST` in their middle. */
export function domainList(count) {
  const list = Array.from({ length: count - 1 }, (_, index) => `www${index}.host${index % 50}.example.net`)
  list.splice(count >> 1, 0, HOST)
  return list
}

/** Bounds that no comparison meets: the others have none. */
const NO_BOUNDS = {
  bitsPerSecondUp: 1e12,
  bitsPerSecondDown: 1e12,
  connectionsMax: 30_000,
  connectionsTotalMax: 30_000,
  requestsPerSecond: 1e6,
}

let gateways = 0

/** The gateway process with one lease, its list in force on node and job, its records written. */
export async function startWeir(dir, list, { limits = NO_BOUNDS, profile } = {}) {
  const auditDir = join(dir, `weir-${gateways++}`)
  const launcher =
    profile === undefined
      ? []
      : ['sh', '-c', `node=$1; shift; exec "$node" --cpu-prof --cpu-prof-dir=${profile} "$@"`, 'sh']
  const audit = createAuditFile({ dir: auditDir, bytesMax: 2 ** 40 })
  const gateway = await startGateway({
    nodeId: 'n-bench',
    auditDir,
    auditBytesMax: 2 ** 40,
    audit,
    hosts: { [HOST]: ADDRESS },
    limits,
    launcher,
  })
  await gateway.setNodePolicy({ allow: list, deny: [], privateExceptions: [], self: [] })
  let count = 0
  /** One more execution; its port. */
  const lease = async (allow = list) => {
    const attachment = await gateway.attachLoopback()
    const who = { jobId: `j-bench-${count}`, executionId: `e-bench-${count++}` }
    const opened = await gateway.open(who, { mode: 'http', allow }, attachment)
    return { port: Number(new URL(attachment.proxyUrl).port), close: () => opened.close() }
  }
  const { port } = await lease()
  return { name: 'weir', port, pid: gateway.pid, gateway, lease, close: () => gateway.close() }
}

/** Undefined where it is not installed. */
export async function startSquid(dir, list) {
  if (!installed('squid')) return undefined
  const own = ownDirectory(dir, 'squid')
  const allowed = join(own, 'allowed')
  writeFileSync(allowed, `${list.join('\n')}\n`)
  const lines = [
    'http_port 127.0.0.1:3129',
    `acl allowed dstdomain -n "${allowed}"`,
    'acl tls port 443',
    'acl tunnel method CONNECT',
    'http_access deny tunnel !tls',
    'http_access allow allowed',
    'http_access deny all',
    'cache deny all',
    `access_log daemon:${own}/access.log squid`,
    `cache_log ${own}/cache.log`,
    `coredump_dir ${own}`,
    'pid_filename none',
    'shutdown_lifetime 0 seconds',
    'visible_hostname bench.test',
    `max_filedescriptors ${openFilesMax()}`,
  ]
  const file = join(own, 'squid.conf')
  writeFileSync(file, `${lines.join('\n')}\n`)
  spawnSync('chown', ['-R', 'proxy', own])
  return await startProgram('squid', 3129, ['squid', '-N', '-f', file])
}

/** Undefined where it is not installed. */
export async function startTinyproxy(dir, list) {
  if (!installed('tinyproxy')) return undefined
  const own = ownDirectory(dir, 'tinyproxy')
  writeFileSync(
    join(own, 'allowed'),
    `${list.map((name) => `^${name.replaceAll('.', '\\.')}$`).join('\n')}\n`,
  )
  const lines = [
    'Port 3130',
    'Listen 127.0.0.1',
    'Timeout 600',
    'MaxClients 20000',
    `LogFile "${own}/log"`,
    'LogLevel Info',
    `Filter "${own}/allowed"`,
    'FilterDefaultDeny Yes',
    'ConnectPort 443',
    'Allow 127.0.0.1',
  ]
  const file = join(own, 'tinyproxy.conf')
  writeFileSync(file, `${lines.join('\n')}\n`)
  return await startProgram('tinyproxy', 3130, ['tinyproxy', '-d', '-c', file])
}

/** Resident memory of a process in KiB. */
export function residentKib(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
}

/** Processor time that a process used so far, all its threads, in µs. Other work on the machine hardly changes it. */
export function processorMicros(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10_000
}

export function openFilesMax() {
  return Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? 1_024)
}

function installed(program) {
  return spawnSync('which', [program]).status === 0
}

function ownDirectory(dir, name) {
  const own = join(dir, name)
  mkdirSync(own)
  chmodSync(own, 0o755)
  return own
}

async function startProgram(name, port, [program, ...args]) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'ignore'] })
  const ended = new Promise((resolve) => child.on('error', resolve).on('exit', resolve))
  for (let tries = 0; !(await accepts(port)); tries++) {
    if (tries === 200) throw new Error(`${name} does not listen on port ${port}`)
    await sleep(50)
  }
  const close = async () => {
    child.kill('SIGKILL')
    await ended
  }
  return { name, port, pid: child.pid, close }
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const finish = (answer) => {
      socket.destroy()
      resolve(answer)
    }
    socket.on('connect', () => finish(true)).on('error', () => finish(false))
  })
}
