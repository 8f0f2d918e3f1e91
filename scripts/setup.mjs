// Makes a machine ready for the demo and the tests: says what is missing and why it is wanted, installs it when it
// runs as root on Debian or Ubuntu, starts the Docker engine when root, and otherwise prints the exact command.
// It never fails because something is missing: what cannot be tested is skipped visibly later.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const isRoot = process.getuid?.() === 0

/** Debian packages, what shows that one is there, and what it is for. */
const PACKAGES = [
  { name: 'docker.io', present: () => has('dockerd'), why: 'Docker jobs' },
  { name: 'bubblewrap', present: () => has('bwrap'), why: 'the sandbox of WebAssembly jobs' },
  { name: 'iproute2', present: () => has('ip'), why: 'network namespaces: the demo and the egress tests' },
  { name: 'util-linux', present: () => has('nsenter'), why: 'listeners inside the namespaces of jobs' },
  { name: 'nftables', present: () => has('nft'), why: 'jobs with full network access' },
  {
    name: 'busybox-static',
    present: () => existsSync('/bin/busybox'),
    why: 'the container image of demo and tests, made locally',
  },
  { name: 'clang-14', present: () => has('clang-14'), why: 'WebAssembly test programs in C' },
  { name: 'lld-14', present: () => has('wasm-ld-14'), why: 'linking them' },
  {
    name: 'wasi-libc',
    present: () => existsSync('/usr/include/wasm32-wasi') || existsSync('/usr/share/wasi-sysroot'),
    why: 'their C library',
  },
  {
    name: 'libclang-rt-14-dev-wasm32',
    present: () => installed('libclang-rt-14-dev-wasm32'),
    why: 'their compiler runtime',
  },
  { name: 'rustc', present: () => existsSync('/usr/bin/rustc'), why: 'WebAssembly test programs in Rust' },
  {
    name: 'libstd-rust-dev-wasm32',
    present: () => installed('libstd-rust-dev-wasm32'),
    why: 'their standard library',
  },
  { name: 'gcc', present: () => has('gcc'), why: 'machine code that tries the sandbox in tests' },
  {
    name: 'libc6-dev',
    present: () => existsSync('/usr/include/asm-generic/unistd.h') && existsSync('/usr/include/stdio.h'),
    why: 'its C library, and the system call numbers of the kernel',
  },
  { name: 'wabt', present: () => has('wat2wasm'), why: 'hostile WebAssembly test modules' },
  {
    name: 'nats-server',
    present: () => has('nats-server'),
    why: 'networks of several machines, and devstack',
  },
  { name: 'curl', present: () => has('curl'), why: 'a real client of the gateway in tests' },
  { name: 'zsh', present: () => has('zsh'), why: 'completion in that shell' },
  { name: 'fish', present: () => has('fish'), why: 'completion in that shell' },
  { name: 'openssl', present: () => has('openssl'), why: 'certificates of test servers' },
  { name: 'wget', present: () => has('wget'), why: 'more real clients of the gateway' },
  { name: 'git', present: () => has('git'), why: 'the same' },
  { name: 'python3-pip', present: () => installed('python3-pip'), why: 'the same' },
  { name: 'python3-requests', present: () => installed('python3-requests'), why: 'the same' },
  { name: 'python3-websockets', present: () => installed('python3-websockets'), why: 'the same' },
]
const COMPILER = [
  {
    name: 'g++',
    present: () => has('g++'),
    why: 'compiling the SQLite binding where no prebuilt one can be had',
  },
  { name: 'make', present: () => has('make'), why: 'the same' },
  { name: 'python3', present: () => has('python3'), why: 'the same' },
]

const missing = PACKAGES.filter((wanted) => !wanted.present())
const sqlite = sqliteWorks()
if (!sqlite) missing.push(...COMPILER.filter((wanted) => !wanted.present()))

if (missing.length > 0) install(missing)
if (!sqlite) buildSqlite()
await startDocker()

function install(wanted) {
  console.log('setup: missing Debian packages')
  for (const { name, why } of wanted) console.log(`  ${name.padEnd(28)} ${why}`)
  const command = ['apt-get', 'install', '-y', '--no-install-recommends', ...wanted.map(({ name }) => name)]
  if (!isRoot || !isDebian()) {
    console.log(
      `setup: not installing (${isRoot ? 'not Debian or Ubuntu' : 'not root'}); to do it:\n  ${isRoot ? '' : 'sudo '}${command.join(' ')}`,
    )
    console.log('setup: going on without them; what needs them will be skipped and counted')
    return
  }
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  console.log('setup: apt-get update')
  quiet('apt-get', ['update', '-q'], environment)
  console.log(`setup: ${command.join(' ')}`)
  if (!quiet(command[0], ['-q', ...command.slice(1)], environment)) {
    // One package that an older or newer release lacks must not cost all the others.
    for (const { name } of wanted) {
      if (!quiet('apt-get', ['-q', 'install', '-y', '--no-install-recommends', name], environment))
        console.log(`setup: ${name} could not be installed; what needs it will be skipped and counted`)
    }
  }
}

/** better-sqlite3 is optional: `npm ci` does not fail where it cannot be compiled yet. */
function sqliteWorks() {
  const probe = 'const D=require("better-sqlite3");new D(":memory:").prepare("select 1").get()'
  return spawnSync(process.execPath, ['-e', probe], { cwd: root, stdio: 'ignore' }).status === 0
}

function buildSqlite() {
  console.log('setup: building the SQLite binding (about a minute)')
  if (!existsSync(join(root, 'node_modules/better-sqlite3'))) {
    // npm removes an optional package whose build failed; ask for it again now that there is a compiler.
    quiet(
      'npm',
      ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', sqliteSpec()],
      process.env,
    )
  }
  quiet('npm', ['rebuild', 'better-sqlite3'], process.env)
  if (!sqliteWorks())
    console.log(
      'setup: no SQLite binding: `weir serve` cannot keep jobs; to build it: apt-get install g++ make python3 && npm rebuild better-sqlite3',
    )
}

function sqliteSpec() {
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  return `better-sqlite3@${optionalDependencies['better-sqlite3']}`
}

async function startDocker() {
  if (await dockerAnswers()) return
  if (!has('dockerd')) {
    console.log('setup: no Docker engine; Docker jobs will be skipped and counted')
    return
  }
  if (!isRoot) {
    console.log(
      'setup: the Docker engine is not running (or not for this user); to start it:\n  sudo systemctl start docker   (or: sudo dockerd)',
    )
    return
  }
  console.log('setup: starting the Docker engine')
  if (existsSync('/run/systemd/system')) quiet('systemctl', ['start', 'docker'], process.env)
  if (!(await dockerAnswers(5_000))) {
    const directory = join(tmpdir(), 'weir-setup')
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    const log = openSync(join(directory, 'dockerd.log'), 'a', 0o600)
    spawn('dockerd', [], { detached: true, stdio: ['ignore', log, log] }).unref()
  }
  if (!(await dockerAnswers(60_000)))
    console.log(`setup: the Docker engine did not start; see ${join(tmpdir(), 'weir-setup/dockerd.log')}`)
}

async function dockerAnswers(withinMs = 0) {
  const end = Date.now() + withinMs
  for (;;) {
    if (await socketAccepts('/var/run/docker.sock')) return true
    if (Date.now() >= end) return false
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

function socketAccepts(path) {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.setTimeout(2_000, () => settle(false))
    socket.once('connect', () => settle(true))
    socket.once('error', () => settle(false))
    function settle(answer) {
      socket.destroy()
      resolve(answer)
    }
  })
}

function quiet(command, args, environment) {
  const result = spawnSync(command, args, {
    cwd: root,
    env: environment,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  if (result.status === 0) return true
  console.log(`setup: ${command} failed\n${tail(result.stdout)}${tail(result.stderr)}`)
  return false
}

function tail(text) {
  return (text ?? '').split('\n').slice(-8).join('\n')
}

function has(program) {
  return [
    '/usr/local/sbin',
    '/usr/local/bin',
    '/usr/sbin',
    '/usr/bin',
    '/sbin',
    '/bin',
    ...(process.env.PATH ?? '').split(':'),
  ].some((directory) => directory !== '' && existsSync(join(directory, program)))
}

function installed(name) {
  return (
    spawnSync('dpkg-query', ['-W', '-f', '${Status}', name], { encoding: 'utf8' }).stdout?.includes(
      'install ok installed',
    ) ?? false
  )
}

function isDebian() {
  if (!existsSync('/etc/os-release') || !has('apt-get')) return false
  return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'))
}
