import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { WeirError } from '../errors.js'
import { type CorpusRow, readCorpus } from './corpus-row.js'
import { namespacesMissing } from './namespace.js'
import { type CorpusTarget, DEFAULT_LIST, type Finding, isAllowedRow, runRow } from './run-row.js'
import { createTestWorld, DNS_SERVER, type TestWorld } from './test-world.js'
import { ORCHESTRATOR_ADDRESS } from './witnesses.js'

/** What a proxy must be told so that the rows mean something to it. */
export const PROXY_CONFIGURATION = {
  allow: DEFAULT_LIST,
  deny: ['orchestrator.example.com', ORCHESTRATOR_ADDRESS],
  dnsServers: [DNS_SERVER],
} as const

/**
 * `pass`: as the row says. `answer`: nobody was contacted who must not, but the answer is another one. `hole`: somebody was
 * contacted, got bytes or was asked for a name who must not. `lenient`: an allowed origin got what must be refused. `broken`: what is allowed did not work.
 */
export type Verdict = 'pass' | 'answer' | 'lenient' | 'hole' | 'broken' | 'not applicable'

export interface RowResult {
  id: string
  category: string
  title: string
  /** What must come back: status codes, and who is contacted. */
  expected: string
  verdict: Verdict
  findings: Finding[]
  /** Why the row says nothing about this proxy; empty otherwise. */
  reason: string
}

export interface ConformanceOptions {
  /** Where the proxy listens, in its own namespace. Loopback only. */
  host: string
  port: number
  /** `name:password` for `Proxy-Authorization: Basic`. */
  user?: string
  /** Starts the proxy in the namespace. Absent: somebody else does, who is told by `onReady`. */
  command?: readonly string[]
  /** Only rows whose id begins so; absent: all. */
  rows?: readonly string[]
  /** How long the proxy may take to close a connection. Default 12 s, longer than most deadlines. */
  patienceMs?: number
  /** How long to wait until the proxy listens. Default 60 s. */
  waitMs?: number
  /** The world is there; the proxy is not yet. */
  onReady?: (world: { namespace: string; resolvConf: string }) => void
  onRow?: (result: RowResult) => void
  signal?: AbortSignal
}

/**
 * Runs the corpus against any proxy, in network namespaces of its own that lead nowhere: whatever the proxy does, only
 * witnesses are contacted. Everything that it made is gone afterwards.
 *
 * Rejects with `exec.unavailable` without the right to make namespaces, with `cli.usage` for a proxy that is not on
 * loopback, with `egress.unavailable` when the proxy does not listen in time.
 */
export async function runConformance(options: ConformanceOptions): Promise<RowResult[]> {
  const { host, port } = options
  if (host !== '127.0.0.1' && host !== '[::1]' && host !== '::1' && host !== 'localhost')
    throw new WeirError('cli.usage', `Cannot attack the proxy ${host}:${port}: it is not on loopback`, {
      hint: 'The proxy runs in a namespace of the test; let it listen on 127.0.0.1 there',
    })
  const missing = namespacesMissing()
  if (missing !== undefined)
    throw new WeirError('exec.unavailable', `Cannot make the world of the test: it ${missing}`, {
      hint: `Run it as root, or in namespaces of your own: unshare --user --map-root-user --net --mount sh -c 'mount -t tmpfs none /run && exec weir egress conformance …'`,
    })
  const directory = mkdtempSync(join(tmpdir(), 'weir-conformance-'))
  const resolvConf = join(directory, 'resolv.conf')
  writeFileSync(resolvConf, `nameserver ${DNS_SERVER}\noptions timeout:2 attempts:1\n`)
  let world: TestWorld | undefined
  let proxy: ChildProcess | undefined
  try {
    world = await createTestWorld(`wf${process.pid % 10_000}`)
    options.onReady?.({ namespace: world.uplink.name, resolvConf })
    if (options.command !== undefined) proxy = startProxy(options.command, world, resolvConf)
    await untilListening(world, options, proxy)
    return await runRows(targetOf(world, options), options)
  } finally {
    await stop(proxy)
    world?.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function runRows(target: CorpusTarget, options: ConformanceOptions): Promise<RowResult[]> {
  const results: RowResult[] = []
  const wanted = options.rows
  const rows = readCorpus().filter(
    ({ id }) => wanted === undefined || wanted.some((start) => id.startsWith(start)),
  )
  for (const row of rows) {
    options.signal?.throwIfAborted()
    const result = await resultOf(target, row)
    results.push(result)
    options.onRow?.(result)
  }
  return results
}

async function resultOf(target: CorpusTarget, row: CorpusRow): Promise<RowResult> {
  const { id, category, title, expect } = row
  const about = { id, category, title, expected: expectation(row) }
  const reason = inapplicable(row)
  if (reason !== '') return { ...about, verdict: 'not applicable', findings: [], reason }
  const findings = await runRow(target, row).catch((error: Error): Finding[] => [
    {
      kind: 'broken',
      what: 'connecting to the proxy',
      expected: String(expect.statuses),
      seen: error.message,
    },
  ])
  return { ...about, verdict: verdictOf(findings), findings, reason: '' }
}

function verdictOf(findings: readonly Finding[]): Verdict {
  const kinds = new Set(findings.map(({ kind }) => kind))
  if (kinds.has('hole')) return 'hole'
  if (kinds.has('broken')) return 'broken'
  if (kinds.has('lenient')) return 'lenient'
  return kinds.size === 0 ? 'pass' : 'answer'
}

/** Rows that an unknown proxy cannot be held to. */
function inapplicable({ policy, expect }: CorpusRow): string {
  if (policy !== undefined) return 'it needs rules of its own'
  const seesOurs = [...(expect.clientSees ?? []), ...(expect.clientSeesNot ?? [])].some((text) =>
    /weir/i.test(text),
  )
  return seesOurs && expect.code !== undefined ? 'it is about words of our own' : ''
}

function expectation(row: CorpusRow): string {
  const { statuses, touched = [], alert } = row.expect
  const answer = statuses.map((status) => [status].flat().join(' or ')).join(', ') || 'nothing'
  const cut = alert === true ? ', then cut' : ''
  return isAllowedRow(row) ? `${answer}${cut} from ${touched.join(' and ') || 'nobody'}` : `${answer}${cut}`
}

function targetOf(
  { witnesses, uplink }: TestWorld,
  { host, port, user, patienceMs }: ConformanceOptions,
): CorpusTarget {
  const address = host === 'localhost' ? '127.0.0.1' : host.replace(/^\[|\]$/g, '')
  return {
    witnesses,
    prepare: () => Promise.resolve(),
    connect: (): Promise<Socket> => uplink.connect(address, port),
    ...(user === undefined ? {} : { authorization: `Basic ${Buffer.from(user).toString('base64')}` }),
    patienceMs: patienceMs ?? 12_000,
    close: () => Promise.resolve(),
  }
}

/** In the namespace of the proxy, with the DNS server of the world in place of the machine's. */
function startProxy(command: readonly string[], { uplink }: TestWorld, resolvConf: string): ChildProcess {
  const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
  const inside = ['unshare', '--mount', 'sh', '-c', script, resolvConf, ...command]
  return spawn('nsenter', [`--net=${uplink.path}`, '--', ...inside], {
    stdio: ['ignore', 'ignore', 'inherit'],
    // A proxy may have children: all of them end together.
    detached: true,
  })
}

async function untilListening(
  { uplink }: TestWorld,
  { host, port, waitMs = 60_000, signal }: ConformanceOptions,
  proxy: ChildProcess | undefined,
): Promise<void> {
  const address = host === 'localhost' ? '127.0.0.1' : host.replace(/^\[|\]$/g, '')
  const end = performance.now() + waitMs
  while (performance.now() < end) {
    signal?.throwIfAborted()
    if (proxy !== undefined && (proxy.exitCode !== null || proxy.signalCode !== null))
      throw new WeirError(
        'egress.unavailable',
        `The proxy ended with ${proxy.exitCode ?? proxy.signalCode} before it listened`,
      )
    const socket = await uplink.connect(address, port).catch(() => undefined)
    if (socket !== undefined) {
      socket.destroy()
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new WeirError(
    'egress.unavailable',
    `No proxy listened on ${host}:${port} in the namespace ${uplink.name} in time`,
  )
}

async function stop(proxy: ChildProcess | undefined): Promise<void> {
  if (proxy?.pid === undefined || proxy.exitCode !== null || proxy.signalCode !== null) return
  const exited = once(proxy, 'exit')
  try {
    process.kill(-proxy.pid, 'SIGTERM')
    const timer = setTimeout(() => process.kill(-(proxy.pid ?? 0), 'SIGKILL'), 3_000)
    await exited
    clearTimeout(timer)
  } catch {
    // It has just ended.
  }
}
