import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { AuditEntry } from '../../src/model/index.js'
import { createAuditFile, verifyAuditFile } from '../../src/stores/audit-file.js'

let dir: string

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'weir-audit-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

function entry(host: string): AuditEntry {
  return {
    timeMs: 1,
    nodeId: 'n-1',
    jobId: 'j-1',
    executionId: 'e-1',
    policyGeneration: 1,
    kind: 'http',
    method: 'GET',
    host,
    hostAsSent: host,
    port: 80,
    answers: [],
    aliases: [],
    dialled: '',
    sni: '',
    alpn: [],
    decision: 'allow',
    code: '',
    rule: '',
    ruleOwner: '',
    status: 200,
    bytesUp: 0,
    bytesDown: 0,
    msToFirstByte: -1,
    msTotal: 0,
    end: 'origin',
  }
}

/** By this process, from files and whatever else. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}

function bytesWritten(): number {
  return Number(/^wchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}

/** A disk of a few pages, on which files can be kept from becoming shorter. */
function noSmallDisk(): boolean {
  if (process.getuid?.() !== 0) return true
  const disk = mkdtempSync(join(tmpdir(), 'weir-small-'))
  try {
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk]).status !== 0) return true
    try {
      writeFileSync(join(disk, 'file'), '')
      const isKept = spawnSync('chattr', ['+a', join(disk, 'file')]).status === 0
      spawnSync('chattr', ['-a', join(disk, 'file')])
      return !isKept
    } finally {
      execFileSync('umount', [disk])
    }
  } finally {
    rmSync(disk, { recursive: true })
  }
}

describe('the audit file', () => {
  it('numbers and chains records in the order of the calls, and reads them in pages', async () => {
    const file = createAuditFile({ dir })
    const ledger = await file.open('e-1')
    const written = await Promise.all(
      ['a.test', 'b.test', 'c.test'].map((host) => ledger.append(entry(host))),
    )
    expect(written.map((record) => record.sequence)).toEqual([1, 2, 3])
    expect(written[1]?.previousHash).toBe(written[0]?.hash)
    expect((await file.read('e-1', 1, 1)).map((record) => record.host)).toEqual(['b.test'])
    expect(await verifyAuditFile(dir, 'e-1')).toEqual({ intact: true, records: 3, head: ledger.head })
    await ledger.close()
    await expect(ledger.append(entry('d.test'))).rejects.toMatchObject({ code: 'egress.audit_failed' })
  })

  it('continues the chain after a restart, and cuts off a torn line', async () => {
    const first = await createAuditFile({ dir }).open('e-1')
    await first.append(entry('a.test'))
    await first.close()
    appendFileSync(join(dir, 'e-1.jsonl'), '{"sequence":2,"ho')
    const second = await createAuditFile({ dir }).open('e-1')
    expect(await second.append(entry('b.test'))).toMatchObject({ sequence: 2 })
    await second.close()
    expect(await verifyAuditFile(dir, 'e-1')).toMatchObject({ intact: true, records: 2 })
  })

  it('continues a chain in a file of any size, and one whose last record is long', async () => {
    const path = join(dir, 'e-1.jsonl')
    const first = await createAuditFile({ dir, bytesMax: 2 ** 40 }).open('e-1')
    await first.append(entry(`${'a'.repeat(200_000)}.test`))
    await first.close()
    const record = readFileSync(path, 'utf8')
    truncateSync(path, 0)
    // Larger than what Node reads into one buffer; it takes no room on the disk.
    truncateSync(path, 2.5 * 2 ** 30)
    appendFileSync(path, `\n${record}{"sequence":2,"ho`)
    const second = await createAuditFile({ dir, bytesMax: 2 ** 40 }).open('e-1')
    expect(await second.append(entry('b.test'))).toMatchObject({
      sequence: 2,
      previousHash: (JSON.parse(record) as { hash: string }).hash,
    })
    await second.close()
  })

  it('is read page by page without beginning anew each time, also when it was taken back or replaced', async () => {
    const file = createAuditFile({ dir })
    const ledger = await file.open('e-1')
    await Promise.all(Array.from({ length: 3_000 }, (_, index) => ledger.append(entry(`h${index}.test`))))
    const path = join(dir, 'e-1.jsonl')
    const before = bytesRead()
    const seen: number[] = []
    for (let after = 0; ; after = seen.at(-1) ?? 0) {
      const page = await file.read('e-1', after, 50)
      if (page.length === 0) break
      seen.push(...page.map(({ sequence }) => sequence))
    }
    expect(seen).toEqual(Array.from({ length: 3_000 }, (_, index) => index + 1))
    // 60 pages: from the beginning each they would be 30 times the file.
    expect(bytesRead() - before).toBeLessThan(6 * statSync(path).size + 60 * 65_536)
    await ledger.append(entry('more.test'))
    expect((await file.read('e-1', 3_000, 50)).map(({ host }) => host)).toEqual(['more.test'])
    await ledger.close()

    const lines = readFileSync(path, 'utf8').split('\n')
    await file.read('e-1', 0, 2)
    writeFileSync(path, `${lines[0]}\n${lines[1]?.replace('h1.test', 'longer.h1.test')}\n${lines[2]}\n`)
    expect((await file.read('e-1', 2, 5)).map(({ sequence }) => sequence)).toEqual([3])
    writeFileSync(path, `${lines[0]}\n`)
    expect(await file.read('e-1', 3, 5)).toEqual([])
    writeFileSync(path, `${lines.slice(0, 6).join('\n')}\n`)
    expect((await file.read('e-1', 3, 5)).map(({ sequence }) => sequence)).toEqual([4, 5, 6])
  })

  it('turns attempts that died with the gateway into records', async () => {
    const first = await createAuditFile({ dir }).open('e-1')
    const ticket = await first.begin(entry('done.test'))
    await first.begin(entry('lost.test'))
    await first.append(entry('done.test'), ticket)
    // Nobody closes it before the next one opens: the process is gone.
    const file = createAuditFile({ dir })
    await (await file.open('e-1')).close()
    const records = await file.read('e-1', 0, 10)
    expect(records.map((record) => [record.host, record.end])).toEqual([
      ['done.test', 'origin'],
      ['lost.test', 'error'],
    ])
    await (await file.open('e-1')).close()
    expect(await file.read('e-1', 0, 10)).toHaveLength(2)
    await first.close()
  })

  it.skipIf(noSmallDisk())(
    'appends nothing to a torn line that cannot be taken away, until it is opened again',
    async () => {
      const disk = join(dir, 'disk')
      mkdirSync(disk)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk])
      try {
        const file = createAuditFile({ dir: disk })
        const ledger = await file.open('e-1')
        await ledger.append(entry('a.test'))
        const lines = join(disk, 'e-1.jsonl')
        // Appending goes, taking away does not, and there is room for half of the next record.
        execFileSync('chattr', ['+a', lines])
        const failed = { code: 'egress.audit_failed' }
        await expect(ledger.append(entry('x'.repeat(20_000)))).rejects.toMatchObject(failed)
        const torn = readFileSync(lines)
        expect(torn.at(-1)).not.toBe('\n'.charCodeAt(0))
        await expect(ledger.append(entry('b.test'))).rejects.toMatchObject(failed)
        expect(readFileSync(lines)).toEqual(torn)
        await ledger.close()
        execFileSync('chattr', ['-a', lines])
        const again = await file.open('e-1')
        await again.append(entry('b.test'))
        await again.close()
        expect(await verifyAuditFile(disk, 'e-1')).toMatchObject({ intact: true, records: 2 })
      } finally {
        execFileSync('umount', [disk])
      }
    },
  )

  it('N-11 names the first record that was edited, cut out or reordered', async () => {
    const ledger = await createAuditFile({ dir }).open('e-1')
    for (const host of ['a.test', 'b.test', 'c.test']) await ledger.append(entry(host))
    await ledger.close()
    const path = join(dir, 'e-1.jsonl')
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
    const [a = '', b = '', c = ''] = lines
    for (const [content, brokenAt] of [
      [[a, b.replace('b.test', 'x.test'), c], 2],
      [[a, c], 2],
      [[b, a, c], 1],
    ] as const) {
      writeFileSync(path, `${content.join('\n')}\n`)
      expect(await verifyAuditFile(dir, 'e-1')).toMatchObject({ intact: false, brokenAt })
    }
  })

  it('keeps of some ids only the newest records, in two files that are chains of their own', async () => {
    const file = createAuditFile({ dir, turnOver: { nobody: 5_000 } })
    const ledger = await file.open('nobody')
    for (let index = 0; index < 100; index++) await ledger.append(entry(`h${index}.test`))
    await ledger.close()
    const [before, now] = ['nobody.before', 'nobody'].map((name) => join(dir, `${name}.jsonl`)) as [
      string,
      string,
    ]
    for (const path of [before, now]) expect(statSync(path).size).toBeLessThan(6_000)
    expect((await file.read('nobody', 0, 100)).at(-1)?.host).toBe('h99.test')
    const hosts = [before, now].flatMap((path) =>
      readFileSync(path, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as AuditEntry).host),
    )
    expect(hosts).toEqual(hosts.map((_, index) => `h${100 - hosts.length + index}.test`))
    for (const id of ['nobody', 'nobody-before']) {
      if (id !== 'nobody') writeFileSync(join(dir, `${id}.jsonl`), readFileSync(before))
      expect(await verifyAuditFile(dir, id)).toMatchObject({ intact: true })
    }
    const again = await file.open('nobody')
    await again.append(entry('after.test'))
    await again.close()
    expect((await file.read('nobody', 0, 100)).at(-1)?.host).toBe('after.test')
    await file.remove?.('nobody')
    expect(existsSync(before)).toBe(false)
  })

  it('refuses to begin when the file is full, and never builds a path from an odd id', async () => {
    const file = createAuditFile({ dir, bytesMax: 200 })
    const ledger = await file.open('e-1')
    await expect(ledger.begin(entry('a.test'))).rejects.toMatchObject({ code: 'egress.audit_failed' })
    await expect(file.open('../../e-1')).rejects.toMatchObject({ code: 'egress.audit_failed' })
    await ledger.close()
  })
})

describe('the notes of running attempts', () => {
  it('stay small beside a long tunnel, and the tunnel is not forgotten', async () => {
    const file = createAuditFile({ dir })
    const ledger = await file.open('e-1')
    await ledger.begin(entry('tunnel.test'))
    for (let index = 0; index < 2_500; index++)
      await ledger.append(entry('a.test'), await ledger.begin(entry('a.test')))
    expect(statSync(join(dir, 'e-1.begun')).size).toBeLessThan(1_100_000)
    await (await createAuditFile({ dir }).open('e-1')).close()
    expect((await file.read('e-1', 2_500, 10)).map((record) => record.host)).toEqual(['tunnel.test'])
    await ledger.close()
  })

  it('are not written again for each attempt that begins beside thousands of open ones', async () => {
    const ledger = await createAuditFile({ dir }).open('e-1')
    const open = 4_000
    await Promise.all(Array.from({ length: open }, () => ledger.begin(entry('tunnel.test'))))
    const before = bytesWritten()
    for (let index = 0; index < 50; index++) await ledger.begin(entry('tunnel.test'))
    // One of those open lines takes more than 400 bytes; a note of all would be over a megabyte each time.
    expect(bytesWritten() - before).toBeLessThan(1_000_000)
    await ledger.close()
  })
})
