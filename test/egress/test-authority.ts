import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A private key and the certificate for it, as PEM. */
export interface Certified {
  readonly key: string
  readonly cert: string
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

/** An authority of its own, which certifies servers of tests. Needs openssl. */
export class TestAuthority {
  readonly pem: string
  readonly #dir = mkdtempSync(join(tmpdir(), 'weir-authority-'))

  constructor() {
    this.#openssl(
      'req',
      '-x509',
      ...KEY,
      '-days',
      '9',
      '-subj',
      '/CN=authority',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
    )
    this.pem = this.#read('ca.pem')
  }

  /** For these names, for so many days from now; fewer than none: it has expired. */
  certify(names: readonly string[], days = 2): Certified {
    writeFileSync(join(this.#dir, 'names'), `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`)
    this.#openssl('req', ...KEY, '-subj', '/CN=site', '-keyout', 'site.key', '-out', 'site.csr')
    const signing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', String(days)]
    this.#openssl('x509', '-req', '-in', 'site.csr', ...signing, '-extfile', 'names', '-out', 'site.pem')
    return { key: this.#read('site.key'), cert: this.#read('site.pem') }
  }

  /** A certificate that nobody but its owner signed. */
  certifyItself(names: readonly string[]): Certified {
    const about = [
      '-days',
      '2',
      '-subj',
      '/CN=own',
      '-addext',
      `subjectAltName=${names.map((name) => `DNS:${name}`)}`,
    ]
    this.#openssl('req', '-x509', ...KEY, ...about, '-keyout', 'own.key', '-out', 'own.pem')
    return { key: this.#read('own.key'), cert: this.#read('own.pem') }
  }

  close(): void {
    rmSync(this.#dir, { recursive: true, force: true })
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { stdio: 'ignore', cwd: this.#dir })
  }

  #read(file: string): string {
    return readFileSync(join(this.#dir, file), 'utf8')
  }
}
