import fc from 'fast-check'
import {
  compileJobRules,
  compileNodeRules,
  createGuardedDialer,
  decideAddresses,
  decideHost,
} from '../../../src/egress/index.js'
import { type IpAddress, classifyIpAddress, parseIpAddress, readHost } from '../../../src/model/index.js'
import type { FuzzTarget } from '../target.js'

const NAMES = ['a.example.com', 'example.com', 'b.test', 'other.test', 'www.other.test'] as const
const PATTERNS = [
  'example.com',
  '.example.com',
  '*.example.com',
  'b.test:8443',
  '.test',
  'other.test:80',
] as const
const OWN = '93.184.216.98'

const list = fc.subarray([...PATTERNS])
const address: fc.Arbitrary<IpAddress> = fc
  .oneof(
    { weight: 4, arbitrary: fc.ipV4() },
    { weight: 2, arbitrary: fc.ipV6() },
    {
      weight: 1,
      arbitrary: fc.constantFrom(OWN, '10.0.0.1', '127.0.0.1', '169.254.169.254', '::1', '64:ff9b::7f00:1'),
    },
  )
  .map((text) => parseIpAddress(text) as IpAddress)

/** The whole decision: lists, deny list, network list, answers of name servers, and what is dialled in the end. */
export const dials: FuzzTarget = {
  name: 'dials',
  promise:
    'what is allowed is on every list and on no deny list, and only an address that was judged public is dialled',
  open: () => ({
    property: fc.asyncProperty(
      fc.record({ job: list, allow: list, deny: list, network: fc.option(list, { nil: undefined }) }),
      fc.constantFrom(...NAMES),
      fc.constantFrom(80, 443, 8443, 25),
      fc.constantFrom('http' as const, 'connect' as const),
      fc.array(address, { minLength: 1, maxLength: 4 }),
      async ({ job, allow, deny, network }, name, port, kind, answers) => {
        const policy = {
          allow,
          deny,
          privateExceptions: [],
          self: [],
          ...(network === undefined ? {} : { network }),
        }
        const rules = {
          mode: 'http' as const,
          job: compileJobRules({ mode: 'http', allow: job }),
          node: compileNodeRules(policy, 1),
          ownAddresses: new Set([OWN]),
        }
        const reading = readHost(name)
        if (!reading.ok) throw new Error('the name is not readable')
        const request = { kind, host: reading.host, port }
        const byName = decideHost(request, rules)
        if (byName.allowed) {
          for (const one of [job, allow, ...(network === undefined ? [] : [network])])
            if (!one.some((pattern) => covers(pattern, name, port)))
              throw new Error(`allowed, but not on ${String(one)}`)
          if (deny.some((pattern) => denies(pattern, name, port))) throw new Error('allowed, but denied')
          if (port === 25) throw new Error('mail is allowed')
        }
        const found = { addresses: answers, aliases: [] }
        const byAddress = decideAddresses(request, found, rules)
        const isBad = answers.some((one) => one.text === OWN || classifyIpAddress(one).kind !== 'public')
        if (byAddress.allowed && isBad) throw new Error('an answer with a bad address is allowed')
        await dialled(
          policy,
          name,
          port,
          answers,
          deny.some((pattern) => denies(pattern, name, port)) || isBad,
        )
      },
    ),
  }),
}

/** The dialler of the node's own fetches: what it connects to must be one of the answers, and nothing when one is bad. */
async function dialled(
  policy: Parameters<typeof createGuardedDialer>[0]['policy'],
  name: string,
  port: number,
  answers: IpAddress[],
  mustRefuse: boolean,
): Promise<void> {
  const seen: string[] = []
  const dialer = createGuardedDialer({
    resolve: () => Promise.resolve({ addresses: answers, aliases: [] }),
    policy,
    ownAddresses: () => new Set([OWN]),
    dial: (one) => {
      seen.push(one.text)
      return Promise.reject(new Error('nobody is there'))
    },
  })
  await dialer.dial(name, port, new AbortController().signal).catch(() => {
    /* It always fails here; what it tried is the point. */
  })
  if (mustRefuse && seen.length > 0) throw new Error(`dialled ${seen.join(' ')} although it had to refuse`)
  for (const text of seen)
    if (!answers.some((one) => one.text === text)) throw new Error(`dialled ${text}, which nobody answered`)
}

/** What the grammar of patterns says, written down once more and as plainly as possible. */
function covers(pattern: string, name: string, port: number): boolean {
  const [, prefix = '', host = '', portText] = /^(\*\.|\.)?([^:]*)(?::(\d+))?$/.exec(pattern) ?? []
  const byName = (prefix !== '*.' && name === host) || (prefix !== '' && name.endsWith(`.${host}`))
  return byName && (portText === undefined ? port === 80 || port === 443 : Number(portText) === port)
}

/** A denied host without port is denied on every port. */
function denies(pattern: string, name: string, port: number): boolean {
  return covers(pattern, name, port) || (!pattern.includes(':') && covers(pattern, name, 443))
}
