import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WeirError } from '../../src/errors.js'
import {
  STOCK_JOB_DEFAULTS,
  dockerEngine,
  jobJsonSchema,
  parseJobSpec,
  task,
  wasmEngine,
} from '../../src/model/index.js'
import { complaints, jobValue, parsed, problemsOf, refusal } from './job-fixture.js'

const SAMPLE = {
  Name: 'hello',
  Type: 'batch',
  Count: 1,
  Constraints: [{ Key: 'region', Operator: 'in', Values: ['eu', 'us'] }],
  Labels: { team: 'x' },
  Tasks: [
    {
      Name: 'main',
      Engine: {
        Type: 'docker',
        Params: {
          Image: 'alpine',
          Entrypoint: null,
          Parameters: ['echo', 'hi'],
          EnvironmentVariables: ['A=1'],
          WorkingDirectory: '',
        },
      },
      Publisher: { Type: 'local' },
      InputSources: [
        {
          Source: { Type: 'urlDownload', Params: { URL: 'https://example.org/a.csv' } },
          Alias: '',
          Target: '/inputs',
        },
      ],
      ResultPaths: [{ Name: 'outputs', Path: '/outputs' }],
      Resources: { CPU: '500m', Memory: '1 GB' },
      Network: { Type: 'HTTP', Domains: ['Example.org', '.example.com'] },
      Timeouts: { ExecutionTimeout: 300, QueueTimeout: 60 },
    },
  ],
}

describe('a specification that is fine', () => {
  it('is normalised: nothing absent, quantities compact, domains canonical', () => {
    const { spec, warnings } = parseJobSpec(SAMPLE)
    expect(warnings).toEqual([])
    expect(spec).toEqual({
      Name: 'hello',
      Namespace: 'default',
      Type: 'batch',
      Priority: 0,
      Count: 1,
      Constraints: SAMPLE.Constraints,
      Meta: {},
      Labels: { team: 'x' },
      Tasks: [
        {
          Name: 'main',
          Engine: {
            Type: 'docker',
            Params: { Image: 'alpine', Parameters: ['echo', 'hi'], EnvironmentVariables: ['A=1'] },
          },
          Publisher: { Type: 'local' },
          Env: {},
          Meta: {},
          InputSources: SAMPLE.Tasks[0]?.InputSources,
          ResultPaths: [{ Name: 'outputs', Path: '/outputs' }],
          Resources: { CPU: '500m', Memory: '1gb', Disk: '', GPU: '' },
          Network: { Type: 'HTTP', Domains: ['example.org', '.example.com'] },
          Timeouts: { ExecutionTimeout: 300, QueueTimeout: 60, TotalTimeout: 0 },
        },
      ],
    })
  })

  it('matches keys and words without regard to case', () => {
    const spec = parsed({
      TYPE: 'BATCH',
      tasks: [
        { name: 'main', engine: { type: 'Docker', params: { image: 'a' } }, NETWORK: { TYPE: 'full' } },
      ],
    })
    expect([spec.Type, task(spec).Engine.Type, task(spec).Network.Type]).toEqual(['batch', 'docker', 'Full'])
  })

  it('takes null and empty objects as absent', () => {
    const spec = parsed(
      jobValue(
        {
          Publisher: null,
          Resources: {},
          Network: null,
          Timeouts: null,
          InputSources: null,
          Env: null,
          ResultPaths: {},
        },
        { Constraints: null, Labels: null, Meta: null, Count: null, Name: null },
      ),
    )
    expect(task(spec)).toMatchObject({ Publisher: { Type: '' }, Network: { Type: 'None', Domains: [] } })
    expect(spec.Count).toBe(1)
  })

  it('adds outbound URLs to the domains, in one spelling and each once', () => {
    const Network = {
      Type: 'http',
      Domains: ['a.test', 'https://ipfs.io'],
      OutboundURLs: ['HTTPS://ipfs.io:443', 'wss://feed.test', 'http://b.test:8080'],
    }
    const { spec } = parseJobSpec(jobValue({ Network }))
    const Domains = ['a.test', 'https://ipfs.io', 'https://feed.test', 'http://b.test:8080']
    expect(task(spec).Network).toEqual({ Type: 'HTTP', Domains })
    expect(parseJobSpec(spec).spec).toEqual(spec)
  })

  it('keeps an explicit count of 0 and says that nothing will run', () => {
    const { spec, warnings } = parseJobSpec(jobValue({}, { Count: 0 }))
    expect(spec.Count).toBe(0)
    expect(warnings).toEqual(['Count is 0: the job runs nothing'])
  })

  it('counts ops and daemon jobs as 1, whatever they say', () => {
    expect(parsed(jobValue({}, { Type: 'ops', Count: 7 })).Count).toBe(1)
  })

  it('takes numbers where a quantity is meant, and nowhere else', () => {
    expect(task(parsed(jobValue({ Resources: { CPU: 2, GPU: 1 } }))).Resources).toMatchObject({
      CPU: '2',
      GPU: '1',
    })
    expect(complaints(jobValue({ Env: { A: 5 } }))).toEqual([
      'Tasks[0].Env.A: must be text, found the number 5',
    ])
  })

  it('accepts engines, sources and publishers it does not know, for placement to judge', () => {
    const value = jobValue({
      Engine: { Type: 'python', Params: { Version: '3.12', Nested: { a: [1] } } },
      Publisher: { Type: 's3managed' },
    })
    expect(task(parsed(value)).Engine).toEqual({
      Type: 'python',
      Params: { Version: '3.12', Nested: { a: [1] } },
    })
  })

  it('fills in defaults by job type, and the server alone asks for a publisher of results', () => {
    const value = jobValue({ ResultPaths: [{ Name: 'o', Path: '/o' }] })
    expect(task(parsed(value)).Resources.CPU).toBe('')
    expect(complaints(value, { defaults: STOCK_JOB_DEFAULTS })).toEqual([
      'Tasks[0].Publisher: publisher must be set if result paths are set',
    ])
    const spec = parsed(value, {
      defaults: { batch: { priority: 3, publisher: { Type: 'local' }, resources: { CPU: '1' } } },
    })
    expect(spec.Priority).toBe(3)
    expect(task(spec)).toMatchObject({ Publisher: { Type: 'local' }, Resources: { CPU: '1', Memory: '' } })
  })

  it('gives service jobs no default publisher and no timeouts', () => {
    const defaults = { service: { publisher: { Type: 'local' }, timeouts: { TotalTimeout: 5 } } }
    const spec = parsed(jobValue({}, { Type: 'service' }), { defaults })
    expect(task(spec)).toMatchObject({ Publisher: { Type: '' }, Timeouts: { TotalTimeout: 0 } })
  })
})

describe('what other clients of the API send', () => {
  const lenient = { unknownFields: 'warn', serverFields: 'warn' } as const

  it('ignores server fields, with a warning only where they mean something', () => {
    const empty = {
      ID: '',
      State: { StateType: 'Undefined', Message: '' },
      Revision: 0,
      Version: 0,
      CreateTime: 0,
    }
    expect(parseJobSpec(jobValue({}, empty), lenient).warnings).toEqual([])
    expect(parseJobSpec(jobValue({}, { ID: 'j-1', CreateTime: 5 }), lenient).warnings).toEqual([
      'job ID is ignored when submitting a batch job',
      'job create time is ignored when submitting a job',
    ])
  })

  it('warns of unknown fields outside parameters', () => {
    const { warnings } = parseJobSpec(jobValue({ Network: { Type: 'None', Ports: [] } }), lenient)
    expect(warnings).toEqual(['unknown field "Ports" is ignored (Tasks[0].Network.Ports)'])
  })

  it('takes the network type Default as None', () => {
    const { spec, warnings } = parseJobSpec(jobValue({ Network: { Type: 'Default' } }), lenient)
    expect(task(spec).Network.Type).toBe('None')
    expect(warnings).toHaveLength(1)
    expect(complaints(jobValue({ Network: { Type: 'Default' } }))[0]).toContain(
      "unknown network type 'Default'",
    )
  })

  it('takes a network type in any case and nothing that only resembles one (row B-40)', () => {
    for (const Type of ['HTTP', 'http', 'Http']) {
      const { spec } = parseJobSpec(jobValue({ Network: { Type, Domains: ['example.org'] } }), lenient)
      expect(task(spec).Network.Type).toBe('HTTP')
    }
    for (const Type of ['HTTPS', 'ht tp', '2', 2, 'every', '*', true, ['Full'], { Full: 1 }]) {
      expect(
        complaints(jobValue({ Network: { Type, Domains: ['example.org'] } }), lenient).length,
        JSON.stringify(Type),
      ).toBeGreaterThan(0)
    }
  })

  it('K-19 refuses the network types that would leave the job on the host or a bridge', () => {
    for (const Type of ['Host', 'Bridge']) {
      expect(complaints(jobValue({ Network: { Type } }), lenient)[0]).toContain('unknown network type')
    }
  })

  it('K-19 refuses options of Docker among the parameters', () => {
    const params = { Image: 'alpine', Privileged: true, NetworkMode: 'host', HostConfig: { Binds: ['/:/x'] } }
    const found = complaints(jobValue({ Engine: { Type: 'docker', Params: params } }), lenient)
    expect(found).toEqual([
      'Tasks[0].Engine.Params.Privileged: unknown field "Privileged"',
      'Tasks[0].Engine.Params.NetworkMode: unknown field "NetworkMode"',
      'Tasks[0].Engine.Params.HostConfig: unknown field "HostConfig"',
    ])
  })

  it('P-28 refuses environments and arguments that no kernel takes', () => {
    const engine = (params: object) => ({
      Engine: { Type: 'docker', Params: { Image: 'alpine', ...params } },
    })
    const bad: [object, RegExp][] = [
      [{ EnvironmentVariables: [`A=${'x'.repeat(2_000_000)}`] }, /EnvironmentVariables\[0\]/],
      [
        { EnvironmentVariables: Array.from({ length: 10_000 }, (_, index) => `A${index}=1`) },
        /EnvironmentVariables/,
      ],
      [{ EnvironmentVariables: ['=x'] }, /EnvironmentVariables\[0\]/],
      [{ EnvironmentVariables: ['A\0B=x'] }, /EnvironmentVariables\[0\]/],
      [{ EnvironmentVariables: ['A=x\0y'] }, /EnvironmentVariables\[0\]/],
      [{ Parameters: ['y'.repeat(2_000_000)] }, /Parameters\[0\]/],
      [{ Parameters: ['a\0b'] }, /Parameters\[0\]/],
    ]
    for (const [params, where] of bad) {
      const [first = ''] = complaints(jobValue(engine(params)), lenient)
      expect(first).toMatch(where)
      expect(first.length).toBeLessThan(1_000)
    }
    for (const name of ['A=B', 'A\0B', ''])
      expect(complaints(jobValue({ Env: { [name]: 'x' } }), lenient)[0]).toMatch(/Env/)
  })

  it('P-29 refuses names and labels that a terminal would take for commands; the others are only text', () => {
    const named = (Name: string) => complaints({ Type: 'batch', Name, Tasks: [SAMPLE.Tasks[0]] }, lenient)
    for (const Name of ['a\u001b[31m', 'a\nb', 'a\0b', 'a\u202eb', 'a\rb'])
      expect([Name, named(Name).length]).toEqual([Name, 1])
    for (const Name of ['../x', '$(id)', '`id`', "a'b", '-rf']) {
      expect(parsed({ Type: 'batch', Name, Tasks: [SAMPLE.Tasks[0]] }).Name).toBe(Name)
    }
    for (const key of ['a\u001b[31m', 'a\nb', '\0'])
      expect([key, complaints({ ...SAMPLE, Labels: { [key]: 'x' } }, lenient).length > 0]).toEqual([
        key,
        true,
      ])
  })

  it('keeps only the first task and drops reserved meta keys, with warnings', () => {
    const Task = { Name: 'a', Engine: { Type: 'noop' } }
    const { spec, warnings } = parseJobSpec(
      { Type: 'batch', Tasks: [Task, { ...Task, Name: 'b' }], Meta: { 'bacalhau.org/x': '1', y: '2' } },
      lenient,
    )
    expect(spec.Tasks).toHaveLength(1)
    expect(spec.Meta).toEqual({ y: '2' })
    expect(warnings).toHaveLength(2)
  })
})

describe('mistakes', () => {
  it('are all reported at once, in the words of the reference', () => {
    const error = refusal(() =>
      parseJobSpec({
        Type: 'bach',
        Count: -1,
        Constraints: [{ Key: '', Operator: '=', Values: ['x'] }],
        Tasks: [
          {
            Name: 'main',
            Resources: { CPU: 'x', Memory: '1q', Disk: '-1', GPU: '1.5' },
            Timeouts: { ExecutionTimeout: -1, QueueTimeout: -1, TotalTimeout: -1 },
            InputSources: [{ Source: { Type: '' } }],
            ResultPaths: [{ Name: '', Path: 'rel' }],
          },
        ],
      }),
    )
    expect(error.code).toBe('spec.invalid')
    for (const words of [
      'invalid job type: "bach"',
      'job count must be >= 0',
      'constraint 0 validation failed: key cannot be blank',
      'task main validation failed: engine validation failed: nil spec config',
      'task resources validation failed: invalid CPU value: "x"',
      'invalid memory value: "1q"',
      'invalid disk value: "-1"',
      'invalid GPU value: "1.5"',
      'task timeouts validation failed: invalid execution timeout value',
      'invalid queue timeout value',
      'invalid total timeout value',
      'artifact validation failed: invalid artifact source',
      'artifact validation failed: missing artifact target',
      'output validation failed: missing name',
      'path must be absolute',
    ]) {
      expect(error.message).toContain(words)
    }
  })

  it.each<[string, unknown, string]>([
    ['nothing at all', null, 'empty/nil job'],
    ['a list', [1], 'must be an object, found a list'],
    ['no type', { Tasks: [] }, 'missing job type'],
    ['no tasks', { Type: 'batch' }, 'missing job tasks'],
    ['a blank task name', jobValue({ Name: '  ' }), 'missing task name'],
    ['a task name with NUL', jobValue({ Name: 'a\0b' }), 'null characters'],
    ['a name with terminal escapes', jobValue({}, { Name: 'a\u001b[2J' }), 'cannot be shown: "a\\u001b[2J"'],
    ['a name that runs right to left', jobValue({}, { Name: 'a\u202eb' }), 'cannot be shown'],
    ['a blank name', jobValue({}, { Name: '   ' }), 'must not be blank'],
    ['a label that is not one', jobValue({}, { Labels: { a: '$(rm -rf /)' } }), 'is not a label value'],
    ['an unknown field', jobValue({ Enviroment: {} }), 'unknown field "Enviroment"'],
    ['a field given twice', { ...(jobValue() as object), type: 'ops' }, 'Type is given twice'],
    ['an image without name', jobValue({ Engine: { Type: 'docker' } }), 'missing Image'],
    [
      'an image with ..',
      jobValue({ Engine: { Type: 'docker', Params: { Image: 'evil/../x' } } }),
      'invalid image reference',
    ],
    [
      'an environment entry without =',
      jobValue({ Engine: { Type: 'docker', Params: { Image: 'a', EnvironmentVariables: ['A'] } } }),
      'must be NAME=VALUE',
    ],
    [
      'a relative working directory',
      jobValue({ Engine: { Type: 'docker', Params: { Image: 'a', WorkingDirectory: 'x' } } }),
      'path must be absolute',
    ],
    ['wasm without module', jobValue({ Engine: { Type: 'wasm' } }), 'missing EntryModule'],
    ['HTTP without domains', jobValue({ Network: { Type: 'HTTP' } }), 'at least one domain is required'],
    [
      'domains without HTTP',
      jobValue({ Network: { Type: 'Full', Domains: ['example.com'] } }),
      'domains can only be set',
    ],
    [
      'domains without network',
      jobValue({ Network: { Domains: ['example.com'] } }),
      'domains can only be set',
    ],
    [
      'a network type that is a number',
      jobValue({ Network: { Type: 2 } }),
      'must be text, found the number 2',
    ],
    ['a domain outside the grammar', jobValue({ Network: { Type: 'HTTP', Domains: ['*com'] } }), '*com'],
    [
      'an outbound URL without scheme',
      jobValue({ Network: { Type: 'HTTP', OutboundURLs: ['ipfs.io'] } }),
      'it has no scheme',
    ],
    [
      'an outbound URL with a path',
      jobValue({ Network: { Type: 'HTTP', OutboundURLs: ['https://ipfs.io/ipfs/x'] } }),
      'it has a path',
    ],
    ['a domain that is not text', jobValue({ Network: { Type: 'HTTP', Domains: [7] } }), 'must be text'],
    [
      'two inputs at one place',
      jobValue({
        InputSources: [1, 2].map(() => ({
          Source: { Type: 'urlDownload', Params: { URL: 'http://h/x' } },
          Target: '/inputs',
        })),
      }),
      'target /inputs already exists',
    ],
    [
      'an output over an input',
      jobValue({
        InputSources: [{ Source: { Type: 'urlDownload', Params: { URL: 'http://h/x' } }, Target: '/d/' }],
        ResultPaths: [{ Name: 'd', Path: '//d' }],
      }),
      'result path /d already exists',
    ],
    [
      'a result named like the output of the program',
      jobValue({ ResultPaths: [{ Name: 'stdout', Path: '/x' }] }),
      'is taken',
    ],
    [
      'a result name that climbs',
      jobValue({ ResultPaths: [{ Name: '..', Path: '/x' }] }),
      'one path segment',
    ],
    [
      'a result path that climbs',
      jobValue({ ResultPaths: [{ Name: 'x', Path: '/a/../etc' }] }),
      '"." or ".."',
    ],
    [
      'an input over /proc',
      jobValue({ InputSources: [{ Source: { Type: 'x' }, Target: '/proc/1' }] }),
      'below /proc',
    ],
    [
      'a URL that is no URL',
      jobValue({
        InputSources: [{ Source: { Type: 'urlDownload', Params: { URL: 'ftp://x/y' } }, Target: '/x' }],
      }),
      'invalid URL',
    ],
    [
      'a URL without path',
      jobValue({
        InputSources: [{ Source: { Type: 'urlDownload', Params: { URL: 'http://x' } }, Target: '/x' }],
      }),
      'URL must have a path',
    ],
    [
      'inline data that is no data URL',
      jobValue({
        InputSources: [{ Source: { Type: 'inline', Params: { URL: 'data:;base64,###' } }, Target: '/x' }],
      }),
      'cannot be decoded',
    ],
    [
      'a local path that climbs',
      jobValue({
        InputSources: [
          { Source: { Type: 'localDirectory', Params: { SourcePath: '/a/../b' } }, Target: '/x' },
        ],
      }),
      'must not contain ".."',
    ],
    [
      'an S3 publisher without key',
      jobValue({ Publisher: { Type: 's3', Params: { Bucket: 'b' } } }),
      'missing Key',
    ],
    ['parameters without type', jobValue({ Publisher: { Params: { a: 1 } } }), 'parameters without a type'],
    ['a reserved environment name', jobValue({ Env: { WEIR_JOB_ID: 'x' } }), 'reserved prefix WEIR_'],
    ['an environment name with =', jobValue({ Env: { 'A=B': 'x' } }), 'invalid environment variable name'],
    ['a fraction of a second', jobValue({ Timeouts: { TotalTimeout: 1.5 } }), 'must be a whole number'],
  ])('refuses %s', (_what, value, words) => {
    expect(refusal(() => parseJobSpec(value)).message).toContain(words)
  })

  it('names the nearest known field', () => {
    expect(problemsOf(jobValue({ Netwrok: {} }))[0]).toMatchObject({
      path: 'Tasks[0].Netwrok',
      hint: 'Did you mean "Network"?',
    })
  })

  it('reports the other mistakes also when type and engine are missing', () => {
    expect(complaints({ Tasks: [{ Name: 'a', Network: { Type: 'HTTP' } }] })).toEqual([
      'Type: missing job type',
      'Tasks[0].Engine: nil spec config',
      'Tasks[0].Network: at least one domain is required when HTTP networking is enabled',
    ])
  })

  it('asks that timeouts fit into the total, once defaults are in', () => {
    const value = jobValue({ Timeouts: { ExecutionTimeout: 50, QueueTimeout: 20, TotalTimeout: 60 } })
    expect(complaints(value, { defaults: {} })[0]).toContain(
      'execution and queue timeout should be less than total timeout',
    )
  })
})

describe('bounds', () => {
  it.each<[string, unknown, string]>([
    ['an argument of 2 MB', { Image: 'a', Parameters: ['x'.repeat(2_000_000)] }, 'characters long'],
    [
      'an argument of 200 KiB',
      { Image: 'a', Parameters: ['x'.repeat(200 * 1024)] },
      'less than 131072 are allowed',
    ],
    [
      '10 MB of arguments',
      { Image: 'a', Parameters: Array.from({ length: 100 }, () => 'x'.repeat(100_000)) },
      'in all',
    ],
    [
      '10,000 environment entries',
      { Image: 'a', EnvironmentVariables: Array.from({ length: 10_000 }, (_, i) => `A${i}=1`) },
      'at most 1000',
    ],
    ['an environment name with NUL', { Image: 'a', EnvironmentVariables: ['A\0=1'] }, 'null characters'],
  ])('refuses %s', (_what, Params, words) => {
    expect(refusal(() => parseJobSpec(jobValue({ Engine: { Type: 'docker', Params } }))).message).toContain(
      words,
    )
  })

  it('refuses 10,001 domains and reports at most 100 mistakes', () => {
    const domains = (count: number, name: string): unknown =>
      jobValue({ Network: { Type: 'HTTP', Domains: Array.from({ length: count }, (_, i) => `${name}${i}`) } })
    expect(refusal(() => parseJobSpec(domains(10_001, 'a.example')))).toMatchObject({
      message: expect.stringContaining('at most 10000 are allowed') as string,
    })
    const error = refusal(() => parseJobSpec(domains(500, '*bad')))
    expect(error.details.problems).toHaveLength(100)
    expect(error.message).toContain('and 400 more')
  })

  it('bounds the parameters of unknown engines', () => {
    let deep: unknown = 1
    for (let level = 0; level < 1000; level++) deep = [deep]
    expect(complaints(jobValue({ Engine: { Type: 'x', Params: { deep } } }))[0]).toContain(
      'nested too deeply',
    )
  })

  it('treats __proto__ as a key like any other', () => {
    const value = JSON.parse('{"Type":"batch","__proto__":{"Type":"ops"},"Tasks":[]}') as unknown
    expect(complaints(value)[0]).toContain('unknown field "__proto__"')
    const labels = JSON.parse('{"__proto__":"x"}') as unknown
    expect(complaints(jobValue({}, { Labels: labels }))[0]).toContain('is not a label key')
  })
})

describe('the docker engine', () => {
  it.each([
    'alpine',
    'alpine:3.20',
    'registry.example.net/org/tool_a/b-c.d:v1',
    'localhost:5000/x',
    '[::1]:5000/x:y',
    `busybox@sha256:${'a'.repeat(64)}`,
    `sha256:${'0'.repeat(64)}`,
  ])('accepts the image %s', (Image) => {
    expect(
      dockerEngine(task(parsed(jobValue({ Engine: { Type: 'docker', Params: { Image } } })))).Image,
    ).toBe(Image)
  })

  it.each([
    'Alpine',
    'a//b',
    '/a',
    'a/',
    'a:',
    'a b',
    'a@sha256:12',
    '../a',
    'a/.',
    '-a',
    'http://a/b',
    'a:b:c',
    'é',
  ])('refuses the image %s', (Image) => {
    expect(complaints(jobValue({ Engine: { Type: 'docker', Params: { Image } } }))[0]).toContain(
      'invalid image reference',
    )
  })

  it('has null for an entry point that is left to the image', () => {
    expect(dockerEngine(task(parsed(jobValue())))).toEqual({
      Image: 'alpine:3.20',
      Entrypoint: null,
      Parameters: [],
      EnvironmentVariables: [],
      WorkingDirectory: '',
    })
  })
})

describe('the wasm engine', () => {
  const inline = { Type: 'inline', Params: { URL: 'data:application/wasm;base64,AGFzbQEAAAA=' } }
  const wasm = (Params: unknown, rest: Record<string, unknown> = {}): unknown =>
    jobValue({ Engine: { Type: 'wasm', Params }, ...rest })

  it('takes modules as input sources', () => {
    const spec = parsed(
      wasm({ EntryModule: { Source: inline }, ImportModules: [{ Source: inline, Alias: 'math' }] }),
    )
    expect(wasmEngine(task(spec))).toEqual({
      EntryModule: { Source: inline, Alias: '', Target: '/wasm/entry.wasm' },
      EntryPoint: '_start',
      Parameters: [],
      EnvironmentVariables: {},
      ImportModules: [{ Source: inline, Alias: 'math', Target: '/wasm/imports/module_0.wasm' }],
    })
  })

  it('takes modules as paths among the inputs', () => {
    const inputs = [
      { Source: inline, Alias: 'm', Target: '/app/main.wasm' },
      { Source: { Type: 'localDirectory', Params: { SourcePath: '/lib' } }, Target: '/lib' },
    ]
    const spec = parsed(
      wasm({ EntryModule: '/app/main.wasm', ImportModules: ['/lib/a.wasm'] }, { InputSources: inputs }),
    )
    const { EntryModule, ImportModules } = wasmEngine(task(spec))
    expect(EntryModule).toEqual({ Source: inline, Alias: 'm', Target: '/app/main.wasm' })
    expect(ImportModules[0]).toMatchObject({ Source: { Type: 'localDirectory' }, Target: '/lib/a.wasm' })
  })

  it('refuses a path that no input provides', () => {
    expect(complaints(wasm({ EntryModule: '/x.wasm' }))).toEqual([
      'Tasks[0].Engine.Params.EntryModule: no input source provides the module /x.wasm',
    ])
  })

  it('says once that a relative path is no path in the job: a job file sends no files along', () => {
    expect(complaints(wasm({ EntryModule: './x.wasm' }))).toEqual([
      'Tasks[0].Engine.Params.EntryModule: path must be absolute: "./x.wasm"',
    ])
  })
})

describe('parsing as algebra', () => {
  it('is idempotent', () => {
    const inline = { Type: 'inline', Params: { URL: 'data:,x' } }
    const samples = [
      SAMPLE,
      jobValue(),
      jobValue({ Engine: { Type: 'wasm', Params: { EntryModule: { Source: inline } } } }),
      jobValue(
        { Network: { Type: 'full' }, Resources: { Memory: '1 Gi' }, Publisher: { Type: 'NOOP' } },
        { Type: 'daemon' },
      ),
    ]
    for (const sample of samples) {
      const once = parseJobSpec(sample, { defaults: STOCK_JOB_DEFAULTS }).spec
      expect(parseJobSpec(once, { defaults: STOCK_JOB_DEFAULTS })).toEqual({
        spec: once,
        warnings: [],
        presets: [],
      })
      expect(parseJobSpec(JSON.parse(JSON.stringify(once)))).toEqual({
        spec: once,
        warnings: [],
        presets: [],
      })
    }
  })

  it('is idempotent on jobs made by chance', () => {
    const name = fc.stringMatching(/^[A-Za-z][A-Za-z0-9]{0,8}$/)
    const job = fc.record({
      name: fc.option(name),
      TYPE: fc.constantFrom('batch', 'Ops', 'SERVICE', 'daemon'),
      Count: fc.option(fc.nat(100)),
      labels: fc.dictionary(name, name),
      Tasks: fc.tuple(
        fc.record({
          name,
          Engine: fc.oneof(
            fc.record({
              type: fc.constant('docker'),
              params: fc.record({
                image: fc.constant('a/b:c'),
                parameters: fc
                  .array(fc.string())
                  .map((list) => list.map((item) => item.replaceAll('\0', ''))),
              }),
            }),
            fc
              .record({ type: name, params: fc.option(fc.dictionary(name, fc.jsonValue({ maxDepth: 3 }))) })
              .filter(({ type }) => !['docker', 'wasm', 'noop'].includes(type.toLowerCase())),
          ),
          env: fc.dictionary(name, name),
          resources: fc.record({
            cpu: fc.oneof(fc.nat(64), fc.constant('500m')),
            memory: fc.constantFrom('1 gb', '512Mi', null),
          }),
          network: fc.oneof(
            fc.constant({ type: 'HTTP', domains: ['A.example.com', '.b.org'] }),
            fc.constant({ Type: 'none' }),
            fc.constant(null),
          ),
        }),
      ),
    })
    fc.assert(
      fc.property(job, (value) => {
        const once = parseJobSpec(value).spec
        expect(parseJobSpec(once).spec).toEqual(once)
      }),
      { numRuns: 200 },
    )
  })

  it('throws nothing but WeirError, whatever the value', () => {
    const keys = fc.constantFrom(
      'Type',
      'tasks',
      'Tasks',
      'Name',
      'Engine',
      'Params',
      'Image',
      'Network',
      'Domains',
      'InputSources',
      'Source',
      'Target',
      'ResultPaths',
      'Constraints',
      'Key',
      'Operator',
      'Values',
      'Publisher',
      'EntryModule',
      'ImportModules',
      'Resources',
      'CPU',
      'Timeouts',
      'Labels',
      'Count',
      '__proto__',
      'x',
    )
    const leaf = fc.oneof(
      fc.string(),
      fc.double(),
      fc.boolean(),
      fc.constant(null),
      fc.constantFrom('batch', 'docker', 'wasm', 'HTTP', 'urlDownload', '/x', 'in'),
    )
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 6 },
        leaf,
        fc.array(tie('tree'), { maxLength: 4 }),
        fc
          .array(fc.tuple(keys, tie('tree')), { maxLength: 6 })
          .map((entries) => Object.fromEntries(entries) as unknown),
      ),
    }))
    const plausible = fc.record({
      Type: fc.constant('batch'),
      Tasks: fc.array(tree, { maxLength: 2 }),
      Labels: tree,
      Constraints: tree,
    })
    fc.assert(
      fc.property(fc.oneof(tree, plausible, fc.jsonValue()), fc.boolean(), (value, isLenient) => {
        try {
          parseJobSpec(
            value,
            isLenient ? { unknownFields: 'warn', serverFields: 'warn', defaults: STOCK_JOB_DEFAULTS } : {},
          )
        } catch (error) {
          expect(error).toBeInstanceOf(WeirError)
        }
      }),
      { numRuns: 1000 },
    )
  })
})

describe('the JSON schema', () => {
  it('is plain JSON and names every field of the specification', () => {
    const schema = jobJsonSchema()
    expect(JSON.parse(JSON.stringify(schema))).toEqual(schema)
    expect(Object.keys(schema.properties as object)).toEqual(Object.keys(parsed(jobValue())))
    const tasks = (schema.properties as { Tasks: { items: { properties: object } } }).Tasks
    expect(Object.keys(tasks.items.properties)).toEqual(Object.keys(task(parsed(jobValue()))))
  })
})
