import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import { TLSSocket, connect, createSecureContext } from 'node:tls'
import type { SecureContext } from 'node:tls'
import fc from 'fast-check'
import { ClientHelloReader } from '../../../src/egress/index.js'
import type { FuzzTarget } from '../target.js'
import { byteChanges, changed } from '../texts.js'

/** Client hellos that OpenSSL itself writes, changed at random, read by us and by OpenSSL. */
export const hellos: FuzzTarget = {
  name: 'client-hellos',
  promise: 'no hello that we accept names another server to OpenSSL than to us',
  open: () => {
    const certificate = selfSigned()
    const written = Promise.all(CLIENTS.map(writtenHello))
    return {
      property: fc.asyncProperty(
        fc.nat(CLIENTS.length - 1),
        byteChanges,
        fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 1, maxLength: 4 }),
        async (which, changes, cuts) => {
          const bytes = changed((await written)[which] ?? Buffer.alloc(0), changes)
          const reading = readInPieces(bytes, cuts)
          if (reading.state !== 'ok') {
            if (changes.length === 0) throw new Error('an honest hello is refused')
            return
          }
          const ours = reading.hello.serverName?.toLowerCase()
          const theirs = (await nameForOpenSsl(bytes, certificate))?.toLowerCase()
          if (theirs !== undefined && theirs !== ours)
            throw new Error(`OpenSSL reads ${JSON.stringify(theirs)}, we read ${JSON.stringify(ours)}`)
        },
      ),
    }
  },
}

const CLIENTS: { servername?: string; ALPNProtocols?: string[]; maxVersion?: 'TLSv1.2' }[] = [
  { servername: 'example.com' },
  { servername: 'a.very.long.name.with.many.labels.example.com', ALPNProtocols: ['h2', 'http/1.1'] },
  { servername: 'example.com', maxVersion: 'TLSv1.2' },
  { servername: 'EXAMPLE.com', ALPNProtocols: ['http/1.1'] },
  {},
]

/** The first flight of a real client. */
function writtenHello(options: (typeof CLIENTS)[number]): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk)
        done()
        setImmediate(() => client.destroy())
      },
    })
    const client = connect({ socket: wire, rejectUnauthorized: false, ...options })
    client.on('error', () => {
      /* Nobody answers. */
    })
  })
}

function readInPieces(bytes: Buffer, cuts: readonly number[]): ReturnType<ClientHelloReader['push']> {
  const reader = new ClientHelloReader()
  let reading = reader.push(Buffer.alloc(0))
  for (let at = 0, index = 0; at < bytes.length && reading.state === 'more'; index++) {
    const size = cuts[index % cuts.length] ?? 1
    reading = reader.push(bytes.subarray(at, at + size))
    at += size
  }
  return reading
}

/** The server name that OpenSSL hands to a server for these bytes; undefined when it refuses them or sees none. */
function nameForOpenSsl(bytes: Buffer, secureContext: SecureContext): Promise<string | undefined> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(_chunk, _encoding, done) {
        done()
        settle(undefined)
      },
    })
    const server = new TLSSocket(wire, {
      isServer: true,
      secureContext,
      SNICallback: (name) => settle(name),
    })
    let isSettled = false
    const settle = (name: string | undefined): void => {
      if (isSettled) return
      isSettled = true
      setImmediate(() => server.destroy())
      resolve(name)
    }
    server.on('error', () => settle(undefined))
    wire.push(bytes)
    wire.push(null)
    wire.on('end', () => setImmediate(() => settle(undefined)))
  })
}

function selfSigned(): SecureContext {
  const dir = mkdtempSync(join(tmpdir(), 'weir-fuzz-'))
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const request = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=fuzz -keyout ${key} -out ${cert}`
  const made = spawnSync('openssl', request.split(' '))
  try {
    if (made.status !== 0) throw new Error(`openssl makes no certificate: ${made.stderr.toString()}`)
    return createSecureContext({ key: readFileSync(key), cert: readFileSync(cert) })
  } finally {
    rmSync(dir, { recursive: true })
  }
}
