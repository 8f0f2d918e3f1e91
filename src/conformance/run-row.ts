import type { Socket } from 'node:net'
import type { AuditRecord } from '../model/index.js'
import type { CorpusRow, SendStep } from './corpus-row.js'
import { buildHello } from './hello.js'
import type { Witnesses } from './witnesses.js'

/** A proxy under attack. */
export interface CorpusTarget {
  readonly witnesses: Witnesses
  /** Puts the row's rules in force, where the target can. */
  prepare(row: CorpusRow): Promise<void>
  connect(): Promise<Socket>
  /** Records written since `prepare`. Absent: a proxy that is not ours, of which only the outside is judged. */
  records?(): Promise<AuditRecord[]>
  /** A credential that every request carries: the value of `Proxy-Authorization`. */
  readonly authorization?: string
  /** How long a proxy may take to close a connection. Default 6 s. */
  readonly patienceMs?: number
  close(): Promise<void>
}

/**
 * What was otherwise than it must be.
 *
 * `hole`: somebody was contacted, or got bytes, that must not. `lenient`: an allowed origin got what must be refused. `broken`: what is allowed did not work. `answer`: nothing
 * left, but the answer is another one than expected. `record`: the audit record is another one.
 */
export interface Finding {
  kind: 'hole' | 'lenient' | 'broken' | 'answer' | 'record'
  what: string
  expected: string
  seen: string
}

/** The list that rows without rules of their own are written for. */
export const DEFAULT_LIST = [
  '.example.com',
  'exact.test',
  'api.test:8443',
  '93.184.216.77',
  'xn--bcher-kva.test',
]

const HEALTHY: CorpusRow = {
  id: 'A-01',
  category: 'A',
  title: 'the gateway still serves',
  send: [{ text: 'GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n' }],
  expect: { statuses: [200], touched: ['OK'] },
}

/** Runs one row, looks at every witness, and then whether the proxy still does its work. */
export async function runRow(target: CorpusTarget, row: CorpusRow): Promise<Finding[]> {
  const findings = await runOnce(target, row)
  const { policy } = row
  const after = await runOnce(target, {
    ...HEALTHY,
    ...(policy === undefined || policy.job !== undefined ? {} : { policy }),
  })
  return [...findings, ...after.map((finding) => ({ ...finding, what: `afterwards: ${finding.what}` }))]
}

async function runOnce(target: CorpusTarget, row: CorpusRow): Promise<Finding[]> {
  const { witnesses } = target
  await target.prepare(row)
  witnesses.reset(row.origin ?? {}, row.dns ?? {})
  const started = performance.now()
  const seen = await converse(target, row)
  const tookMs = performance.now() - started
  const findings = [...judgeContacts(row, witnesses, seen), ...judgeAnswer(row, seen, tookMs)]
  if (target.records === undefined) return findings
  const records = await recordsOf(target, row.expect.records ?? 1)
  return [...findings, ...judgeRecords(row, seen, records, witnesses.ok.bytes.toString('latin1'))]
}

/** True for rows in which a client gets what it is allowed. */
export function isAllowedRow({ expect }: CorpusRow): boolean {
  return (
    expect.code === undefined && expect.statuses.some((status) => [status].flat().some((one) => one < 400))
  )
}

/** Who was contacted, and what got there. */
function judgeContacts(row: CorpusRow, witnesses: Witnesses, seen: Seen): Finding[] {
  const wanted = row.expect
  const findings: Finding[] = []
  const add = (kind: Finding['kind'], what: string, expected: unknown, found: unknown): void => {
    findings.push({ kind, what, expected: shown(expected), seen: shown(found) })
  }
  const allowed = wanted.touched ?? []
  const extra = witnesses.touched.filter((one) => !allowed.includes(one))
  if (extra.length > 0)
    add(extra.some((one) => one !== 'OK') ? 'hole' : 'lenient', 'contacted', allowed, witnesses.touched)
  else if (witnesses.touched.length < allowed.length)
    add(isAllowedRow(row) ? 'broken' : 'answer', 'contacted', allowed, witnesses.touched)
  const origin = witnesses.ok.bytes.toString('latin1')
  if (wanted.silent === true && origin !== '') add('hole', 'bytes at the origin', '', origin)
  const missing = (wanted.originSees ?? []).filter((text) => !origin.includes(text))
  if (missing.length > 0) add('broken', 'the origin sees', missing, origin)
  const leaked = (wanted.originSeesNot ?? []).filter((text) =>
    origin.toLowerCase().includes(text.toLowerCase()),
  )
  if (leaked.length > 0) add('hole', 'the origin does not see', leaked, origin)
  if (wanted.originGetsHello === true && !witnesses.ok.bytes.equals(seen.hellos))
    add(
      'broken',
      'the origin gets the hello as it was',
      seen.hellos.toString('hex'),
      witnesses.ok.bytes.toString('hex'),
    )
  const { dnsQueries } = wanted
  if (dnsQueries !== undefined && witnesses.queries.length !== dnsQueries) {
    const isTold =
      dnsQueries === 0 && witnesses.queries.some((query) => !isListedName(query.replace(/ .*$/, '')))
    add(isTold ? 'hole' : 'answer', 'DNS questions', dnsQueries, witnesses.queries)
  }
  return findings
}

/** Names outside of the list carry data to whoever answers for them. */
function isListedName(name: string): boolean {
  return (
    /(?:^|\.)example\.com$/.test(name) ||
    DEFAULT_LIST.some((pattern) => pattern.replace(/:\d+$/, '') === name)
  )
}

/** What the client got. */
function judgeAnswer(row: CorpusRow, seen: Seen, tookMs: number): Finding[] {
  const wanted = row.expect
  const kind = isAllowedRow(row) ? 'broken' : 'answer'
  const findings: Finding[] = []
  const add = (what: string, expected: unknown, found: unknown): void => {
    findings.push({ kind, what, expected: shown(expected), seen: shown(found) })
  }
  const statuses = [...seen.text.matchAll(/(?:^|\n|OK|EVIL)HTTP\/1\.[01] (\d{3})/g)].map((match) =>
    Number(match[1]),
  )
  const fits =
    statuses.length === wanted.statuses.length &&
    wanted.statuses.every((status, index) => [status].flat().includes(statuses[index] ?? 0))
  if (!fits) add('statuses', wanted.statuses, [statuses, seen.text.slice(0, 200)])
  if (wanted.closed !== false && !seen.closed) add('the connection is closed', true, false)
  const end = seen.bytes.subarray(-ALERT.length / 2).toString('hex')
  if (wanted.alert === true && end !== ALERT) add('alert', ALERT, end)
  const missing = (wanted.clientSees ?? []).filter((text) => !seen.text.includes(text))
  if (missing.length > 0) add('the client sees', missing, seen.text)
  const leaked = (wanted.clientSeesNot ?? []).filter((text) => seen.text.includes(text))
  if (leaked.length > 0) add('the client does not see', leaked, seen.text)
  if (wanted.withinMs !== undefined && tookMs >= wanted.withinMs)
    add('milliseconds', wanted.withinMs, Math.round(tookMs))
  return findings
}

/** A fatal alert: access_denied. */
const ALERT = '15030300020231'

/** What a gateway of ours wrote down and said besides. */
function judgeRecords(row: CorpusRow, seen: Seen, records: AuditRecord[], origin: string): Finding[] {
  const { code, record: wanted, records: count = 1, statuses } = row.expect
  const findings: Finding[] = []
  const add = (what: string, expected: unknown, found: unknown): void => {
    findings.push({ kind: 'record', what, expected: shown(expected), seen: shown(found) })
  }
  const last = records.at(-1)
  if (records.length !== count) add('records', count, records)
  if (code !== undefined) {
    const codes = [code].flat().map((one) => (one.startsWith('request.') ? one : `egress.${one}`))
    if (!codes.includes(last?.code ?? '')) add('code of the record', codes, last?.code)
    const header = /Weir-Egress-Code: (\S+)/.exec(seen.text)?.[1] ?? ''
    if (statuses.at(-1) !== 200 && !codes.includes(header)) add('code of the answer', codes, header)
  }
  const differing = Object.entries(wanted ?? {}).filter(
    ([key, value]) => JSON.stringify(last?.[key as keyof AuditRecord]) !== JSON.stringify(value),
  )
  if (differing.length > 0) add('record', Object.fromEntries(differing), last)
  for (const problem of invariantProblems(row, records, origin)) add('invariant', problem, records)
  return findings
}

/** Allowed means: a canonical host of the list, an address that was judged, and an origin that saw just that host. */
function invariantProblems(row: CorpusRow, records: AuditRecord[], origin: string): string[] {
  const problems = records.flatMap((record) => [
    ...(/^[\x20-\x7e]{0,256}$/.test(record.hostAsSent) ? [] : ['the host as sent is printable']),
    ...(record.dialled === '' || record.answers.includes(record.dialled)
      ? []
      : ['what is dialled was judged']),
    ...(record.decision !== 'deny' || record.dialled === '' || record.method === 'CONNECT'
      ? []
      : ['nothing is dialled that is refused']),
  ])
  if (row.origin?.answer !== undefined || origin === '' || !/^[A-Z]+ /.test(origin)) return problems
  const hosts = [...origin.matchAll(/^Host: ([^\r\n]*)/gim)].map((match) => match[1]?.replace(/:\d+$/, ''))
  const known = records.map((record) => record.host)
  const foreign = hosts
    .slice(0, records.filter((record) => record.decision === 'allow').length)
    .filter((host) => !known.includes(host ?? ''))
  return [...problems, ...foreign.map((host) => `the origin sees only hosts of the record, not ${host}`)]
}

function shown(value: unknown): string {
  return (typeof value === 'string' ? value : JSON.stringify(value)).slice(0, 600)
}

interface Seen {
  bytes: Buffer
  text: string
  closed: boolean
  hellos: Buffer
  /** When the last bytes came. */
  changedAt: number
}

async function converse(target: CorpusTarget, row: CorpusRow): Promise<Seen> {
  const socket = await target.connect()
  const seen: Seen = {
    bytes: Buffer.alloc(0),
    text: '',
    closed: false,
    hellos: Buffer.alloc(0),
    changedAt: performance.now(),
  }
  socket.on('error', () => {})
  socket.on('data', (bytes: Buffer) => {
    seen.bytes = Buffer.concat([seen.bytes, bytes])
    seen.text = seen.bytes.toString('latin1')
    seen.changedAt = performance.now()
  })
  socket.on('end', () => {
    seen.closed = true
  })
  socket.on('close', () => {
    seen.closed = true
  })
  for (const step of row.send) await perform(socket, authorized(step, target.authorization), seen)
  await until(() => isDone(target, row, seen), target.patienceMs ?? 6_000)
  socket.destroy()
  return seen
}

/** A proxy that is not ours may hold on to connections for ever: who was contacted, and what was answered, is known before. */
function isDecided(witnesses: Witnesses, { expect: wanted }: CorpusRow, seen: Seen): boolean {
  if (witnesses.touched.some((one) => !(wanted.touched ?? []).includes(one))) return true
  if (wanted.silent === true && witnesses.ok.bytes.length > 0) return true
  const answers = (seen.text.match(/HTTP\/1\.[01] \d{3}/g) ?? []).length
  const isTold = wanted.silent !== true && wanted.statuses.length > 0 && answers >= wanted.statuses.length
  return isTold && performance.now() - seen.changedAt > LINGER_MS
}

/** How long after its last bytes a proxy may still close the connection. */
const LINGER_MS = 2_000

function isDone(target: CorpusTarget, row: CorpusRow, seen: Seen): boolean {
  const { expect: wanted } = row
  if (target.records === undefined && isDecided(target.witnesses, row, seen)) return true
  if (row.send.some((step) => step.reset === true)) return true
  if (wanted.originGetsHello === true) return target.witnesses.ok.bytes.length >= seen.hellos.length
  if (wanted.closed !== false) return seen.closed
  return (seen.text.match(/HTTP\/1\.1 \d{3}/g) ?? []).length >= wanted.statuses.length
}

async function perform(socket: Socket, step: SendStep, seen: Seen): Promise<void> {
  const { await: awaited } = step
  if (awaited !== undefined) await until(() => seen.text.includes(awaited), 3_000)
  if (step.reset === true) {
    await sleep(step.delayMs ?? 50)
    socket.resetAndDestroy()
    return
  }
  const bytes = bytesOf(step)
  if (step.hello !== undefined) seen.hellos = Buffer.concat([seen.hellos, bytes])
  if (step.split === undefined) {
    if (step.delayMs !== undefined) await sleep(step.delayMs)
    if (!socket.destroyed) socket.write(bytes)
    return
  }
  for (let at = 0; at < bytes.length && !socket.destroyed; at += step.split) {
    socket.write(bytes.subarray(at, at + step.split))
    await sleep(step.delayMs ?? 1)
  }
}

/** Adds the credential behind each request line; bytes without one stay as they are. */
function authorized(step: SendStep, authorization: string | undefined): SendStep {
  if (authorization === undefined || step.text === undefined) return step
  const header = `$1Proxy-Authorization: ${authorization}\r\n`
  return { ...step, text: step.text.replace(/((?:^|\r\n\r\n)[A-Z]+ [^\r\n]* HTTP\/1\.[01]\r\n)/g, header) }
}

function bytesOf(step: SendStep): Buffer {
  if (step.hello !== undefined) return buildHello(step.hello)
  if (step.hex !== undefined) return Buffer.from(step.hex.replaceAll(' ', '').repeat(step.times ?? 1), 'hex')
  return Buffer.from((step.text ?? '').repeat(step.times ?? 1), 'utf8')
}

async function recordsOf(target: CorpusTarget, wanted: number): Promise<AuditRecord[]> {
  let records = (await target.records?.()) ?? []
  for (let waited = 0; records.length < wanted && waited < 3_000; waited += 10) {
    await sleep(10)
    records = (await target.records?.()) ?? []
  }
  return records
}

async function until(holds: () => boolean, ms: number): Promise<void> {
  const end = performance.now() + ms
  while (!holds() && performance.now() < end) await sleep(2)
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
