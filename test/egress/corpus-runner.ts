import type { Socket } from 'node:net'
import { expect } from 'vitest'
import type { AuditRecord } from '../../src/model/index.js'
import type { CorpusRow, SendStep } from './corpus-row.js'
import { buildHello } from './hello.js'
import type { Witnesses } from './witnesses.js'

/** A gateway under attack: in this process, or a process of its own with real sockets. */
export interface CorpusTarget {
  readonly witnesses: Witnesses
  /** Puts the row's rules in force and opens (or keeps) a lease. */
  prepare(row: CorpusRow): Promise<void>
  connect(): Promise<Socket>
  /** Records written since `prepare`. */
  records(): Promise<AuditRecord[]>
  close(): Promise<void>
}

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

/** Runs one row, looks at every witness, and then checks that the gateway still does its work. */
export async function runRow(target: CorpusTarget, row: CorpusRow): Promise<void> {
  await runOnce(target, row)
  const { dns: _dns, origin: _origin, ...rest } = row
  await runOnce(target, {
    ...HEALTHY,
    ...(rest.policy?.job === undefined ? { policy: rest.policy ?? {} } : {}),
  })
}

async function runOnce(target: CorpusTarget, row: CorpusRow): Promise<void> {
  const { witnesses } = target
  await target.prepare(row)
  witnesses.reset(row.origin ?? {}, row.dns ?? {})
  const started = performance.now()
  const seen = await converse(target, row)
  const tookMs = performance.now() - started
  const { expect: wanted } = row
  const statuses = [...seen.text.matchAll(/(?:^|\n|OK|EVIL)HTTP\/1\.1 (\d{3})/g)].map((match) =>
    Number(match[1]),
  )
  expect(statuses.length, seen.text.slice(0, 400)).toBe(wanted.statuses.length)
  for (const [index, status] of wanted.statuses.entries())
    expect([status].flat(), seen.text.slice(0, 400)).toContain(statuses[index])
  const records = await recordsOf(target, wanted.records ?? 1)
  expect(records, JSON.stringify(records)).toHaveLength(wanted.records ?? 1)
  if (wanted.code !== undefined) {
    const codes = [wanted.code].flat().map((code) => (code.startsWith('request.') ? code : `egress.${code}`))
    expect(codes).toContain(records.at(-1)?.code)
    const header = /Weir-Egress-Code: (\S+)/.exec(seen.text)
    if (wanted.statuses.at(-1) !== 200) expect(codes, seen.text.slice(0, 300)).toContain(header?.[1])
  }
  if (wanted.closed !== false) expect(seen.closed, 'the gateway closes the connection').toBe(true)
  if (wanted.alert === true) expect(seen.bytes.subarray(-7).toString('hex')).toBe('15030300020231')
  expect(witnesses.touched).toEqual(wanted.touched ?? [])
  if (wanted.silent === true) expect(witnesses.ok.bytes.length).toBe(0)
  const origin = witnesses.ok.bytes.toString('latin1')
  for (const text of wanted.originSees ?? []) expect(origin).toContain(text)
  for (const text of wanted.originSeesNot ?? [])
    expect(origin.toLowerCase()).not.toContain(text.toLowerCase())
  for (const text of wanted.clientSees ?? []) expect(seen.text).toContain(text)
  for (const text of wanted.clientSeesNot ?? []) expect(seen.text).not.toContain(text)
  if (wanted.originGetsHello === true) expect(witnesses.ok.bytes.equals(seen.hellos)).toBe(true)
  if (wanted.dnsQueries !== undefined)
    expect(witnesses.queries, witnesses.queries.join()).toHaveLength(wanted.dnsQueries)
  if (wanted.record !== undefined) expect(records.at(-1)).toMatchObject(wanted.record)
  if (wanted.withinMs !== undefined) expect(tookMs).toBeLessThan(wanted.withinMs)
  checkInvariants(row, records, origin)
}

/** Allowed means: a canonical host of the list, an address that was judged, and an origin that saw just that host. */
function checkInvariants(row: CorpusRow, records: AuditRecord[], origin: string): void {
  for (const record of records) {
    expect(record.hostAsSent).toMatch(/^[\x20-\x7e]{0,256}$/)
    if (record.dialled !== '') expect(record.answers).toContain(record.dialled)
    if (record.decision === 'deny') expect(record.dialled === '' || record.kind === 'connect').toBe(true)
  }
  if (row.origin?.answer !== undefined || origin === '' || !/^[A-Z]+ /.test(origin)) return
  const hosts = [...origin.matchAll(/^Host: ([^\r\n]*)/gim)].map((match) => match[1]?.replace(/:\d+$/, ''))
  for (const host of hosts.slice(0, records.filter((record) => record.decision === 'allow').length))
    expect(records.map((record) => record.host)).toContain(host)
}

interface Seen {
  bytes: Buffer
  text: string
  closed: boolean
  hellos: Buffer
}

async function converse(target: CorpusTarget, row: CorpusRow): Promise<Seen> {
  const socket = await target.connect()
  const seen: Seen = { bytes: Buffer.alloc(0), text: '', closed: false, hellos: Buffer.alloc(0) }
  socket.on('error', () => {})
  socket.on('data', (bytes: Buffer) => {
    seen.bytes = Buffer.concat([seen.bytes, bytes])
    seen.text = seen.bytes.toString('latin1')
  })
  socket.on('end', () => {
    seen.closed = true
  })
  socket.on('close', () => {
    seen.closed = true
  })
  for (const step of row.send) await perform(socket, step, seen)
  await until(() => isDone(target, row, seen), 6_000)
  socket.destroy()
  return seen
}

function isDone(target: CorpusTarget, row: CorpusRow, seen: Seen): boolean {
  const { expect: wanted } = row
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

function bytesOf(step: SendStep): Buffer {
  if (step.hello !== undefined) return buildHello(step.hello)
  if (step.hex !== undefined) return Buffer.from(step.hex.replaceAll(' ', '').repeat(step.times ?? 1), 'hex')
  return Buffer.from((step.text ?? '').repeat(step.times ?? 1), 'utf8')
}

async function recordsOf(target: CorpusTarget, wanted: number): Promise<AuditRecord[]> {
  let records = await target.records()
  for (let waited = 0; records.length < wanted && waited < 3_000; waited += 10) {
    await sleep(10)
    records = await target.records()
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
