import { expect, it } from 'vitest'
import {
  compileJobRules,
  compileNodeRules,
  decideAddresses,
  decideHost,
  type EgressRules,
} from '../../src/egress/index.js'
import { parseIpAddress, readHost } from '../../src/model/index.js'
import type { NodeEgressPolicy } from '../../src/ports/index.js'

function rules(policy: Partial<NodeEgressPolicy>): EgressRules {
  const node = compileNodeRules({ allow: [], deny: [], privateExceptions: [], self: [], ...policy }, 1)
  const job = compileJobRules({ mode: 'http', allow: ['data.example.com:8080'] })
  return { mode: 'http', job, node, ownAddresses: new Set(['10.9.9.1']) }
}

function decide(policy: Partial<NodeEgressPolicy>, address: string): string {
  const host = readHost('data.example.com')
  const found = parseIpAddress(address)
  if (!host.ok || found === undefined) throw new Error('the test is wrong')
  const request = { kind: 'http', host: host.host, port: 8080 } as const
  const byName = decideHost(request, rules(policy))
  if (!byName.allowed) return byName.code
  const byAddress = decideAddresses(request, { addresses: [found], aliases: [] }, rules(policy))
  return byAddress.allowed ? 'allowed' : byAddress.code
}

const EXCEPTION = { privateExceptions: ['data.example.com:8080'] }

it('lets an exception of the operator reach a private address', () => {
  expect(decide(EXCEPTION, '10.9.9.9')).toBe('allowed')
  expect(decide({ allow: ['data.example.com:8080'] }, '10.9.9.9')).toBe('egress.private_address')
})

it('lets a denied address win over an exception, private or public', () => {
  expect(decide({ ...EXCEPTION, deny: ['10.9.9.9'] }, '10.9.9.9')).toBe('egress.denied_by_operator')
  expect(decide({ ...EXCEPTION, deny: ['93.184.216.10'] }, '93.184.216.10')).toBe('egress.denied_by_operator')
  expect(decide({ ...EXCEPTION, deny: ['.example.com'] }, '10.9.9.9')).toBe('egress.denied_by_operator')
})

it('lets the network itself win over an exception (row C-23)', () => {
  expect(decide(EXCEPTION, '10.9.9.1')).toBe('egress.self')
  expect(decide(EXCEPTION, '127.0.0.1')).toBe('egress.self')
  expect(decide({ ...EXCEPTION, self: ['10.9.9.9'] }, '10.9.9.9')).toBe('egress.self')
  expect(decide({ ...EXCEPTION, self: ['data.example.com'] }, '10.9.9.9')).toBe('egress.self')
})
