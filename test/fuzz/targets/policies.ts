import fc from 'fast-check'
import {
  compileJobRules,
  compileNodeRules,
  decideHost,
  type EgressRules,
  explainRequests,
} from '../../../src/egress/index.js'
import { HostPatternSet, readHost, type WebScheme } from '../../../src/model/index.js'
import type { NodeEgressPolicy } from '../../../src/ports/index.js'
import type { FuzzTarget } from '../target.js'

const LABELS = ['a', 'b', 'xn--bcher-kva', 'www'] as const
const OWN = '10.9.9.1'

/** Hosts of a small world, so that lists and questions meet often. */
const name = fc
  .tuple(
    fc.array(fc.constantFrom(...LABELS), { maxLength: 3 }),
    fc.constantFrom('a.test', 'z.test', 'example.com'),
  )
  .map(([labels, root]) => [...labels, root].join('.'))
const odd = fc.constantFrom(
  'localhost',
  'foo.localhost',
  'host.docker.internal',
  'printer.local',
  'weir.test',
  '93.184.216.77',
  '127.0.0.1',
  '10.9.9.9',
  OWN,
  '169.254.169.254',
  '2606:2800::10',
  '::1',
  '64:ff9b::a09:909',
)
const host = fc.oneof({ weight: 3, arbitrary: name }, { weight: 1, arbitrary: odd })
const port = fc.constantFrom(80, 443, 8443, 25, 1, 65_535)
const scheme = fc.constantFrom<WebScheme>('http', 'https')

const pattern = fc
  .tuple(
    fc.constantFrom('', '', 'http://', 'https://'),
    fc.constantFrom('', '.', '*.'),
    name,
    fc.constantFrom('', '', ':443', ':8443', ':25'),
  )
  .map(([scheme, reach, host, port]) => {
    // Port 443 in clear is no pattern.
    const isClear = scheme === 'http://' && port === ':443'
    return `${scheme}${reach}${host}${isClear ? '' : port}`
  })
const list = fc.array(fc.oneof({ weight: 6, arbitrary: pattern }, fc.constant('93.184.216.77')), {
  maxLength: 6,
})
const policy: fc.Arbitrary<NodeEgressPolicy> = fc.record(
  {
    mode: fc.constantFrom('none', 'list', 'all'),
    allow: list,
    deny: list,
    network: list,
    networkDeny: list,
    privateExceptions: fc.subarray(['10.9.9.9:8443', 'a.test:80', '127.0.0.1:8443']),
    self: fc.subarray(['weir.test', 'a.a.test']),
  },
  { requiredKeys: ['allow', 'deny', 'privateExceptions', 'self'] },
)

/** What a user is told beforehand and what the gateway does come from one function, whatever the lists. */
export const explanations: FuzzTarget = {
  name: 'explanations',
  promise: 'what a job is told beforehand is what the gateway decides: verdict, code, owner and rule',
  open: () => ({
    property: fc.property(list, policy, host, port, scheme, (domains, node, text, to, by) => {
      const rules: EgressRules = {
        mode: 'http',
        job: compileJobRules({ allow: [...domains] }),
        node: compileNodeRules(node, 1),
        ownAddresses: new Set([OWN]),
      }
      const reading = readHost(text.includes(':') ? `[${text}]` : text)
      if (!reading.ok) throw new Error(`"${text}" is not readable`)
      const kind = by === 'http' ? ('http' as const) : ('connect' as const)
      const decision = decideHost({ kind, host: reading.host, port: to }, rules)
      const question = { host: reading.host.text, services: [{ scheme: by, port: to }], domains }
      const [verdict] = explainRequests(question, rules)
      const told = [verdict?.allowed, verdict?.code, verdict?.owner, verdict?.rule]
      const done = [decision.allowed, decision.allowed ? '' : decision.code, decision.owner, decision.rule]
      if (JSON.stringify(told) !== JSON.stringify(done))
        throw new Error(`told ${JSON.stringify(told)}, decided ${JSON.stringify(done)}`)
      if (decision.allowed === (verdict?.objections.length ?? 0) > 0)
        throw new Error('allowed with objections, or refused without')
    }),
  }),
}

/** Every answer that placement, admission and the gateway take from two lists, against hosts one by one. */
export const algebra: FuzzTarget = {
  name: 'algebra',
  promise:
    'an intersection holds what both lists hold, a covered list holds nothing that the other does not, and both print as themselves',
  open: () => ({
    property: fc.property(
      list,
      list,
      fc.array(fc.tuple(host, port, scheme), { minLength: 1, maxLength: 12 }),
      (left, right, asked) => {
        const options = { allowPrivate: true }
        const [a, b] = [HostPatternSet.parse(left, options), HostPatternSet.parse(right, options)]
        const both = a.intersect(b)
        const printed = HostPatternSet.parse(
          both.patterns.map(({ text }) => text),
          options,
        )
        const isSubset = b.uncovered(a).length === 0
        if (a.uncovered(both).length + b.uncovered(both).length > 0)
          throw new Error('an intersection is not covered by its sides')
        for (const [text, to, by] of asked) {
          const [inA, inB, inBoth, inPrinted] = [a, b, both, printed].map(
            (set) => set.match(text, to, by) !== undefined,
          )
          const where = `${by} ${text}:${to}`
          if (inBoth !== (inA === true && inB === true))
            throw new Error(`the intersection is wrong at ${where}`)
          if (inPrinted !== inBoth) throw new Error(`printed, it is another list at ${where}`)
          if (isSubset && inA === true && inB !== true) throw new Error(`covered, but not held: ${where}`)
        }
      },
    ),
  }),
}
