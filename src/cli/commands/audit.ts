import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { WeirError } from '../../errors.js'
import { collectEvidence, type Evidence, type EvidenceVerdict, judgeEvidence } from '../../model/evidence.js'
import { shortId } from '../../model/ids.js'
import { isPublicKey } from '../../model/key-pair.js'
import { printable, quoted } from '../../model/printable.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { LIST_FORMATS, printList } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { shellWord } from '../shell-word.js'
import type { WeirClient } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

export interface VerifyFlags extends GlobalFlags, ListFlags {
  key?: string[]
}

/**
 * `weir audit verify FILE…|ID`: checks the chain of records and the receipt of each execution. Ends with 1 when something is
 * broken, with 7 when something cannot be proved. Files are checked without a server; keys come from `--key` or, for a job,
 * from the nodes the server knows.
 */
export async function auditVerify(
  operands: readonly string[],
  flags: VerifyFlags,
  context: CliContext,
): Promise<number> {
  const { terminal, cwd } = context
  readChoice('--output', flags.output ?? 'table', LIST_FORMATS)
  const given = (flags.key ?? []).map(readKey)
  const files = operands.filter((operand) => existsSync(resolve(cwd, operand)))
  const ids = operands.filter((operand) => !files.includes(operand))
  const absent = ids.find((id) => /[/\\]|\.jsonl?$/.test(id))
  if (absent !== undefined)
    throw new WeirError('cli.usage', `Cannot read ${JSON.stringify(absent)}: there is no such file`, {
      hint: 'Name a file, or a job: weir audit export ID > evidence.jsonl writes one',
    })
  const gathered: Evidence[] = []
  const known = new Map<string, string>()
  for (const file of files) gathered.push(await readEvidence(resolve(cwd, file), file))
  if (ids.length > 0) {
    await withClient(flags, context, async (client) => {
      for (const id of ids) gathered.push(await fetchEvidence(client, id))
      for (const { Info } of await client.nodes({}))
        if (Info.PublicKey !== undefined) known.set(Info.NodeID, Info.PublicKey)
    })
  }
  const evidence = {
    records: gathered.flatMap(({ records }) => records),
    receipts: gathered.flatMap(({ receipts }) => receipts),
  }
  const verdicts = judgeEvidence(evidence, (nodeId) => {
    const signed = evidence.receipts.find((receipt) => receipt.nodeId === nodeId)?.publicKey
    if (given.length === 0) return known.get(nodeId)
    // One of several keys is enough: which node has which is not said.
    return given.find((key) => key === signed) ?? given[0]
  })
  if (verdicts.length === 0) {
    throw new WeirError('cli.usage', 'There is nothing to verify: no record and no receipt', {
      hint: 'Name a job, or files with receipts and records: weir audit export ID > evidence.jsonl',
    })
  }
  await printList(terminal, { rows: verdicts, columns: COLUMNS, items: verdicts.map(toWire) }, flags)
  for (const { executionId, unproven } of verdicts)
    for (const sentence of unproven) terminal.talk(`${shortId(executionId)}: ${printable(sentence)}`)
  const [file] = files
  // A key proves a receipt; records alone stay unproven with any.
  const signed = new Set(evidence.receipts.map(({ executionId }) => executionId))
  const keyless = verdicts.find(({ unproven, executionId }) => unproven.length > 0 && signed.has(executionId))
  if (file !== undefined && given.length === 0 && keyless !== undefined) {
    const signer = keyless.nodeId || 'ID'
    suggest(terminal, [
      ["With the node's key:", `weir audit verify --key KEY ${shellWord(file)}`],
      ['The key:', `weir node describe ${shellWord(printable(shortId(signer)))} shows it as PublicKey`],
    ])
  }
  if (verdicts.some(({ intact }) => !intact)) return EXIT.no
  return verdicts.some(({ unproven }) => unproven.length > 0) ? EXIT.unproven : EXIT.ok
}

/** `weir audit export ID`: receipts and records of a job, one JSON object per line, as `verify` reads them. */
export async function auditExport(id: string, flags: GlobalFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const { receipts, records } = await withClient(flags, context, (client) => fetchEvidence(client, id))
  for (const one of [...receipts, ...records]) await terminal.data(`${JSON.stringify(one)}\n`)
  return EXIT.ok
}

async function fetchEvidence(client: WeirClient, id: string): Promise<Evidence> {
  const { Items } = await client.executions(id, { allVersions: true })
  const receipts = Items.flatMap(({ EgressReceipt }) => (EgressReceipt === undefined ? [] : [EgressReceipt]))
  const records: Evidence['records'] = []
  for (let nextToken: string | undefined = ''; nextToken !== undefined; ) {
    const page = await client.egress(id, { allVersions: true, ...(nextToken === '' ? {} : { nextToken }) })
    records.push(...page.Items)
    if (records.length > RECORDS_MAX) {
      throw new WeirError('cli.usage', `Cannot check more than ${RECORDS_MAX} records at once`, {
        hint: 'Check one execution after the other: weir job egress ID --execution-id …',
      })
    }
    nextToken = page.NextToken === '' ? undefined : page.NextToken
  }
  return { records, receipts }
}

/** JSON, or one JSON object per line. */
async function readEvidence(path: string, shown: string): Promise<Evidence> {
  const found = await stat(path)
  if (found.isDirectory()) {
    throw new WeirError('cli.usage', `Cannot read ${quoted(shown)}: it is a directory`, {
      hint: `name a file in it; a downloaded result has ${quoted(join(shown, 'egress-receipt.json'))}`,
    })
  }
  if (found.size > FILE_BYTES_MAX)
    throw new WeirError(
      'cli.usage',
      `Cannot read ${quoted(shown)}: it is larger than ${FILE_BYTES_MAX} bytes`,
    )
  const text = await readFile(path, 'utf8')
  const evidence = collectEvidence(parseTexts(text, shown))
  if (evidence.unread > 0) {
    throw new WeirError(
      'cli.usage',
      `Cannot read ${quoted(shown)}: it holds something else than records and receipts`,
      {
        hint: 'Name files from weir audit export, weir job egress --output json, or egress-receipt.json of a result',
      },
    )
  }
  return evidence
}

function parseTexts(text: string, shown: string): unknown[] {
  try {
    return [JSON.parse(text)]
  } catch {
    // Then it is lines.
  }
  return text.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return []
    try {
      return [JSON.parse(line) as unknown]
    } catch {
      throw new WeirError('cli.usage', `Cannot read line ${index + 1} of ${quoted(shown)}: it is not JSON`)
    }
  })
}

function readKey(text: string): string {
  const key = text.trim()
  if (isPublicKey(key)) return key
  throw new WeirError('cli.usage', `Cannot use the key ${quoted(text)}`, {
    hint: 'Use the PublicKey that `weir node describe` shows: U and 55 letters and digits',
  })
}

const RECORDS_MAX = 1_000_000
const FILE_BYTES_MAX = 512 * 1024 * 1024

const COLUMNS: readonly Column<EvidenceVerdict>[] = [
  { header: 'EXECUTION', value: ({ executionId }) => shortId(executionId), cutFirst: 0 },
  { header: 'NODE', value: ({ nodeId }) => shortId(nodeId), cutFirst: 3 },
  { header: 'VERDICT', value: verdictWord, cutFirst: 0 },
  { header: 'RECORDS', value: ({ records }) => String(records), alignRight: true, cutFirst: 0 },
  { header: 'WHAT', value: ({ problems, statement }) => problems[0] ?? statement, cutFirst: 2 },
]

/** In the spelling of everything that the API answers. */
function toWire({ executionId, nodeId, intact, records, statement, problems, unproven }: EvidenceVerdict) {
  return {
    ExecutionID: executionId,
    NodeID: nodeId,
    Intact: intact,
    Records: records,
    Statement: statement,
    Problems: problems,
    Unproven: unproven,
  }
}

/** `ok` is said only where nothing is left to believe. */
function verdictWord({ intact, unproven }: EvidenceVerdict): string {
  if (!intact) return 'BROKEN'
  return unproven.length === 0 ? 'ok' : 'unproven'
}
