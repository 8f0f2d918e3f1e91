import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type AuditEntry,
  type AuditRecord,
  auditHash,
  type EgressReceipt,
  keyPairOf,
  signReceipt,
} from '../../src/model/index.js'
import { collectEvidence, judgeEvidence } from '../../src/model/evidence.js'
import { createAuditFile } from '../../src/stores/audit-file.js'

const NODE = keyPairOf(Buffer.alloc(32, 1))
const OTHER = keyPairOf(Buffer.alloc(32, 2))
const COUNT = 5

let dir: string
let records: AuditRecord[]
let receipt: EgressReceipt

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'weir-evidence-'))
  records = await recordsOf('e-1')
  receipt = receiptOver(records)
})

afterAll(() => rmSync(dir, { recursive: true, force: true }))

describe('evidence', () => {
  it('that is whole is intact, and nothing is left to believe', () => {
    expect(judge(records, [receipt])).toEqual({
      executionId: 'e-1',
      intact: true,
      records: COUNT,
      statement: '5 of 5 attempts were allowed; 50 bytes left and 500 came in.',
      nodeId: 'n-1',
      problems: [],
      unproven: [],
    })
  })

  it('is the same however JSON was stored on its way', () => {
    const turned = Object.fromEntries(Object.entries(receipt).toReversed())
    const { unread, ...found } = collectEvidence([
      { NextToken: '', Items: JSON.parse(JSON.stringify(records, null, 2)) as unknown },
      { ID: 'e-1', EgressReceipt: turned },
    ])
    expect(unread).toBe(0)
    expect(judge(found.records, found.receipts)).toMatchObject({ intact: true, unproven: [] })
    expect(collectEvidence([{ some: 'thing' }, 7]).unread).toBe(2)
  })

  it.each<[what: string, change: (chain: AuditRecord[]) => AuditRecord[], problem: string]>([
    [
      'changed',
      (chain) => replaced(chain, 2, { host: 'harmless.test' }),
      'record 3 is broken: its content does not match its hash',
    ],
    ['removed', (chain) => chain.toSpliced(1, 1), 'record 2 is broken: the sequence has a gap'],
    ['removed from the beginning', (chain) => chain.slice(1), 'record 1 is broken: the sequence has a gap'],
    [
      'put in another order',
      ([a, b, c, ...rest]) => [a, c, b, ...rest] as AuditRecord[],
      'record 2 is broken: the sequence has a gap',
    ],
    [
      'repeated',
      (chain) => [...chain.slice(0, 2), ...chain.slice(1)],
      'record 3 is broken: the sequence has a gap',
    ],
    ['cut off at the end', (chain) => chain.slice(0, -1), 'record 5 is missing: the receipt counts 5'],
    [
      'added at the end',
      (chain) => rechained([...chain, ...chain.slice(-1)]),
      'record 6 was added: the receipt counts 5',
    ],
    [
      'all written anew, with hashes that fit',
      (chain) => rechained(replaced(chain, 1, { host: 'harmless.test' })),
      'record 5 is not the one that the receipt was signed over: records were replaced',
    ],
    [
      'changed with its own hash',
      (chain) => rehashed(chain, 2, { bytesUp: 0 }),
      'record 4 is broken: it does not follow the record before',
    ],
  ])('shows which record was %s', (_what, change, problem) => {
    expect(judge(change(records), [receipt])).toMatchObject({ intact: false, problems: [problem] })
  })

  it('shows any change of a receipt, whatever the field', () => {
    const fields = Object.keys(receipt).filter((key) => !['executionId', 'type', 'signature'].includes(key))
    fc.assert(
      fc.property(fc.constantFrom(...fields), fc.jsonValue(), (field, value) => {
        fc.pre(JSON.stringify(value) !== JSON.stringify(receipt[field as keyof EgressReceipt]))
        expect(judge(records, [{ ...receipt, [field]: value }]).intact).toBe(false)
      }),
    )
  })

  it("is not taken from another node's key, and the key in the receipt proves nothing", () => {
    const forged = receiptOver(records, OTHER)
    expect(judge(records, [forged])).toMatchObject({
      intact: false,
      problems: ['the receipt was signed with another key than that of node n-1'],
    })
    expect(judge(records, [forged], () => undefined)).toMatchObject({
      intact: true,
      unproven: ['the key of node n-1 is not known here: anybody could have signed'],
    })
  })

  it('of another execution fits nothing', async () => {
    const others = await recordsOf('e-2')
    const stolen = { ...receiptOver(others), executionId: 'e-1' }
    expect(judge(records, [stolen]).problems).toEqual([
      'the receipt was changed: its signature does not match',
    ])
    const mixed = judgeEvidence({ records: others, receipts: [receipt] }, keyOf)
    expect(mixed.map(({ executionId, intact, unproven }) => [executionId, intact, unproven.length])).toEqual([
      ['e-1', true, 1],
      ['e-2', true, 1],
    ])
  })

  it('says what cannot be proved when half of it is missing', () => {
    expect(judge(records, [])).toMatchObject({
      intact: true,
      unproven: [expect.stringContaining('no receipt')],
    })
    expect(judge([], [receipt])).toMatchObject({
      intact: true,
      unproven: [expect.stringContaining('5 records')],
    })
  })

  it('needs no records where nothing was tried', () => {
    const nothing = receiptOver([], NODE, 'none')
    expect(judge([], [nothing])).toMatchObject({
      intact: true,
      unproven: [],
      statement: 'The execution had no network: nothing left it.',
    })
  })
})

function judge(
  chain: AuditRecord[],
  receipts: EgressReceipt[],
  keys: (nodeId: string) => string | undefined = keyOf,
): ReturnType<typeof judgeEvidence>[number] {
  const [verdict] = judgeEvidence({ records: chain, receipts }, keys)
  if (verdict === undefined) throw new Error('no verdict')
  return verdict
}

function keyOf(nodeId: string): string | undefined {
  return nodeId === 'n-1' ? NODE.publicKey : undefined
}

function replaced(chain: AuditRecord[], index: number, change: Partial<AuditRecord>): AuditRecord[] {
  return chain.map((record, at) => (at === index ? { ...record, ...change } : record))
}

function rehashed(chain: AuditRecord[], index: number, change: Partial<AuditRecord>): AuditRecord[] {
  return replaced(chain, index, change).map((record, at) =>
    at === index ? { ...record, hash: auditHash(record) } : record,
  )
}

/** A chain whose hashes fit, over whatever the records say. */
function rechained(chain: AuditRecord[]): AuditRecord[] {
  let previousHash = '0'.repeat(64)
  return chain.map((record, index) => {
    const next = { ...record, sequence: index + 1, previousHash }
    previousHash = auditHash(next)
    return { ...next, hash: previousHash }
  })
}

/** Real records, by the file that the gateway writes. */
async function recordsOf(executionId: string): Promise<AuditRecord[]> {
  const audit = createAuditFile({ dir })
  const ledger = await audit.open(executionId)
  for (let index = 0; index < COUNT; index++) await ledger.append(entry(executionId, index))
  await ledger.close()
  return audit.read(executionId, 0, 100)
}

function entry(executionId: string, index: number): AuditEntry {
  return {
    timeMs: 1_768_032_001_000 + index,
    nodeId: 'n-1',
    jobId: 'j-1',
    executionId,
    policyGeneration: 1,
    kind: 'connect',
    method: 'CONNECT',
    host: `h${index}.example.com`,
    hostAsSent: `h${index}.example.com`,
    port: 443,
    answers: ['93.184.216.34'],
    aliases: [],
    dialled: '93.184.216.34',
    sni: `h${index}.example.com`,
    alpn: ['h2'],
    decision: 'allow',
    code: '',
    rule: '.example.com',
    ruleOwner: 'job',
    status: 200,
    bytesUp: 10,
    bytesDown: 100,
    msToFirstByte: 3,
    msTotal: 9,
    end: 'client',
  }
}

function receiptOver(
  chain: AuditRecord[],
  signer = NODE,
  network: EgressReceipt['network'] = 'http',
): EgressReceipt {
  const facts = {
    nodeId: 'n-1',
    jobId: 'j-1',
    executionId: chain[0]?.executionId ?? 'e-1',
    network,
    startTimeMs: 1,
    endTimeMs: 2,
    records: chain.length,
    chainHead: chain.at(-1)?.hash ?? '',
    allowed: chain.length,
    refused: 0,
    bytesUp: chain.length * 10,
    bytesDown: chain.length * 100,
    codes: {},
    policyGenerations: chain.length === 0 ? [] : [1, 1],
    destinations: chain.map(({ host, port }) => ({
      host,
      port,
      allowed: 1,
      refused: 0,
      bytesUp: 10,
      bytesDown: 100,
    })),
    destinationsTruncated: false,
  }
  return signReceipt(facts, signer)
}
