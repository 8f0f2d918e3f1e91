import { describe, expect, it } from 'vitest'
import {
  explainShortage,
  notEnoughNodes,
  place,
  readDemand,
  shortageDetails,
  viewNode,
  type NodeView,
  type PlacementOptions,
} from '../../src/orchestrator/index.js'
import type { JobSignatureSpec, KeyGrant, NodeEgressInfo, NodeInfo } from '../../src/model/index.js'
import { sampleNode, sampleSpec, type SpecChanges } from './samples.js'

function ask(spec: SpecChanges, nodes: NodeView[], options: Partial<PlacementOptions> = {}) {
  return place(readDemand(sampleSpec(spec)), nodes, {
    wanted: 1,
    past: new Map(),
    nodeQueueFactor: 1.5,
    seed: 'j',
    ...options,
  })
}

function node(
  nodeId: string,
  info: Partial<NodeInfo> = {},
  used = { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 },
): NodeView {
  return viewNode(sampleNode(nodeId, info), { used })
}

function egress(changes: Partial<NodeEgressInfo>): NodeEgressInfo {
  return {
    acceptsNetworkedJobs: true,
    httpEngines: ['docker'],
    fullEngines: [],
    allow: [],
    deny: [],
    problems: [],
    ...changes,
  }
}

/** A key that the job is signed with; whether the signature is genuine was asked when it was submitted. */
const signedBy = (Key: string, ...Domains: string[]): SpecChanges => ({
  task: {
    Network: { Type: 'HTTP', Domains, Signatures: [{ Key } as JobSignatureSpec] },
  },
})
const grant = (key: string, ...allow: string[]): KeyGrant => ({ name: 'release', key, allow })
const http = (...Domains: string[]): SpecChanges => ({ task: { Network: { Type: 'HTTP', Domains } } })

describe('placement', () => {
  it('explains, grouped, why no node fits', () => {
    const cdn = egress({ allow: ['.example.com'] })
    const both = egress({ allow: ['.example.com', 'cdn.example.net'] })
    const two = { cpu: 2, memoryBytes: 8e9, diskBytes: 1e11, gpu: 0 }
    const spec = http('cdn.example.net', 'www.example.com')
    const task = { ...spec.task, Resources: { CPU: '4', Memory: '', Disk: '', GPU: '' } }
    const found = ask({ task }, [
      node('n-1'),
      node('n-2'),
      node('n-3'),
      node('n-4', { egress: cdn }),
      node('n-5', { egress: both, maxCapacity: two, maxJobRequirements: two }),
    ])
    expect(found.chosen).toEqual([])
    expect(explainShortage(found.shortage)).toBe(
      '0 of 5 nodes can run this: 3 do not accept networked jobs; 1 lacks domain cdn.example.net; 1 has 2 CPU free, 4 asked',
    )
    expect(notEnoughNodes(found.shortage)).toMatch(
      /^not enough nodes to run job\. requested: 1, available: 5, suitable: 0\. 0 of 5 /,
    )
    const details = shortageDetails(found.shortage)
    expect(details).toMatchObject({ NodesRequested: '1', NodesAvailable: '5', NodesSuitable: '0' })
    expect(JSON.parse(details.Reasons ?? '')[0]).toEqual({
      code: 'compute.network',
      message: 'does not accept networked jobs',
      count: 3,
      nodes: ['n-1', 'n-2', 'n-3'],
    })
  })

  const refusals: [string, SpecChanges, Partial<NodeInfo>, string][] = [
    ['the engine', {}, { engines: ['wasm'] }, 'does not offer engine docker'],
    [
      'the engine, with the reason of the node',
      {},
      { engines: [], engineProblems: { docker: 'Docker is not running' } },
      'does not offer engine docker (Docker is not running)',
    ],
    [
      'an input source',
      { task: { InputSources: [{ Source: { Type: 's3' }, Alias: '', Target: '/inputs' }] } },
      {},
      'does not offer input source s3',
    ],
    [
      'the source of a wasm module',
      {
        task: {
          Engine: {
            Type: 'wasm',
            Params: { EntryModule: { Source: { Type: 'ipfs' }, Alias: '', Target: '/m' } },
          },
        },
      },
      {},
      'does not offer input source ipfs',
    ],
    ['the publisher', { task: { Publisher: { Type: 's3' } } }, {}, 'does not offer publisher s3'],
    ['any network', http('example.com'), {}, 'does not accept networked jobs'],
    [
      'http for this engine',
      http('example.com'),
      { egress: egress({ httpEngines: [], problems: ['needs root'] }) },
      'does not offer network HTTP to docker jobs (needs root)',
    ],
    [
      'full',
      { task: { Network: { Type: 'Full', Domains: [] } } },
      { egress: egress({}) },
      'does not offer network Full to docker jobs',
    ],
    [
      'a domain',
      http('example.com'),
      { egress: egress({ allow: ['*.example.com'] }) },
      'lacks domain example.com',
    ],
    [
      'several domains',
      http('a.org', 'b.org', 'c.org', 'd.org'),
      { egress: egress({ allow: [] }) },
      'lacks domains a.org, b.org, c.org and 1 more',
    ],
    [
      'a denied domain',
      http('bad.example.com'),
      { egress: egress({ allow: ['.example.com'], deny: ['bad.example.com'] }) },
      'denies domain bad.example.com',
    ],
    [
      'trust in the key that signed the job, although its own list would do',
      signedBy('U-1', 'example.com'),
      { egress: egress({ allow: ['example.com'], keys: [grant('U-2', 'example.com')] }) },
      'does not trust a key that signed the job',
    ],
    [
      'a domain that a key opens only to jobs that it signed',
      http('example.com'),
      { egress: egress({ keys: [grant('U-1', 'example.com')] }) },
      'lacks domain example.com',
    ],
    [
      'a domain, mode none opening nothing to keys either',
      signedBy('U-1', 'example.com'),
      { egress: egress({ mode: 'none', keys: [grant('U-1', 'example.com')] }) },
      'does not trust a key that signed the job',
    ],
    [
      'a list that cannot be read',
      http('example.com'),
      { egress: egress({ allow: ['*', '.example.com'] }) },
      'lacks domain example.com',
    ],
    [
      'labels',
      { Constraints: [{ Key: 'region', Operator: '=', Values: ['eu'] }] },
      { labels: { region: 'us' } },
      'does not match the constraints (label region is "us", wanted region=eu)',
    ],
    [
      'the largest job',
      {},
      { maxJobRequirements: { cpu: 0.25, memoryBytes: 8e9, diskBytes: 1e11, gpu: 0 } },
      'has 250m CPU at most for one job, 500m asked',
    ],
  ]
  it('puts a signed job where the lists of node and key hold its hosts together', () => {
    const spec = signedBy('U-1', 'a.example.com', 'b.example.com')
    const half = { egress: egress({ allow: ['http://a.example.com'], keys: [] }) }
    const grants = [grant('U-1', 'https://a.example.com', 'b.example.com')]
    const whole = { egress: egress({ allow: ['http://a.example.com'], keys: grants }) }
    expect(ask(spec, [node('n-1', half), node('n-2', whole)]).chosen).toEqual(['n-2'])
  })

  it.each(refusals)('refuses a node that lacks %s', (_, spec, info, expected) => {
    const found = ask(spec, [node('n-1', info)])
    expect(found.chosen).toEqual([])
    expect(found.shortage.reasons.map(({ refusal }) => refusal.one)).toEqual([expected])
  })

  it('takes a node whose list covers every domain', () => {
    const info = { egress: egress({ allow: ['.example.com', 'b.org:8443'] }) }
    expect(ask(http('a.example.com', '*.example.com', 'b.org:8443'), [node('n-1', info)]).chosen).toEqual([
      'n-1',
    ])
  })

  it.each([
    [{ membership: 'PENDING' as const }, 'waits for approval'],
    [{ membership: 'REJECTED' as const }, 'is rejected'],
    [{ connection: 'DISCONNECTED' as const }, 'is disconnected'],
  ])('does not count a node as available that %o', (record, expected) => {
    const found = ask({}, [viewNode(sampleNode('n-1', {}, record))])
    expect(found.shortage).toMatchObject({ available: 0, nodes: 1, suitable: 0 })
    expect(found.shortage.reasons[0]?.refusal.one).toBe(expected)
  })

  it('does not place on nodes that only orchestrate', () => {
    const found = ask({}, [node('n-1', { roles: ['orchestrator'] })])
    expect(found).toMatchObject({ chosen: [], shortage: { nodes: 0 } })
  })

  it('lets work wait on a node up to a bound', () => {
    const full = { cpu: 4, memoryBytes: 0, diskBytes: 0, gpu: 0 }
    expect(ask({}, [node('n-1', {}, full)]).chosen).toEqual(['n-1'])
    expect(ask({}, [node('n-1', {}, { ...full, cpu: 9.5 })]).chosen).toEqual(['n-1'])
    const over = ask({}, [node('n-1', {}, { ...full, cpu: 9.6 })])
    expect(over.shortage.reasons[0]?.refusal).toMatchObject({
      one: 'has 0 CPU free, 500m asked',
      transient: true,
    })
  })

  it('prefers favoured nodes, then fewer failures, then room now, then the emptiest', () => {
    const busy = { cpu: 4, memoryBytes: 0, diskBytes: 0, gpu: 0 }
    const half = { cpu: 2, memoryBytes: 0, diskBytes: 0, gpu: 0 }
    const nodes = [
      node('n-busy', {}, busy),
      node('n-half', {}, half),
      node('n-failed'),
      node('n-free'),
      node('n-favoured', { labels: { fast: '1' } }, busy),
    ]
    const past = new Map([['n-failed', { failures: 1 }]])
    const Constraints = [{ Key: 'favour_fast', Operator: '=' as const, Values: ['1'] }]
    expect(ask({ Constraints }, nodes, { wanted: 9, past }).chosen).toEqual([
      'n-favoured',
      'n-free',
      'n-half',
      'n-busy',
      'n-failed',
    ])
    expect(ask({ Constraints }, nodes, { wanted: 1, past }).chosen).toEqual(['n-favoured'])
  })

  it('spreads equal nodes over jobs', () => {
    const nodes = Array.from({ length: 8 }, (_, index) => node(`n-${index}`))
    const chosen = Array.from({ length: 100 }, (_, seed) => ask({}, nodes, { seed: `j-${seed}` }).chosen[0])
    expect(new Set(chosen).size).toBe(8)
  })
})
