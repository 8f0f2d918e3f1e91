import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startGateway } from '../../../src/egress/index.js'
import type { GatewayClient } from '../../../src/egress/index.js'
import type { DockerExecutor } from '../../../src/executors/docker/index.js'
import { createAuditFile } from '../../../src/stores/audit-file.js'
import { INTERNET, LAN, SmallWorld } from './small-world.js'
import { importBusybox, noRoot, removeImage, runScript, skipNote, testExecutor } from './with-docker.js'

const IMAGE = 'weir-test-gateway:1'

describe.skipIf(noRoot !== '')(`a job with listed hosts behind the real gateway${skipNote(noRoot)}`, () => {
  const world = new SmallWorld()
  let gateway: GatewayClient | undefined
  let executor: DockerExecutor | undefined
  let dir = ''

  beforeAll(async () => {
    await importBusybox(IMAGE)
    await world.build()
    dir = mkdtempSync(join(tmpdir(), 'weir-audit-'))
    const started = await startGateway({
      nodeId: 'n-gateway',
      auditDir: dir,
      audit: createAuditFile({ dir }),
      hosts: { 'ok.test': INTERNET, 'inside.test': LAN },
    })
    gateway = started
    await started.setNodePolicy({
      allow: ['ok.test:8082', 'inside.test:8082'],
      deny: [],
      privateExceptions: [],
      self: [],
    })
    executor = testExecutor({
      holderPoolSize: 1,
      attach: async (path) => started.attach(path),
      detach: async (attachment) => started.detach(attachment),
    })
  })

  afterAll(async () => {
    await executor?.close()
    await gateway?.close()
    world.destroy()
    rmSync(dir, { recursive: true, force: true })
    await removeImage(IMAGE)
  })

  it('reaches an allowed host, is refused at another, and has no other way out', async () => {
    if (executor === undefined || gateway === undefined) throw new Error('not set up')
    expect(await executor.network.modes()).toMatchObject({ http: true })
    const executionId = `e-gateway-${process.pid}`
    const slot = await executor.network.acquire('http', { executionId }, AbortSignal.timeout(10_000))
    if (slot.attachment === undefined) throw new Error('no attachment')
    const lease = await gateway.open(
      { jobId: 'j-1', executionId },
      { mode: 'http', allow: ['ok.test:8082', 'inside.test:8082'] },
      slot.attachment,
    )
    const before = world.lanPackets()
    const { stdout, exit } = await runScript(executor, {
      image: IMAGE,
      slot,
      executionId,
      env: lease.env,
      script: `
        get() { printf 'GET http://%s/ HTTP/1.1\\r\\nHost: %s\\r\\nConnection: close\\r\\n\\r\\n' $1 $1 | nc -w 5 127.0.0.1 3128 | tr -d '\\r'; }
        echo $http_proxy
        get ok.test:8082 | tail -n 1
        get evil.test:8082 | head -n 1
        get inside.test:8082 | head -n 1
        nc -w 2 ${INTERNET} 80 </dev/null 2>/dev/null || echo no-direct-connection`,
    })
    const summary = await lease.close()
    expect(stdout.split('\n')).toEqual([
      'http://127.0.0.1:3128',
      'web of internet, asked for ok.test:8082',
      'HTTP/1.1 403 Forbidden',
      'HTTP/1.1 403 Forbidden',
      'no-direct-connection',
      '',
    ])
    expect(exit.exitCode).toBe(0)
    expect(summary).toMatchObject({ records: 3, allowed: 1, refused: 2 })
    expect(world.lanPackets()).toBe(before)
  })

  it('L-02 L-03 reaches an allowed host, and no other, with programs that know nothing of proxies or are told to use none', async () => {
    if (executor === undefined || gateway === undefined) throw new Error('not set up')
    const executionId = `e-transparent-${process.pid}`
    const slot = await executor.network.acquire('http', { executionId }, AbortSignal.timeout(10_000))
    if (slot.attachment === undefined) throw new Error('no attachment')
    expect(slot.attachment).toMatchObject({ nameServer: '127.0.0.1' })
    const lease = await gateway.open(
      { jobId: 'j-1', executionId },
      { mode: 'http', allow: ['ok.test:8082', 'inside.test:8082'] },
      slot.attachment,
    )
    const before = world.lanPackets()
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      slot,
      executionId,
      script: `
        cat /etc/resolv.conf
        export http_proxy=http://127.0.0.1:3128 NO_PROXY='*' no_proxy='*'
        wget -q -Y off -O- http://ok.test:8082/
        wget -q -Y off -O- http://inside.test:8082/ 2>&1 | grep -o '403'
        unset http_proxy NO_PROXY no_proxy
        wget -q -O- http://ok.test:8082/
        wget -q -O- --header 'Host: ok.test:8082' http://${INTERNET}:8082/
        wget -q -O- --header 'Host: inside.test:8082' http://${LAN}:8082/ 2>&1 | grep -o '403'
        wget -q -O- http://inside.test:8082/ 2>&1 | grep -o '403'
        wget -q -O- http://evil.test:8082/ 2>&1
        nc -w 2 ${LAN} 80 </dev/null 2>&1 || true`,
    })
    const summary = await lease.close()
    expect(stdout.split('\n')).toEqual([
      'nameserver 127.0.0.1',
      'options ndots:1 timeout:2 attempts:2',
      'web of internet, asked for ok.test:8082',
      '403',
      'web of internet, asked for ok.test:8082',
      'web of internet, asked for ok.test:8082',
      '403',
      '403',
      "wget: bad address 'evil.test:8082'",
      `nc: can't connect to remote host (${LAN}): Connection refused`,
      '',
    ])
    expect(summary).toMatchObject({ records: 7, allowed: 3, refused: 4 })
    expect(world.lanPackets()).toBe(before)
  })

  it('has listeners that refuse everything until a lease is opened, and that go with the slot', async () => {
    if (executor === undefined || gateway === undefined) throw new Error('not set up')
    const slot = await executor.network.acquire(
      'http',
      { executionId: 'e-early' },
      AbortSignal.timeout(10_000),
    )
    const { stdout } = await runScript(executor, {
      image: IMAGE,
      slot,
      script: `printf 'GET http://ok.test:8082/ HTTP/1.1\\r\\nHost: ok.test:8082\\r\\n\\r\\n' | nc -w 3 127.0.0.1 3128 2>&1 | grep -c 'web of' || true`,
    })
    expect(stdout).toBe('0\n')
    await expect(
      gateway.open(
        { jobId: 'j-1', executionId: 'e-late' },
        { mode: 'http', allow: [] },
        slot.attachment ?? { id: '', proxyUrl: '' },
      ),
    ).rejects.toMatchObject({ code: 'egress.unavailable' })
  })
})
