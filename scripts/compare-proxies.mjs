// Runs the attack corpus against our gateway and against other forward proxies with the same policy, each in network
// namespaces that lead nowhere, and prints a table: node scripts/compare-proxies.mjs [weir squid tinyproxy]
// Needs root and a build; proxies that are not installed are named with the command that installs them.
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const weir = join(root, 'dist/cli/main.js')
const VERDICTS = ['pass', 'answer', 'lenient', 'hole', 'broken', 'not applicable']
const PRIVATE =
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15 ::1 fc00::/7 fe80::/10'

/** The same policy for each, as a careful administrator would write it. */
const PROXIES = {
  weir: {
    program: process.execPath,
    files: {
      'policy.yaml':
        'allow: [.example.com, exact.test, "api.test:8443", 93.184.216.77, xn--bcher-kva.test]\ndeny: [orchestrator.example.com, 93.184.216.99]\ndnsServers: [9.9.9.9]\n',
    },
    command: (dir) =>
      `${process.execPath} ${weir} egress gateway --listen 127.0.0.1:3128 --policy ${dir}/policy.yaml --audit-dir ${dir}/audit`,
  },
  squid: {
    program: '/usr/sbin/squid',
    package: 'squid',
    files: {
      'squid.conf': [
        'http_port 127.0.0.1:3128',
        'dns_nameservers 9.9.9.9',
        'cache deny all',
        'access_log none',
        'cache_log /dev/null',
        'pid_filename none',
        'pinger_enable off',
        'shutdown_lifetime 0 seconds',
        'acl self dstdomain -n orchestrator.example.com 93.184.216.99',
        `acl private dst ${PRIVATE}`,
        'acl hosts dstdomain -n .example.com exact.test xn--bcher-kva.test 93.184.216.77',
        'acl api dstdomain -n api.test',
        'acl web port 80',
        'acl tls port 443',
        'acl api_port port 8443',
        'http_access deny !hosts !api',
        'http_access deny self',
        'http_access deny private',
        'http_access allow CONNECT api api_port',
        'http_access allow CONNECT hosts tls',
        'http_access allow !CONNECT hosts web',
        'http_access deny all',
      ].join('\n'),
    },
    command: (dir) => `/usr/sbin/squid -N -f ${dir}/squid.conf`,
  },
  tinyproxy: {
    program: '/usr/bin/tinyproxy',
    package: 'tinyproxy-bin',
    files: {
      filter: [
        '(^|\\.)example\\.com$',
        '^exact\\.test$',
        '^api\\.test$',
        '^93\\.184\\.216\\.77$',
        '^xn--bcher-kva\\.test$',
      ].join('\n'),
      'tinyproxy.conf': (dir) =>
        [
          'Port 3128',
          'Listen 127.0.0.1',
          'Timeout 30',
          'MaxClients 200',
          'LogLevel Critical',
          `Filter "${dir}/filter"`,
          'FilterDefaultDeny Yes',
          'FilterExtended On',
          'ConnectPort 443',
          'ConnectPort 8443',
        ].join('\n'),
    },
    command: (dir) => `/usr/bin/tinyproxy -d -c ${dir}/tinyproxy.conf`,
  },
}

const asked = process.argv.slice(2)
const names = asked.length === 0 ? Object.keys(PROXIES) : asked
const tables = {}
for (const name of names) {
  const proxy = PROXIES[name]
  if (proxy === undefined) throw new Error(`unknown proxy ${name}: one of ${Object.keys(PROXIES).join(', ')}`)
  if (!existsSync(proxy.program)) {
    console.error(`${name} is not installed: apt-get install --no-install-recommends ${proxy.package}`)
    continue
  }
  tables[name] = await conformance(name, proxy)
}
print(tables)

async function conformance(name, { files, command }) {
  const dir = mkdtempSync(join(tmpdir(), `weir-compare-${name}-`))
  try {
    chmodSync(dir, 0o755)
    for (const [file, text] of Object.entries(files))
      writeFileSync(join(dir, file), `${typeof text === 'function' ? text(dir) : text}\n`)
    console.error(`${name} ${version(PROXIES[name])}`)
    const words = [
      'egress',
      'conformance',
      '--proxy',
      'http://127.0.0.1:3128',
      '--output',
      'json',
      '--patience',
      '12',
    ]
    return JSON.parse(await output([weir, ...words, '--', ...command(dir).split(' ')]))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function output(words) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (part) => (text += part))
    child.on('error', reject)
    child.on('close', (code) => (text === '' ? reject(new Error(`it ended with ${code}`)) : resolve(text)))
  })
}

function version({ package: name }) {
  if (name === undefined) return ''
  return spawnSync('dpkg-query', ['-W', '-f', '${Version}', name], { encoding: 'utf8' }).stdout
}

/** Counts by category, then every hole. */
function print(results) {
  const proxies = Object.keys(results)
  const categories = [
    ...new Set(Object.values(results).flatMap((rows) => rows.map(({ category }) => category))),
  ]
  const cell = (rows) =>
    VERDICTS.map((verdict) => rows.filter((row) => row.verdict === verdict).length).join(' / ')
  console.log(`| Category | ${proxies.join(' | ')} |\n| --- |${' --- |'.repeat(proxies.length)}`)
  for (const category of categories)
    console.log(
      `| ${category} | ${proxies.map((name) => cell(results[name].filter((row) => row.category === category))).join(' | ')} |`,
    )
  console.log(`| all | ${proxies.map((name) => cell(results[name])).join(' | ')} |`)
  console.log(`\n(${VERDICTS.join(' / ')})`)
  for (const name of proxies) {
    const holes = results[name].filter(({ verdict }) => verdict === 'hole')
    if (holes.length > 0)
      console.log(`\n${name} lets out: ${holes.map(({ id, title }) => `${id} ${title}`).join('; ')}`)
  }
}
