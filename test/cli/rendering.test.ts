import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pc from 'picocolors'
import { describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { serverUrl } from '../../src/cli/context.js'
import { progressBar } from '../../src/cli/download-job.js'
import { egressRows, refusedLines } from '../../src/cli/egress-lines.js'
import { errorReport } from '../../src/cli/error-report.js'
import { eventLine } from '../../src/cli/event-line.js'
import { FlagProblems } from '../../src/cli/flag-problems.js'
import { wasmJob } from '../../src/cli/job-from-flags.js'
import { outcomeOf } from '../../src/cli/outcome.js'
import { yamlOf } from '../../src/cli/output-format.js'
import { readTimeout } from '../../src/cli/read-timeout.js'
import { columnsLeftOut, renderCsv, renderTable } from '../../src/cli/table.js'
import { EXIT } from '../../src/cli/exit-codes.js'
import { formatDuration } from '../../src/cli/times.js'
import { describeText } from '../../src/cli/commands/job-describe.js'
import { readVariables } from '../../src/cli/commands/job-run.js'
import { recordLine } from '../../src/cli/commands/job-egress.js'
import type { WireExecution, WireJob } from '../../src/client/index.js'
import type { AuditRecord } from '../../src/model/index.js'

const style = pc.createColors(false)

describe('tables', () => {
  const columns = [
    { header: 'ID', value: (row: string[]) => row[0] ?? '', cutFirst: 0 },
    { header: 'TEXT', value: (row: string[]) => row[1] ?? '' },
  ]
  const rows = [
    ['a', 'x'.repeat(60)],
    ['bb', 'short'],
  ]

  it('fit the terminal and never cut ids', () => {
    const lines = renderTable(rows, columns, { columns: 40, plain: true, style }).split('\n')
    expect(lines[1]).toBe(`a   ${'x'.repeat(35)}…`)
    expect(lines.every((line) => line.length <= 40)).toBe(true)
  })

  it('leave out what matters least before they cut anything to a few letters', () => {
    const wide = [
      ...columns.slice(0, 1),
      { header: 'CREATED', value: () => '2026-01-31 12:03:04', cutFirst: 4 },
      { header: 'COMMENT', value: () => 'c'.repeat(60), cutFirst: 2 },
    ]
    const headers = (room: number): string[] =>
      (renderTable(rows, wide, { columns: room, plain: true, style }).split('\n')[0] ?? '').split(/ +/)
    expect(headers(60)).toEqual(['ID', 'CREATED', 'COMMENT'])
    expect(headers(42)).toEqual(['ID', 'COMMENT'])
    expect(renderTable(rows, wide, { columns: 30, plain: true, style }).split('\n')[1]).toBe(
      `a   ${'c'.repeat(25)}…`,
    )
  })

  it('drop what has no room from the right when nothing more can be cut, say so, and keep the first', () => {
    const ids = ['ID', 'STATE', 'EXIT'].map((header) => ({
      header,
      value: () => 'x'.repeat(12),
      cutFirst: 0,
    }))
    const layout = (room: number): Parameters<typeof renderTable>[2] => ({
      columns: room,
      plain: true,
      style,
    })
    for (const [room, left] of [
      [40, []],
      [30, ['EXIT']],
      [20, ['STATE', 'EXIT']],
      [8, ['STATE', 'EXIT']],
    ] as const) {
      const lines = renderTable([0], ids, layout(room)).split('\n')
      expect(lines.every((line) => line.length <= room)).toBe(true)
      expect(columnsLeftOut([0], ids, layout(room))).toEqual(left)
    }
    expect(columnsLeftOut([0], ids, { ...layout(8), wide: true })).toEqual([])
  })

  it('cut nothing when wide', () => {
    expect(renderTable(rows, columns, { columns: 40, wide: true, style })).toContain('x'.repeat(60))
  })

  it('escape what would control the terminal', () => {
    const text = renderTable([['a', '\u001b]0;x\u0007\u202e']], columns, {
      columns: 80,
      hideHeader: true,
      style,
    })
    expect(text).toBe('a  \\u001b]0;x\\u0007\\u202e\n')
  })

  it('measure wide characters as two columns', () => {
    const text = renderTable(
      [
        ['日本', 'x'],
        ['abcd', 'y'],
      ],
      columns,
      { columns: 80, hideHeader: true, style },
    )
    expect(text).toBe('日本  x\nabcd  y\n')
  })

  it('quote CSV and defuse formulas', () => {
    expect(
      renderCsv(
        [
          ['a,b', '=cmd()'],
          ['"', '-5'],
        ],
        columns,
        true,
      ),
    ).toBe(`"a,b",'=cmd()\n"""",-5\n`)
  })
})

describe('YAML', () => {
  it('escapes what would control the terminal and reads back the same', async () => {
    const value = { 'k\u001b': 'a\u001b[2Jb\u202e\u0085\nc', list: ['x'] }
    const text = await yamlOf(value)
    expect(text).not.toMatch(/[\u001b\u202e\u0085]/)
    const { parse } = await import('yaml')
    expect(parse(text)).toEqual(value)
  })
})

describe('errors', () => {
  it('say what, why and what to do, without control characters', () => {
    const error = new WeirError('api.failed', 'Cannot do "\u001b[31m": no', { hint: 'do it again' })
    expect(errorReport(error, style, false)).toEqual([
      'Error: Cannot do "\\u001b[31m": no',
      'Hint: Do it again',
    ])
  })

  it('that are defects say how to see more', () => {
    expect(errorReport(new TypeError('x is not a function'), style, false)[1]).toContain('--debug')
  })
})

describe('outcomes', () => {
  const job = (StateType: string, rest: object = {}): WireJob =>
    ({ State: { StateType, ...rest } }) as unknown as WireJob
  const completed = (ExitCode: number): WireExecution =>
    ({ ComputeState: { StateType: 9 }, RunOutput: { ExitCode } }) as unknown as WireExecution
  const failed = (code: string, message = 'no'): WireExecution =>
    ({
      ComputeState: { StateType: 10, Message: message, Details: { ErrorCode: code } },
    }) as unknown as WireExecution

  it.each<[string, WireJob, WireExecution[], number]>([
    ['success', job('Completed'), [completed(0)], 0],
    ['the program’s own code', job('Completed'), [completed(42)], 42],
    ['a code beyond a byte, never 0', job('Completed'), [completed(256)], 1],
    ['a negative code', job('Completed'), [completed(-1)], 255],
    ['the last of several tries', job('Completed'), [failed('engine.failed'), completed(3)], 3],
    ['several good executions', job('Completed'), [completed(0), completed(0)], 0],
    ['several executions, one bad', job('Completed'), [completed(0), completed(9)], 1],
    ['nothing to run', job('Completed'), [], 0],
    ['a time limit of the job', job('Failed', { Details: { ErrorCode: 'execution.timeout' } }), [], 124],
    ['a time limit of the execution', job('Failed'), [failed('execution.timeout')], 124],
    ['too little memory', job('Failed'), [failed('execution.out_of_memory')], 137],
    ['no node', job('Failed', { Message: 'not enough nodes' }), [], 126],
    ['a job that somebody stopped', job('Stopped'), [], 126],
  ])('of %s', (_what, of, executions, exitCode) => {
    const outcome = outcomeOf(of, executions)
    expect([outcome.exitCode, outcome.succeeded]).toEqual([exitCode, exitCode === 0])
  })

  it('do not repeat a reason', () => {
    const outcome = outcomeOf(job('Failed', { Message: 'tried 3 times: no' }), [failed('engine.failed')])
    expect(outcome.summary).toBe('The job failed: no')
  })

  it('say how often a job was tried', () => {
    const executions = [failed('engine.failed'), failed('engine.failed')]
    const outcome = outcomeOf(job('Failed', { Message: 'too many tries, the last one: no' }), executions)
    expect(outcome.summary).toBe('The job failed: no (tried 2 times)')
  })

  it('of a job that found no node name the reasons, without the figures before them', () => {
    const message = (suitable: number, reasons: string): string =>
      `not enough nodes to run job. requested: 3, available: 2, suitable: ${suitable}. ${reasons}`
    const none = outcomeOf(
      job('Failed', { Message: message(0, '0 of 2 nodes can run this: 2 lack docker') }),
      [],
    )
    expect(none.summary).toBe('The job failed: 0 of 2 nodes can run this: 2 lack docker')
    const some = outcomeOf(
      job('Failed', { Message: message(2, '2 of 2 nodes can run this'), Details: { Hint: 'wait' } }),
      [],
    )
    expect(some.summary).toBe('The job failed: 3 executions need 3 nodes, and 2 of 2 nodes can run this')
    expect(some.hints).toEqual([expect.stringContaining('--count')])
  })
})

describe('egress', () => {
  const destination = { Host: 'cdn.test', Port: 443, Allowed: 0, Refused: 2, BytesUp: 0, BytesDown: 0 }
  const execution = {
    Egress: {
      Destinations: [
        { ...destination, Host: 'ok.test', Allowed: 3, Refused: 0, BytesDown: 5000 },
        { ...destination, Code: 'egress.not_in_job_list', Advice: '--domain cdn.test' },
      ],
    },
  } as unknown as WireExecution

  it('is summed over executions, refusals first, with the flag that would allow it', () => {
    expect(
      egressRows([execution, execution]).map(({ host, allowed, refused }) => [host, allowed, refused]),
    ).toEqual([
      ['cdn.test', 0, 4],
      ['ok.test', 6, 0],
    ])
    expect(refusedLines([execution])).toEqual([
      'Refused 2×: cdn.test:443 (egress.not_in_job_list); --domain cdn.test would allow it',
    ])
  })

  it('cannot forge a line with a hostile host', () => {
    const record = {
      timeMs: 0,
      executionId: 'e-1',
      decision: 'deny',
      method: 'GET',
      host: '',
      hostAsSent: 'evil\nallow\u001b',
      port: 0,
      code: 'request.host',
    }
    const line = recordLine(record as unknown as AuditRecord, { dataStyle: style })
    expect(line).toContain('evil\\u000aallow\\u001b')
    expect(line.split('\n')).toHaveLength(1)
  })
})

describe('the description of a job', () => {
  it('says how long the version took that it describes, not how long ago the job was made', () => {
    const atMs = Date.parse('2024-11-29T08:00:00.000Z')
    const Job = {
      ID: 'j-1',
      Name: 'hello',
      Namespace: 'default',
      Type: 'batch',
      Count: 1,
      Priority: 0,
      Labels: {},
      Tasks: [
        { Engine: { Type: 'docker', Params: {} }, Resources: {}, Timeouts: {}, Network: { Type: 'None' } },
      ],
      State: { StateType: 'Completed' },
      Version: 2,
      CreateTime: (atMs - 86_400_000) * 1e6,
      ModifyTime: (atMs + 4_000) * 1e6,
    } as unknown as WireJob
    const Event = { Topic: 'Submission', Message: 'Job rerun', Timestamp: '' }
    const Items = [
      { SeqNum: 1, Type: 'JobLevel', JobID: 'j-1', JobVersion: 2, Event, Time: new Date(atMs).toISOString() },
    ] as const
    const page = { Items: [...Items], NextToken: '' }
    const terminal = { columns: 100, dataStyle: style }
    expect(describeText({ Job, History: page }, terminal, atMs)).toMatch(/^Took +(= )4\.0 s$/m)
    expect(describeText({ Job }, terminal, atMs)).toMatch(/^Took +(= )1d00h$/m)
  })
})

describe('small things', () => {
  it('events are one line each, whatever they hold', () => {
    const item = { Time: '', ExecutionID: 'e-x', Event: { Topic: 'T', Message: 'a\nb\u001b' } }
    expect(eventLine(item as never, style)).toContain('a\\u000ab\\u001b')
  })

  it.each<[number, string]>([
    [12.4, '12 ms'],
    [3456, '3.4 s'],
    [59_999, '59.9 s'],
    [310_000, '5m10s'],
    [10_920_000, '3h02m'],
    [363_600_000, '4d05h'],
  ])('%d ms read %s', (ms, text) => expect(formatDuration(ms)).toBe(text))

  it.each<[string, number | undefined]>([
    ['300', 300_000],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['0', undefined],
  ])('the timeout %s is %s ms', (text, ms) => expect(readTimeout('--x', text)).toBe(ms))

  it('template variables may hold commas', () => {
    expect(readVariables(['a=1,2,b=x=y'])).toEqual({ a: '1,2', b: 'x=y' })
  })

  it('the server may be a host, an address or a socket', () => {
    const url = (host: string, origin = 'default'): string =>
      serverUrl({ values: { 'API.Host': host, 'API.Port': 1234 } as never, origin: () => origin })
    expect(url('127.0.0.1')).toBe('http://127.0.0.1:1234')
    expect(url('::1')).toBe('http://[::1]:1234')
    expect(url('https://x.test')).toBe('https://x.test')
    expect(url('https://x.test', 'flag')).toBe('https://x.test:1234')
    expect(url('unix:/run/weir.sock')).toBe('unix:/run/weir.sock')
  })

  it('the progress bar fills', () => {
    const bar = progressBar({ results: 2, finished: 1, receivedBytes: 500_000, totalBytes: 1_000_000 })
    expect(bar).toBe(`[${'█'.repeat(12)}${' '.repeat(12)}]  500 kB of 1 MB, 1 of 2 results`)
  })

  it('a program may be a CID, a URL or a file that travels inside the job', async () => {
    const upload = (path: string): Promise<{ Type: string }> => Promise.resolve({ Type: `inline ${path}` })
    const source = async (program: string): Promise<string> => {
      const { Tasks } = (await wasmJob({}, program, [], { problems: new FlagProblems(), upload })) as {
        Tasks: [{ Engine: { Params: { EntryModule: { Source: { Type: string } } } } }]
      }
      return Tasks[0].Engine.Params.EntryModule.Source.Type
    }
    expect(await source('QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWxyzAB')).toBe('ipfs')
    expect(await source('https://h/x.wasm')).toBe('urlDownload')
    expect(await source('x.wasm')).toBe('inline x.wasm')
  })
})

describe('the page on exit codes', () => {
  it('lists every code that weir itself gives', () => {
    const page = readFileSync(join(PACKAGE_ROOT, 'docs/exit-codes.md'), 'utf8')
    for (const code of Object.values(EXIT)) expect(page).toContain(`\n| ${code} |`)
  })
})
