import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type GatewayClient, startGateway } from '../../../src/egress/index.js'
import type { DockerExecutor } from '../../../src/executors/docker/index.js'
import type { AuditRecord } from '../../../src/model/index.js'
import type { Volume } from '../../../src/ports/index.js'
import { createAuditFile } from '../../../src/stores/audit-file.js'
import { CLIENT_SOURCES, CLIENTS, type Client, WORKED } from './clients/client-scripts.js'
import { createTestInternet, SITES, type TestInternet } from './clients/test-internet.js'
import { importImage, noRoot, removeImage, runScript, skipNote, testExecutor } from './with-docker.js'

const IMAGE = `weir-test-clients-${process.pid}:1`
const ROOT = join(import.meta.dirname, '../../..')
const MODES = ['proxy', 'direct'] as const
type Mode = (typeof MODES)[number]
/** What the test internet is made with. */
const TOOLS = ['openssl', 'git', 'python3', 'dpkg-deb'].filter((tool) => !existsSync(`/usr/bin/${tool}`))
const missing = noRoot !== '' ? noRoot : TOOLS.length === 0 ? '' : `needs ${TOOLS.join(', ')}`

/** What each client printed, by mode and name. */
const printed: Record<Mode, Map<string, string>> = { proxy: new Map(), direct: new Map() }
const records: Record<Mode, AuditRecord[]> = { proxy: [], direct: [] }

/**
 * The programs are those of this machine: its /usr is mounted read-only into a container that has nothing else, so no image
 * has to be built. Each mode is one container, in which every client runs once.
 */
describe.skipIf(missing !== '')(
  `L-06 programs of Debian and npm in a job with listed hosts${skipNote(missing)}`,
  () => {
    let dir = ''
    let internet: TestInternet | undefined
    let gateway: GatewayClient | undefined
    let executor: DockerExecutor | undefined

    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), 'weir-clients-'))
      internet = await createTestInternet(dir)
      prepareSources(join(dir, 'clients'), internet.certificate)
      await importImage(IMAGE, imageFiles(internet.certificate))
      const audit = createAuditFile({ dir: join(dir, 'audit') })
      const hosts = Object.fromEntries(
        ['web', 'git', 'pypi', 'npm', 'deb'].map((name) => [`${name}.clients.test`, SITES]),
      )
      const started = await startGateway({ nodeId: 'n-clients', auditDir: join(dir, 'audit'), audit, hosts })
      gateway = started
      await started.setNodePolicy({ allow: ['.clients.test'], deny: [], privateExceptions: [], self: [] })
      executor = testExecutor({
        attach: async (path) => started.attach(path),
        detach: async (attachment) => started.detach(attachment),
      })
      await executor.network.modes()
      await Promise.all(
        MODES.map(async (mode) => {
          if (executor === undefined) return
          const executionId = `e-clients-${mode}-${process.pid}`
          const slot = await executor.network.acquire('http', { executionId }, AbortSignal.timeout(30_000))
          if (slot.attachment === undefined) throw new Error('no attachment')
          const lease = await started.open(
            { jobId: 'j-clients', executionId },
            { mode: 'http', allow: ['.clients.test'] },
            slot.attachment,
          )
          const { stdout } = await runScript(executor, {
            image: IMAGE,
            slot,
            executionId,
            memoryBytes: 1024 ** 3,
            env: { ...ENVIRONMENT, ...(mode === 'proxy' ? lease.env : {}) },
            volumes: volumes(join(dir, 'clients')),
            script: present().map(wrapped).join('\n'),
          })
          await lease.close()
          records[mode] = await audit.read(executionId, 0, 1_000)
          for (const part of stdout.split('@@client ').slice(1)) {
            const end = part.indexOf('\n')
            printed[mode].set(part.slice(0, end), part.slice(end + 1))
          }
        }),
      )
    }, 400_000)

    afterAll(async () => {
      await executor?.close()
      await gateway?.close()
      internet?.close()
      if (dir !== '') rmSync(dir, { recursive: true, force: true })
      await removeImage(IMAGE)
    })

    for (const client of CLIENTS) {
      const gone = existsSync(client.needs) ? '' : `needs ${client.needs}`
      for (const mode of MODES) {
        const how = mode === 'proxy' ? 'with the proxy variables' : 'without them'
        const word = client.works[mode] ? 'works' : 'does not work'
        it.skipIf(gone !== '')(`${client.name}: ${word} ${how}${skipNote(gone)}`, () => {
          const text = printed[mode].get(client.name) ?? 'it did not run'
          if (client.works[mode]) expect(text).toContain(WORKED)
          else expect(text).not.toContain(WORKED)
        })
      }
    }

    it('is served by the proxy with the variables and by transparent mode without, each connection recorded', () => {
      expect(new Set(records.direct.map(({ kind }) => kind))).toEqual(new Set(['transparent']))
      expect(new Set(records.proxy.map(({ kind }) => kind))).toContain('connect')
      for (const { dialled, code } of records.direct.filter(({ decision }) => decision === 'allow'))
        expect([dialled, code]).toEqual([SITES, ''])
    })

    it('has the table that docs/networking.md shows', () => {
      const page = readFileSync(join(ROOT, 'docs/networking.md'), 'utf8')
      for (const { name, works } of CLIENTS)
        expect(page).toContain(
          `| ${name} | ${works.proxy ? 'yes' : 'no'} | ${works.direct ? 'yes' : 'no'} |\n`,
        )
    })
  },
)

function present(): Client[] {
  return CLIENTS.filter(({ needs }) => existsSync(needs))
}

function wrapped({ name, script }: Client): string {
  const quoted = script.replaceAll("'", `'\\''`)
  return `echo '@@client ${name}'; timeout 40 sh -c '${quoted}' 2>&1 </dev/null; echo`
}

const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
const ENVIRONMENT = {
  PATH: '/usr/bin:/usr/sbin:/bin',
  HOME: '/tmp',
  LANG: 'C.UTF-8',
  SSL_CERT_FILE: CERTIFICATES,
  REQUESTS_CA_BUNDLE: CERTIFICATES,
  PIP_CERT: CERTIFICATES,
  NODE_EXTRA_CA_CERTS: CERTIFICATES,
}

function imageFiles(certificate: string): Record<string, string> {
  return {
    bin: '-> usr/bin',
    // The engine puts its own first process there, which a mounted /usr would hide.
    'sbin/.keep': ' ',
    lib: '-> usr/lib',
    lib64: '-> usr/lib64',
    'usr/.keep': ' ',
    'tmp/.keep': ' ',
    'var/.keep': ' ',
    'etc/passwd': 'root:x:0:0:root:/tmp:/bin/sh\n_apt:x:100:65534::/nonexistent:/bin/sh\n',
    'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
    'etc/ssl/certs/ca-certificates.crt': readFileSync(certificate, 'latin1'),
  }
}

function volumes(clients: string): Volume[] {
  const java = readdirSync('/etc').filter((name) => /^java-\d/.test(name))
  const shared = ['/usr', '/etc/alternatives', ...java.map((name) => `/etc/${name}`)]
  return [
    ...shared
      .filter((path) => existsSync(path))
      .map((path) => ({ hostPath: path, target: path, writable: false })),
    { hostPath: join(ROOT, 'node_modules/ws'), target: '/opt/ws', writable: false },
    { hostPath: clients, target: '/opt/clients', writable: false },
  ] as Volume[]
}

function prepareSources(into: string, certificate: string): void {
  mkdirSync(into)
  for (const [name, text] of Object.entries(CLIENT_SOURCES)) writeFileSync(join(into, name), text)
  if (existsSync('/usr/bin/go')) {
    const env = {
      PATH: '/usr/bin:/bin',
      HOME: into,
      GOCACHE: join(into, 'cache'),
      GO111MODULE: 'off',
      CGO_ENABLED: '0',
    }
    execFileSync('go', ['build', '-o', join(into, 'get'), join(into, 'get.go')], { env, stdio: 'ignore' })
    rmSync(join(into, 'cache'), { recursive: true, force: true })
  }
  if (existsSync('/usr/bin/keytool')) {
    const store = ['-keystore', join(into, 'trust.p12'), '-storepass', 'changeit']
    execFileSync('keytool', ['-importcert', '-noprompt', '-alias', 'test', '-file', certificate, ...store], {
      stdio: 'ignore',
    })
  }
}
