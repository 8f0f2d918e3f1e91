import { describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/model/index.js'
import { groupDomains, suggestDomains } from '../../src/model/suggest-domains.js'

const refused = (host: string, port = 443, code = 'egress.not_in_job_list'): AuditRecord =>
  ({ decision: 'deny', code, host, port, bytesUp: 0, bytesDown: 0 }) as AuditRecord

const wanted = (domain: string, attempts: number) => ({
  domain,
  attempts,
  refused: attempts,
  bytesUp: 0,
  bytesDown: 0,
})

describe('a suggestion from refusals', () => {
  it('names exact hosts with their ports, most wanted first', () => {
    const { domains, warnings } = suggestDomains([
      refused('b.test.example.com', 80),
      { ...refused('a.example.org'), count: 2 },
      refused('c.example.net', 8443, 'egress.port'),
      { ...refused('allowed.example.com'), decision: 'allow', code: '' } as AuditRecord,
    ])
    expect(domains).toEqual([
      wanted('a.example.org:443', 2),
      wanted('b.test.example.com:80', 1),
      wanted('c.example.net:8443', 1),
    ])
    expect(warnings).toEqual([])
  })

  it('never widens to a suffix, and says what one would open', () => {
    const { domains, warnings } = suggestDomains(
      ['a', 'b', 'c'].map((name) => refused(`${name}.cdn.example.com`)),
    )
    expect(domains.map(({ domain }) => domain)).toEqual(
      ['a', 'b', 'c'].map((name) => `${name}.cdn.example.com:443`),
    )
    expect(warnings).toEqual([
      '.cdn.example.com would cover 3 of these, and every other name below cdn.example.com as well',
    ])
  })

  it('opens one port of the web where the other is not wanted, and a name once where both are', () => {
    const { domains } = suggestDomains([
      refused('a.example.org', 80),
      refused('b.example.org', 443),
      refused('b.example.org', 80),
      refused('2606:2800:21f::1', 80),
      refused('c.example.org', 0),
      refused('c.example.org', 443),
    ])
    expect(domains.map(({ domain, attempts }) => `${domain} ${attempts}`)).toEqual([
      'b.example.org 2',
      'c.example.org 2',
      '[2606:2800:21f::1]:80 1',
      'a.example.org:80 1',
    ])
  })

  it('names a host that was only asked for by name, as programs do that know nothing of proxies', () => {
    expect(suggestDomains([refused('a.example.org', 0)]).domains).toEqual([wanted('a.example.org', 1)])
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

const learnt = (host: string, port = 443, more: Partial<AuditRecord> = {}): AuditRecord =>
  ({
    decision: 'allow',
    code: '',
    kind: 'connect',
    method: 'CONNECT',
    host,
    port,
    bytesUp: 10,
    bytesDown: 100,
    learning: true,
    ...more,
  }) as AuditRecord
const named = (host: string) => learnt(host, 0, { kind: 'transparent', method: 'DNS' })

describe('a suggestion from learning', () => {
  it('names what was contacted and nothing else, with ports, attempts and bytes', () => {
    const suggestion = suggestDomains([
      named('a.example.org'),
      named('only-asked.example.net'),
      learnt('a.example.org'),
      learnt('a.example.org', 80, { kind: 'http', method: 'GET' }),
      learnt('93.184.216.34', 80, { kind: 'http', method: 'GET' }),
      // Down today, needed all the same.
      learnt('b.example.org', 443, { code: 'egress.upstream_failed', bytesUp: 0, bytesDown: 0 }),
      learnt('nowhere.example.org', 443, { code: 'egress.dns_failed' }),
      learnt('one.co.uk'),
      learnt('two.co.uk'),
      learnt('c.example.org', 8443, { decision: 'deny', code: 'egress.port', bytesUp: 0, bytesDown: 0 }),
    ])
    expect(suggestion).toEqual({
      domains: [
        { domain: 'a.example.org', attempts: 2, refused: 0, bytesUp: 20, bytesDown: 200 },
        { domain: '93.184.216.34:80', attempts: 1, refused: 0, bytesUp: 10, bytesDown: 100 },
        { domain: 'b.example.org:443', attempts: 1, refused: 0, bytesUp: 0, bytesDown: 0 },
        { domain: 'c.example.org:8443', attempts: 1, refused: 1, bytesUp: 0, bytesDown: 0 },
        { domain: 'one.co.uk:443', attempts: 1, refused: 0, bytesUp: 10, bytesDown: 100 },
        { domain: 'two.co.uk:443', attempts: 1, refused: 0, bytesUp: 10, bytesDown: 100 },
      ],
      onlyAsked: ['only-asked.example.net'],
      unknown: ['nowhere.example.org'],
      warnings: ['.example.org would cover 3 of these, and every other name below example.org as well'],
    })
  })

  it('says what no list can hold or what a limit may have hidden', () => {
    const denied = { decision: 'deny', bytesUp: 0, bytesDown: 0 } as const
    const { domains, warnings } = suggestDomains([
      learnt('a.example.org', 80, { ...denied, code: 'egress.port' }),
      learnt('mail.example.org', 25, { ...denied, code: 'egress.port' }),
      learnt('b.example.org', 443, { ...denied, code: 'egress.names' }),
      learnt('c.example.org', 443, { ...denied, code: 'egress.not_in_network_list' }),
    ])
    expect(domains).toEqual([])
    expect(warnings).toEqual([
      'a.example.org: port 80 is not open for this kind of request',
      'mail.example.org: port 25 is not open for this kind of request',
      'b.example.org: refused by a limit (egress.names), so the list may lack what came after it',
      "c.example.org: not in the network's list",
    ])
  })
})

describe('grouping', () => {
  it('writes neighbours as one pattern with a leading dot, by port, and never a public suffix', () => {
    expect(
      groupDomains([
        'a.cdn.example.com',
        'b.cdn.example.com',
        'example.org',
        'www.example.org',
        'one.example.net',
        'one.example.net:8443',
        'first.co.uk',
        'second.co.uk',
        '93.184.216.34',
      ]),
    ).toEqual([
      '.cdn.example.com',
      '.example.org',
      'one.example.net',
      'one.example.net:8443',
      'first.co.uk',
      'second.co.uk',
      '93.184.216.34',
    ])
  })
})
