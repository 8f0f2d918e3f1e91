import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  judgeSignatures,
  signatureError,
  signJob,
  vouchingKeys,
  withSignature,
  writeTime,
} from '../../src/model/job-signature.js'
import type { JobSpec } from '../../src/model/job-spec.js'
import { keyPairOf, keyPairOfPem, pemOfSeed } from '../../src/model/key-pair.js'
import { complaints, jobValue, parsed, refusal } from './job-fixture.js'

const KEY = keyPairOf(new Uint8Array(32).fill(7))
const OTHER = keyPairOf(new Uint8Array(32).fill(8))
const START = Date.parse('2026-01-31T12:00:00Z')
const TERMS = { notBeforeMs: START, expiresMs: START + 3_600_000 }
const DIGEST = `sha256:${'ab'.repeat(32)}`

const DOCKER = {
  Engine: {
    Type: 'docker',
    Params: {
      Image: `example.com/tool@${DIGEST}`,
      Entrypoint: ['/bin/tool'],
      Parameters: ['--fast', 'x'],
      EnvironmentVariables: ['A=1'],
      WorkingDirectory: '/work',
    },
  },
  Env: { B: '2' },
  InputSources: [
    {
      Source: { Type: 'urlDownload', Params: { URL: 'https://example.com/a', SHA256: 'cd'.repeat(32) } },
      Target: '/in/a',
    },
  ],
  ResultPaths: [{ Name: 'out', Path: '/out' }],
  Network: {
    Type: 'HTTP',
    Domains: ['.example.com', 'www.example.org:8443'],
    Limits: { BytesUpMax: '1mb', RequestsPerSecond: 5 },
  },
}
const MODULE = { Source: { Type: 'blob', Params: { CID: cid() } } }
const WASM = {
  ...DOCKER,
  Engine: {
    Type: 'wasm',
    Params: {
      EntryModule: MODULE,
      ImportModules: [{ Source: { Type: 'inline', Params: { URL: 'data:,abc' } } }],
      EntryPoint: 'run',
      Parameters: ['x'],
      EnvironmentVariables: { A: '1' },
    },
  },
}

/** A CID of raw content. */
function cid(): string {
  return 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy'
}

function job(task: Record<string, unknown> = DOCKER, more: Record<string, unknown> = {}): JobSpec {
  return parsed(jobValue(task, more))
}

function signed(spec = job(), key = KEY, terms: Parameters<typeof signJob>[2] = TERMS): JobSpec {
  return withSignature(spec, signJob(spec, key, terms))
}

/** What is wrong with each signature; undefined for those that hold. */
function faults(spec: JobSpec, nowMs = START): (string | undefined)[] {
  return judgeSignatures(spec, nowMs).map(({ fault }) => fault && `${fault.code}: ${fault.message}`)
}

/** Every place of a value where text, a number or nothing stands, as a copy with another value there. */
function* altered(value: unknown): Iterable<unknown> {
  if (typeof value === 'string') yield `${value}0`
  else if (typeof value === 'number') yield value + 1
  else if (Array.isArray(value)) {
    if (value.length > 0) yield value.slice(1)
    if (value.length > 1) yield value.toReversed()
    for (const [index, item] of value.entries())
      for (const other of altered(item)) yield value.with(index, other)
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      const { [key]: _gone, ...rest } = value as Record<string, unknown>
      yield rest
      for (const other of altered(item)) yield { ...value, [key]: other }
    }
  }
}

/** The same value with the keys of its objects in another order. */
function shuffled(value: unknown, turn: number): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffled(item, turn))
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([key, item]) => [key, shuffled(item, turn)] as const)
  const at = turn % Math.max(1, entries.length)
  return Object.fromEntries([...entries.slice(at), ...entries.slice(0, at)].toReversed())
}

describe('a signature of a job', () => {
  it.each([
    ['docker', DOCKER],
    ['wasm', WASM],
  ])('breaks with any change of what a %s job runs and may reach', (_engine, task) => {
    const spec = signed(job(task))
    expect(faults(spec)).toEqual([undefined])
    const [of] = spec.Tasks
    const { Signatures, ...network } = of.Network
    const covered = {
      Engine: of.Engine,
      Env: of.Env,
      InputSources: of.InputSources,
      ResultPaths: of.ResultPaths,
      Network: network,
    }
    let count = 0
    for (const [name, value] of Object.entries(covered)) {
      for (const other of altered(value)) {
        const change = name === 'Network' ? { ...(other as object), Signatures } : other
        const changed = { ...spec, Tasks: [{ ...of, [name]: change }] } as unknown as JobSpec
        // The order of domains means nothing.
        if (name === 'Network' && isReordered(network.Domains, (other as typeof network).Domains)) continue
        const found = faults(changed)
        expect(found, `${name}: ${JSON.stringify(other)}`).not.toEqual([undefined])
        count++
      }
    }
    expect(count).toBeGreaterThan(40)
    expect(faults({ ...spec, Type: 'ops' })).toEqual([expect.stringContaining('the job type or count')])
    expect(faults({ ...spec, Count: 2 })).toEqual([expect.stringContaining('the job type or count')])
  })

  it('does not depend on the order of fields, nor on what a server fills in', () => {
    const spec = signed()
    fc.assert(
      fc.property(fc.nat(12), (turn) => {
        const again = parsed(shuffled(JSON.parse(JSON.stringify(spec)), turn), {
          defaults: {
            batch: {
              priority: 3,
              resources: { CPU: '2', Memory: '1gb' },
              publisher: { Type: 'local' },
              timeouts: { TotalTimeout: 60 },
            },
          },
        })
        expect(faults({ ...again, Name: 'j-1', Labels: { a: 'b' }, Meta: { c: 'd' } })).toEqual([undefined])
      }),
      { numRuns: 13 },
    )
  })

  it('breaks with any change of itself', () => {
    const spec = signed(job(), KEY, { ...TERMS, namespace: 'default' })
    const [of] = spec.Tasks
    const [signature] = of.Network.Signatures ?? []
    for (const other of altered(signature)) {
      const Network = { ...of.Network, Signatures: [other] }
      const changed = { ...spec, Tasks: [{ ...of, Network }] } as unknown as JobSpec
      expect(faults(changed), JSON.stringify(other)).not.toEqual([undefined])
    }
  })

  it('says which part differs, when it expired, and where it is good', () => {
    const spec = signed(job(), KEY, { ...TERMS, namespace: 'default' })
    const image = { ...DOCKER.Engine.Params, Image: 'example.com/tool:latest' }
    const tagged = job({ ...DOCKER, Engine: { Type: 'docker', Params: image } })
    const moved = withSignature(tagged, spec.Tasks[0].Network.Signatures![0]!)
    expect(faults(moved)).toEqual([
      expect.stringMatching(/^signature.invalid: .*"example.com\/tool:latest" is named by a tag/),
    ])
    const params = { ...DOCKER.Engine.Params, Parameters: ['--slow'] }
    const other = job({ ...DOCKER, Env: {}, Engine: { Type: 'docker', Params: params } })
    expect(faults(withSignature(other, spec.Tasks[0].Network.Signatures![0]!))).toEqual([
      expect.stringContaining('what differs is the command, the environment'),
    ])
    expect(faults({ ...spec, Namespace: 'research' })).toEqual([expect.stringContaining('"default"')])
    expect(faults(spec, TERMS.expiresMs - 1)).toEqual([undefined])
    expect(faults(spec, TERMS.expiresMs)).toEqual([
      `signature.expired: The signature of ${KEY.publicKey} expired at 2026-01-31T13:00:00Z`,
    ])
    // Clocks differ a little; an expiry knows no grace.
    expect(faults(spec, START - 60_000)).toEqual([undefined])
    expect(faults(spec, START - 3_600_000)).toEqual([
      expect.stringMatching(/^signature.expired: .* from 2026/),
    ])
  })

  it('that expired still says until when its key vouched, others that do not hold say nothing', () => {
    const at = (nowMs: number, spec = signed()) => vouchingKeys(judgeSignatures(spec, nowMs), nowMs)
    const vouches = [{ key: KEY.publicKey, untilMs: TERMS.expiresMs }]
    expect(at(START)).toEqual(vouches)
    expect(at(TERMS.expiresMs)).toEqual(vouches)
    expect(at(START - 3_600_000)).toEqual([])
    expect(at(TERMS.expiresMs, { ...signed(), Count: 2 })).toEqual([])
  })

  it('is made only for what says exactly what runs, with every reason at once', () => {
    const loose = job({
      ...DOCKER,
      Engine: { Type: 'docker', Params: { Image: 'busybox:1.36' } },
      InputSources: [
        { Source: { Type: 'urlDownload', Params: { URL: 'https://example.com/a' } }, Target: '/in/a' },
      ],
    })
    const terms = { notBeforeMs: START, expiresMs: START + 400 * 24 * 3_600_000, namespace: 'other' }
    const { code, details } = refusal(() => signJob(loose, KEY, terms))
    expect(code).toBe('signature.invalid')
    expect(details.reasons).toEqual([
      expect.stringContaining('more than 366 days'),
      expect.stringContaining('"busybox:1.36" is named by a tag'),
      expect.stringContaining('--unpinned-inputs'),
      expect.stringContaining('"other"'),
    ])
    expect(refusal(() => signJob(job({ Network: { Type: 'None' } }), KEY, TERMS)).message).toContain(
      'network None',
    )
    const byUrl = { Source: { Type: 'urlDownload', Params: { URL: 'https://example.com/a.wasm' } } }
    const engine = { Type: 'wasm', Params: { EntryModule: byUrl } }
    expect(refusal(() => signJob(job({ ...DOCKER, Engine: engine }), KEY, TERMS)).message).toContain(
      'a module',
    )
  })

  it('stands beside those of others, and replaces an earlier one of the same key', () => {
    const twice = signed(signed(signed()), OTHER)
    expect(faults(twice)).toEqual([undefined, undefined])
    const later = signed(twice, KEY, { ...TERMS, expiresMs: TERMS.expiresMs + 60_000 })
    expect(judgeSignatures(later, START).map(({ key, expiresMs }) => [key, writeTime(expiresMs)])).toEqual([
      [OTHER.publicKey, '2026-01-31T13:00:00Z'],
      [KEY.publicKey, '2026-01-31T13:01:00Z'],
    ])
  })

  it('is refused as part of a job when it cannot be one', () => {
    const { Network } = JSON.parse(JSON.stringify(signed().Tasks[0])) as { Network: { Signatures: object[] } }
    const wrong = { ...Network.Signatures[0], Key: 'U1', Expires: '2026-02-30T00:00:00Z', More: 1 }
    expect(complaints(jobValue({ ...DOCKER, Network: { ...Network, Signatures: [wrong] } }))).toEqual([
      expect.stringContaining('Signatures[0].More: unknown'),
      expect.stringContaining('Signatures[0].Key: "U1" is no public key'),
      expect.stringContaining('Signatures[0].Expires: "2026-02-30T00:00:00Z" is no time'),
    ])
    const without = { Type: 'None', Signatures: Network.Signatures }
    expect(complaints(jobValue({ Network: without }))).toEqual([
      expect.stringContaining('signatures can only be set for HTTP network mode'),
    ])
  })

  it.each([
    ['nothing', {}],
    ['no network', { Tasks: [{}] }],
    ['signatures that are a text', changedNetwork({ Signatures: 'signed' })],
    ['signatures that are nothing', changedNetwork({ Signatures: [null] })],
    ['too many signatures', changedNetwork({ Signatures: Array(9).fill(network().Signatures?.[0]) })],
    ['hosts that are a number', changedNetwork({ Domains: 7 })],
    [
      'parts that are nothing',
      changedNetwork({ Signatures: [{ ...network().Signatures?.[0], Parts: null }] }),
    ],
    [
      'a key that is no text',
      changedNetwork({ Signatures: [{ ...network().Signatures?.[0], Key: { toString: 1 } }] }),
    ],
    ['inputs that are none', changedTask({ InputSources: [{}] })],
    ['inputs that are nothing', changedTask({ InputSources: null })],
    ['an image that is none', changedTask({ Engine: { Type: 'docker', Params: { Image: {} } } })],
    ['no module', changedTask({ Engine: { Type: 'wasm' } })],
    ['no engine', changedTask({ Engine: null })],
  ])('is refused with a reason in what an orchestrator hands on that is no job: %s', (_what, spec) => {
    const verdicts = judgeSignatures(spec as unknown as JobSpec, START)
    expect(verdicts.length).toBe(1)
    expect(signatureError(verdicts)).toMatchObject({ code: 'signature.invalid' })
  })

  it('is not made for, and does not hold for, an input by URL whose file the server would name', () => {
    const withUrl = (URL: string) => {
      const Source = { Type: 'urlDownload', Params: { URL, SHA256: 'cd'.repeat(32) } }
      return job({ ...DOCKER, InputSources: [{ Source, Target: '/in' }] })
    }
    const named = 'https://example.com/data.csv?part=1'
    expect(faults(signed(withUrl(named)))).toEqual([undefined])
    for (const nameless of [
      'https://example.com/',
      'https://example.com/data/',
      'https://example.com/data/%2e%2e/?a.csv',
    ]) {
      for (const unpinnedInputs of [false, true])
        expect(() => signJob(withUrl(nameless), KEY, TERMS, { unpinnedInputs })).toThrow(
          /"\/in" names no file/,
        )
      // As one who signs with something else could: what is judged is the same on the node.
      const [of] = signed(withUrl(named)).Tasks
      const [only] = withUrl(nameless).Tasks
      const other = { ...withUrl(nameless), Tasks: [{ ...only, Network: of.Network }] } as JobSpec
      expect(faults(other)).toEqual([
        expect.stringContaining('cannot hold: the URL of the input at "/in" names no file'),
      ])
    }
  })
})

it('reads private keys in PEM, and says nothing of what it could not read', () => {
  const pem = pemOfSeed(new Uint8Array(32).fill(7))
  expect(keyPairOfPem(pem).publicKey).toBe(KEY.publicKey)
  const { code, message, cause } = refusal(() => keyPairOfPem(pem.replace('MC4', 'secret')))
  expect({ code, message, cause }).toEqual({
    code: 'key.invalid',
    message: 'The file holds no private Ed25519 key',
    cause: undefined,
  })
})

function isReordered(a: readonly string[], b: readonly string[] | undefined): boolean {
  return JSON.stringify(a.toSorted()) === JSON.stringify(b?.toSorted())
}

function network(): JobSpec['Tasks'][0]['Network'] {
  return signed().Tasks[0].Network
}

function changedTask(change: object): object {
  const spec = signed()
  return { ...spec, Tasks: [{ ...spec.Tasks[0], ...change }] }
}

function changedNetwork(change: object): object {
  return changedTask({ Network: { ...network(), ...change } })
}
