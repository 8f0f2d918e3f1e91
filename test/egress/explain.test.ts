import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  compileJobRules,
  compileNodeRules,
  decideHost,
  type EgressRequest,
  type EgressRules,
  explainRequests,
} from '../../src/egress/index.js'
import {
  HostPatternSet,
  parseHostPattern,
  readDestination,
  readHost,
  uncoveredPatterns,
} from '../../src/model/index.js'
import type { NodeEgressPolicy } from '../../src/ports/index.js'

const HOSTS = [
  'a.test',
  'b.a.test',
  'c.b.a.test',
  'z.test',
  'data.internal',
  'localhost',
  'host.docker.internal',
  'weir.test',
  '93.184.216.77',
  '10.9.9.9',
  '10.9.9.1',
  '127.0.0.1',
  '169.254.169.254',
  '2606:2800::10',
  '::1',
]
const PORTS = [80, 443, 8443, 25]

const pattern = fc
  .tuple(
    fc.constantFrom('', 'http://', 'https://'),
    fc.constantFrom('a.test', '.a.test', '*.a.test', 'b.a.test', '.test', '93.184.216.77', 'data.internal'),
    fc.constantFrom('', ':8443', ':25'),
  )
  .map((parts) => parts.join(''))
const list = fc.array(pattern, { maxLength: 4 })
const policy: fc.Arbitrary<NodeEgressPolicy> = fc.record(
  {
    mode: fc.constantFrom('none' as const, 'list' as const, 'all' as const),
    allow: list,
    deny: list,
    network: list,
    networkDeny: list,
    privateExceptions: fc.subarray(['10.9.9.9:8443', 'data.internal:80', '127.0.0.1:8443']),
    self: fc.constant(['weir.test']),
  },
  { requiredKeys: ['allow', 'deny', 'privateExceptions', 'self'] },
)
const request: fc.Arbitrary<EgressRequest> = fc
  .tuple(
    fc.constantFrom('http' as const, 'connect' as const),
    fc.constantFrom(...HOSTS),
    fc.constantFrom(...PORTS),
  )
  .map(([kind, text, port]) => ({ kind, port, host: hostOf(text) }))

function hostOf(text: string): EgressRequest['host'] {
  const reading = readHost(text.includes(':') ? `[${text}]` : text)
  if (!reading.ok) throw new Error('the test is wrong')
  return reading.host
}

function rulesOf(domains: readonly string[], node: NodeEgressPolicy): EgressRules {
  return {
    mode: 'http',
    job: compileJobRules({ allow: [...domains] }),
    node: compileNodeRules(node, 1),
    ownAddresses: new Set(['10.9.9.1']),
  }
}

describe('for any policy and request', () => {
  it('the explanation is the decision (row N-17): same verdict, code, owner and rule, the decision first', () => {
    fc.assert(
      fc.property(list, policy, request, (domains, node, asked) => {
        const rules = rulesOf(domains, node)
        const scheme = asked.kind === 'http' ? 'http' : 'https'
        const question = { host: asked.host.text, services: [{ scheme, port: asked.port } as const], domains }
        const [verdict] = explainRequests(question, rules)
        const decision = decideHost(asked, rules)
        expect(verdict).toMatchObject({
          ...decision,
          ...(decision.allowed ? { code: '', objections: [] } : {}),
        })
        if (!decision.allowed) {
          const { code, owner, rule } = decision
          expect(verdict?.objections[0]).toMatchObject({ code, owner, rule })
        }
      }),
      { numRuns: 3_000 },
    )
  })

  it('what is allowed is in the list of the job, of the node and of the network, and nobody denies it', () => {
    fc.assert(
      fc.property(list, policy, request, (domains, node, asked) => {
        if (!decideHost(asked, rulesOf(domains, node)).allowed) return
        const scheme = asked.kind === 'http' ? 'http' : 'https'
        const { text } = asked.host
        const options = { allowPrivate: true, allowPublicSuffix: true }
        const holds = (texts: readonly string[]) =>
          HostPatternSet.parse(texts, options).match(text, asked.port, scheme) !== undefined
        const denies = (texts: readonly string[]) =>
          HostPatternSet.parse(texts, { ...options, portlessMeans: 'any' }).match(text, asked.port) !==
          undefined
        expect(holds(domains)).toBe(true)
        const byNode = node.mode === 'all' || (node.mode !== 'none' && holds(node.allow))
        expect(byNode || holds(node.privateExceptions)).toBe(true)
        expect(node.network === undefined || holds(node.network)).toBe(true)
        expect(denies(node.deny) || denies(node.networkDeny ?? [])).toBe(false)
        expect(['weir.test', '10.9.9.1']).not.toContain(text)
        expect(asked.port).not.toBe(25)
      }),
      { numRuns: 3_000 },
    )
  })

  it('what placement proves to be covered is never refused by a list of the node or the network', () => {
    fc.assert(
      fc.property(pattern, policy, request, (domain, node, asked) => {
        const scheme = asked.kind === 'http' ? 'http' : 'https'
        const one = parseHostPattern(domain, { allowPrivate: true, allowPublicSuffix: true })
        if (new HostPatternSet([one]).match(asked.host.text, asked.port, scheme) === undefined) return
        const { allow, deny, network, networkDeny, privateExceptions } = compileNodeRules(node, 1)
        const offering = {
          allow: allow.isEverything
            ? allow
            : new HostPatternSet([...allow.patterns, ...privateExceptions.patterns]),
          deny,
          network,
          networkDeny,
        }
        if (uncoveredPatterns([one], offering).length > 0) return
        const decision = decideHost(asked, rulesOf([domain], node))
        // A part of what is covered may be denied, is never reached by mail's port, is no host of the internet, or is
        // the network itself.
        if (!decision.allowed)
          expect([
            'egress.denied_by_operator',
            'egress.private_address',
            'egress.port',
            'egress.self',
          ]).toContain(decision.code)
        if (!decision.allowed && decision.code === 'egress.self')
          expect(['weir.test', '10.9.9.1']).toContain(asked.host.text)
        if (!decision.allowed && decision.code === 'egress.port') expect(asked.port).toBe(25)
      }),
      { numRuns: 3_000 },
    )
  })
})

describe('schemes are enforced', () => {
  const decide = (
    kind: 'http' | 'connect',
    port: number,
    domain: string,
    node: Partial<NodeEgressPolicy>,
  ) => {
    const rules = rulesOf([domain], { allow: [], deny: [], privateExceptions: [], self: [], ...node })
    const decision = decideHost({ kind, port, host: hostOf('a.test') }, rules)
    return decision.allowed ? `by ${decision.rule}` : `${decision.code} ${decision.owner}`
  }

  it.each([
    ['connect', 443, 'https://a.test', ['a.test'], 'by https://a.test'],
    ['http', 80, 'https://a.test', ['a.test'], 'egress.port job'],
    ['http', 80, 'a.test', ['https://a.test'], 'egress.port node'],
    ['connect', 8443, 'https://a.test:8443', ['a.test:8443'], 'by https://a.test:8443'],
    ['http', 8443, 'https://a.test:8443', ['a.test:8443'], 'egress.port job'],
    ['http', 8443, 'a.test:8443', ['https://a.test:8443'], 'egress.port node'],
    ['http', 443, 'a.test:443', ['a.test:443'], 'egress.port job'],
  ] as const)(
    '%s to port %i of a job with %s on a node with %s: %s',
    (kind, port, domain, allow, expected) => {
      expect(decide(kind, port, domain, { allow: [...allow] })).toBe(expected)
    },
  )

  it('mode all opens every public host that the job names and nothing that is denied, private or the network itself', () => {
    expect(decide('connect', 443, '.test', { mode: 'all' })).toBe('by .test')
    expect(decide('connect', 443, '.test', { mode: 'all', deny: ['a.test'] })).toBe(
      'egress.denied_by_operator node',
    )
    expect(decide('connect', 443, '.test', { mode: 'all', networkDeny: ['a.test'] })).toBe(
      'egress.denied_by_operator network',
    )
    expect(decide('connect', 443, '.test', { mode: 'all', self: ['a.test'] })).toBe('egress.self gateway')
    expect(decide('connect', 443, '.test', { mode: 'none', allow: ['a.test'] })).toBe(
      'egress.not_in_node_list node',
    )
    expect(decide('connect', 443, '.test', { mode: 'all', network: [] })).toBe(
      'egress.not_in_network_list network',
    )
  })
})

describe('what would change a refusal', () => {
  const changes = (text: string, privateExceptions: string[] = []) => {
    const { host, services } = readDestination(text)
    const node = { mode: 'list' as const, allow: [], deny: [], privateExceptions, self: [] }
    return explainRequests({ host, services, domains: [] }, rulesOf([], node)).map(({ objections }) =>
      objections.map(({ change }) => change),
    )
  }

  it('opens no more than was asked for: only TLS for an https URL, both for a host', () => {
    expect(changes('https://a.test')).toEqual([
      [
        'the job is submitted with --domain https://a.test',
        'the operator of the node adds https://a.test to Egress.Allow',
      ],
    ])
    expect(changes('a.test').map(([job]) => job)).toEqual(
      Array(2).fill('the job is submitted with --domain a.test'),
    )
    expect(changes('https://a.test:8443').map(([job]) => job)).toEqual([
      'the job is submitted with --domain a.test:8443',
    ])
  })

  it.each(['localhost:1234', 'api.localhost', '127.0.0.1:8080', '[::1]:80'])(
    'promises nothing for %s, which is the node itself however it is listed',
    (text) => {
      expect(changes(text).flat().filter(Boolean)).toEqual([])
    },
  )
})

describe('readDestination', () => {
  it.each([
    [
      'Packages.Example.net',
      'packages.example.net',
      'https:443 http:80',
      ['"Packages.Example.net" is "packages.example.net" in small letters'],
    ],
    ['a.test:8443', 'a.test', 'https:8443 http:8443', []],
    ['a.test:80', 'a.test', 'http:80', []],
    ['wss://feed.test', 'feed.test', 'https:443', [expect.stringContaining('WebSocket')]],
    [
      'https://me:pw@a.test/x?y',
      'a.test',
      'https:443',
      [expect.anything(), expect.stringContaining('credentials')],
    ],
    ['a.test.', 'a.test', 'https:443 http:80', [expect.stringContaining('without the dot')]],
    ['bücher.test', 'xn--bcher-kva.test', 'https:443 http:80', [expect.stringContaining('refused')]],
    ['[2606:2800::10]:444', '2606:2800::10', 'https:444 http:444', []],
  ])('reads %s', (text, host, services, oddities) => {
    const read = readDestination(text)
    expect(read.host).toBe(host)
    expect(read.services.map(({ scheme, port }) => `${scheme}:${port}`).join(' ')).toBe(services)
    expect(read.oddities).toEqual(oddities)
  })

  it.each(['', '.a.test', '*.a.test', 'a b', '127.1', 'ftp://a.test'])('refuses %j', (text) => {
    expect(() => readDestination(text)).toThrow(/Cannot use host/)
  })
})
