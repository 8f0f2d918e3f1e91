import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { join } from 'node:path'
import { WebSocketServer } from 'ws'
import { ip, Namespace } from '../../../../src/conformance/index.js'
import { WORKED } from './client-scripts.js'

/** Where the sites are: an address that looks public, of a namespace of this machine. */
export const SITES = '93.184.215.2'

export interface TestInternet {
  /** The certificate of the sites, which is its own authority: PEM file. */
  certificate: string
  close(): void
}

/**
 * Five sites on one address of a network namespace: a web server, a git server, and small package indexes of Python, npm
 * and Debian, each over HTTP and HTTPS. `dir` keeps their files.
 */
export async function createTestInternet(dir: string): Promise<TestInternet> {
  const tag = `wi${process.pid % 10_000}`
  const world = Namespace.create(tag)
  ip('link', 'add', `${tag}a`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', world.name)
  ip('addr', 'add', '93.184.215.1/30', 'dev', `${tag}a`)
  ip('link', 'set', `${tag}a`, 'up')
  ip('-n', world.name, 'addr', 'add', `${SITES}/30`, 'dev', 'eth0')
  ip('-n', world.name, 'link', 'set', 'eth0', 'up')
  const sites: Record<string, Site> = {
    'web.clients.test': web,
    'git.clients.test': gitSite(dir),
    'pypi.clients.test': pythonIndex(dir),
    'npm.clients.test': npmRegistry(dir),
    'deb.clients.test': debianRepository(dir),
  }
  const answer: Site = (request, response) => {
    const site = sites[(request.headers.host ?? '').replace(/:\d+$/, '')]
    if (site === undefined) response.writeHead(404).end()
    else site(request, response)
  }
  const { key, certificate } = makeCertificate(dir)
  const sockets = new WebSocketServer({ noServer: true })
  sockets.on('connection', (socket) => socket.on('message', (data, binary) => socket.send(data, { binary })))
  const tls = { key: readFileSync(key), cert: readFileSync(certificate) }
  for (const [port, server] of [
    [80, createServer(answer)],
    [443, createTlsServer(tls, answer)],
  ] as const) {
    server.on('upgrade', (request, socket, head) =>
      sockets.handleUpgrade(request, socket, head, (open) => sockets.emit('connection', open, request)),
    )
    const listener = await world.listen(SITES, port)
    listener.on('connection', (socket) => server.emit('connection', socket))
  }
  return {
    certificate,
    close() {
      sockets.close()
      world.close()
    },
  }
}

type Site = (request: IncomingMessage, response: ServerResponse) => void

const web: Site = (request, response) => {
  let bytes = 0
  request.on('data', (data: Buffer) => (bytes += data.length))
  request.on('end', () => {
    if (request.url !== '/count') response.end(`${WORKED}\n`)
    else response.end(bytes === 2_000_000 ? WORKED : `${bytes} bytes came`)
  })
}

/** Git's own CGI program. */
function gitSite(dir: string): Site {
  const root = join(dir, 'git')
  const work = join(dir, 'work')
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=nobody', '-c', 'user.email=nobody@example.org', ...args], {
      stdio: 'ignore',
    })
  mkdirSync(root)
  git('init', work)
  writeFileSync(join(work, 'README'), `${WORKED}\n`)
  git('-C', work, 'add', '.')
  git('-C', work, 'commit', '-m', 'all of it')
  git('clone', '--bare', work, join(root, 'demo.git'))
  return (request, response) => {
    const url = new URL(request.url ?? '/', 'http://git.clients.test')
    const child = spawn('git', ['http-backend'], {
      env: {
        PATH: process.env.PATH,
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: '1',
        GIT_CONFIG_COUNT: '1',
        GIT_CONFIG_KEY_0: 'safe.directory',
        GIT_CONFIG_VALUE_0: '*',
        PATH_INFO: url.pathname,
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method,
        CONTENT_TYPE: request.headers['content-type'] ?? '',
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
        HTTP_GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      },
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    request.pipe(child.stdin)
    const pieces: Buffer[] = []
    child.stdout.on('data', (data: Buffer) => pieces.push(data))
    child.on('close', () => {
      const all = Buffer.concat(pieces)
      const end = all.indexOf('\r\n\r\n')
      for (const line of all.subarray(0, end).toString().split('\r\n')) {
        const [name = '', value = ''] = line.split(': ')
        if (name === 'Status') response.statusCode = Number(value.slice(0, 3))
        else response.setHeader(name, value)
      }
      response.end(all.subarray(end + 4))
    })
  }
}

function pythonIndex(dir: string): Site {
  const wheel = join(dir, 'weirdemo-1-py3-none-any.whl')
  const script = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('weirdemo.py', 'print("${WORKED}")')
    wheel.writestr('weirdemo-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: weirdemo\\nVersion: 1\\n')
    wheel.writestr('weirdemo-1.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('weirdemo-1.dist-info/RECORD', '')`
  execFileSync('/usr/bin/python3', ['-c', script, wheel])
  return (request, response) => {
    if (request.url?.endsWith('.whl') === true) response.end(readFileSync(wheel))
    else
      response
        .setHeader('content-type', 'text/html')
        .end('<a href="/weirdemo-1-py3-none-any.whl">weirdemo-1-py3-none-any.whl</a>')
  }
}

function npmRegistry(dir: string): Site {
  const facts = { name: 'weir-demo', version: '1.0.0', main: 'index.js' }
  mkdirSync(join(dir, 'package'))
  writeFileSync(join(dir, 'package/package.json'), JSON.stringify(facts))
  writeFileSync(join(dir, 'package/index.js'), `console.log('${WORKED}')`)
  execFileSync('tar', ['-C', dir, '-czf', join(dir, 'weir-demo.tgz'), 'package'])
  const tarball = readFileSync(join(dir, 'weir-demo.tgz'))
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  const dist = { tarball: 'https://npm.clients.test/weir-demo/-/weir-demo-1.0.0.tgz', integrity }
  const index = {
    name: facts.name,
    'dist-tags': { latest: facts.version },
    versions: { [facts.version]: { ...facts, dist } },
  }
  return (request, response) => {
    if (request.url?.endsWith('.tgz') === true) response.end(tarball)
    else response.setHeader('content-type', 'application/json').end(JSON.stringify(index))
  }
}

function debianRepository(dir: string): Site {
  const root = join(dir, 'deb')
  const file = join(dir, 'weir-demo_1_all.deb')
  const facts =
    'Package: weir-demo\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: demo\n'
  mkdirSync(join(root, 'DEBIAN'), { recursive: true })
  mkdirSync(join(root, 'usr/share/weir-demo'), { recursive: true })
  writeFileSync(join(root, 'DEBIAN/control'), facts)
  writeFileSync(join(root, 'usr/share/weir-demo/README'), `${WORKED}\n`)
  execFileSync('dpkg-deb', ['-b', root, file], { stdio: 'ignore' })
  const deb = readFileSync(file)
  const sha256 = createHash('sha256').update(deb).digest('hex')
  const packages = `${facts}Filename: ./weir-demo_1_all.deb\nSize: ${statSync(file).size}\nSHA256: ${sha256}\n`
  return (request, response) => {
    if (request.url?.endsWith('.deb') === true) response.end(deb)
    else if (request.url?.endsWith('/Packages') === true) response.end(packages)
    else response.writeHead(404).end()
  }
}

function makeCertificate(dir: string): { key: string; certificate: string } {
  const [key, certificate] = [join(dir, 'key.pem'), join(dir, 'certificate.pem')]
  const names = ['-subj', '/CN=clients.test', '-addext', 'subjectAltName=DNS:*.clients.test', '-days', '2']
  const how = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  execFileSync('openssl', ['req', '-x509', ...how, ...names, '-keyout', key, '-out', certificate], {
    stdio: 'ignore',
  })
  return { key, certificate }
}
