import { describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/model/index.js'
import { suggestDomains } from '../../src/model/suggest-domains.js'

const refused = (host: string, port = 443, code = 'egress.not_in_job_list'): AuditRecord =>
  ({ decision: 'deny', code, host, port }) as AuditRecord

describe('a suggestion from refusals', () => {
  it('names exact hosts, most wanted first, with ports only where they are needed', () => {
    const { domains, warnings } = suggestDomains([
      refused('b.test.example.com', 80),
      refused('a.example.org'),
      refused('a.example.org'),
      refused('c.example.net', 8443, 'egress.port'),
      { ...refused('allowed.example.com'), decision: 'allow', code: '' } as AuditRecord,
    ])
    expect(domains).toEqual([
      { domain: 'a.example.org', attempts: 2 },
      { domain: 'b.test.example.com', attempts: 1 },
      { domain: 'c.example.net:8443', attempts: 1 },
    ])
    expect(warnings).toEqual([])
  })

  it('never widens to a suffix, and says what one would open', () => {
    const { domains, warnings } = suggestDomains(
      ['a', 'b', 'c'].map((name) => refused(`${name}.cdn.example.com`)),
    )
    expect(domains.map(({ domain }) => domain)).toEqual(
      ['a', 'b', 'c'].map((name) => `${name}.cdn.example.com`),
    )
    expect(warnings).toEqual([
      '.cdn.example.com would cover 3 of these, and every other name below cdn.example.com as well',
    ])
  })

  it('names a host that was only asked for by name, as programs do that know nothing of proxies', () => {
    expect(suggestDomains([refused('a.example.org', 0)]).domains).toEqual([
      { domain: 'a.example.org', attempts: 1 },
    ])
  })

  it('tells what no list of the job changes, and suggests nothing of it', () => {
    const { domains, warnings } = suggestDomains([
      refused('metadata.internal', 80, 'egress.private_address'),
      refused('x.example.com', 443, 'egress.denied_by_operator'),
      refused('localhost', 80),
      refused(''),
    ])
    expect(domains).toEqual([])
    expect(warnings).toEqual([
      'metadata.internal: not on the public internet',
      'x.example.com: denied by the operator',
    ])
  })
})
