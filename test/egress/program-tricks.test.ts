import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { exchange, get, TestGateway } from './with-gateway.js'

describe('what a program may try with a host that it may reach', () => {
  let net: TestGateway
  let port = 0
  const heard: string[] = []

  beforeAll(async () => {
    net = await TestGateway.start()
    port = await net.lease('e-1')
  })
  afterAll(() => net.close())
  beforeEach(() => {
    heard.length = 0
    net.onOrigin = (socket) =>
      socket.on('data', (data: Buffer) => {
        heard.push(data.toString('latin1'))
        socket.end('HTTP/1.1 302 Found\r\nLocation: http://evil.test/\r\nContent-Length: 0\r\n\r\n')
      })
  })

  it('L-07 a redirect is passed on and not followed; what follows it is judged', async () => {
    const answer = await exchange(port, get('example.com'))
    expect(answer).toMatch(/^HTTP\/1\.1 302 [\s\S]*Location: http:\/\/evil\.test\//)
    expect(await exchange(port, get('evil.test'))).toContain('egress.not_in_job_list')
    expect([heard.length, net.lookups.includes('evil.test')]).toEqual([1, false])
  })

  it('L-12 a search for a proxy is a request like any other', async () => {
    expect(await exchange(port, get('wpad.test'))).toMatch(/^HTTP\/1\.1 403 /)
    expect(await exchange(port, get('wpad'))).toMatch(/^HTTP\/1\.1 40[03] /)
    const asked = 'GET http://example.com/wpad.dat HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n'
    expect(await exchange(port, asked)).toMatch(/^HTTP\/1\.1 302 /)
    expect(heard).toEqual([expect.stringMatching(/^GET \/wpad\.dat HTTP\/1\.1\r\n/)])
  })

  it('J-11 the API of another network is a host like any other', async () => {
    const body = '{"Job":{}}'
    const submit = (host: string) =>
      `PUT http://${host}/api/v1/orchestrator/jobs HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`
    expect(await exchange(port, submit('orchestrator.test'))).toContain('egress.not_in_job_list')
    expect(heard).toEqual([])
    expect(await exchange(port, submit('h1.example.com'))).toMatch(/^HTTP\/1\.1 302 /)
    expect(heard.join('')).toContain(body)
  })

  it('N-14 N-15 a placeholder of a secret arrives as it was sent: the gateway puts nothing into a request', async () => {
    const text =
      'POST http://example.com/{{secret.KEY}}?k=${KEY} HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer {{secret.KEY}}\r\n' +
      'X-Other: $KEY\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{{secret.KEY}}'
    await exchange(port, text)
    const seen = heard.join('')
    for (const part of ['/{{secret.KEY}}?k=${KEY} ', 'Bearer {{secret.KEY}}\r\n', 'X-Other: $KEY\r\n'])
      expect(seen).toContain(part)
    expect(seen).toMatch(/\r\n\r\n\{\{secret\.KEY\}\}$/)
  })

  it('J-12 nothing that the gateway adds tells which job it was, or gives a permission', async () => {
    await exchange(port, get('example.com'))
    const names = (heard[0] ?? '')
      .split('\r\n')
      .slice(1, -2)
      .map((line) => line.split(':')[0]?.toLowerCase())
    expect(names.toSorted()).toEqual(['connection', 'host', 'via'])
    expect(heard[0]).not.toMatch(/e-1|j-1|n-1/)
  })
})
