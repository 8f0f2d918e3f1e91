import { createHash, createPublicKey, webcrypto, X509Certificate } from 'node:crypto'
import { chmod, open, readFile, rename } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { WeirError } from '../../errors.js'
import { makeDirectory } from '../../make-directory.js'

/** A certificate with its key, as PEM texts. */
export interface CertifiedKey {
  cert: string
  key: string
}

const DAY_MS = 24 * 60 * 60 * 1000
/** Some clients refuse certificates that are valid for longer than 398 days. */
const VALID_MS = 397 * DAY_MS
const RENEW_BEFORE_MS = 30 * DAY_MS

/**
 * The server's own certificate in `<dir>` (0600), made at the first start. Made anew, with the same key, when it is near its
 * end or lacks one of the names: clients pin the key, so they need not be told. Rejects with `tls.invalid` when what is
 * there cannot be used: a new key would look like an attack to every client.
 */
export async function selfSignedCertificate(
  dir: string,
  names: readonly string[],
  now: number,
): Promise<CertifiedKey> {
  await makeDirectory(dir, 0o700)
  const [keyPath, certPath] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const key = (await readIfThere(keyPath)) ?? (await keep(keyPath, await newKey()))
  const cert = await readIfThere(certPath)
  if (cert !== undefined && isStillGood(cert, key, names, now)) return { cert, key }
  return { cert: await keep(certPath, await certify(key, keyPath, names, now)), key }
}

/**
 * What clients pin: `SHA256:` and the base64 of the SHA-256 of the public key (its SubjectPublicKeyInfo), as in
 * RFC 7469 §2.4. It stays the same when the certificate is renewed.
 */
export function fingerprintOf(certificate: string): string {
  const der = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' })
  return `SHA256:${createHash('sha256').update(der).digest('base64')}`
}

function isStillGood(cert: string, key: string, names: readonly string[], now: number): boolean {
  try {
    const found = new X509Certificate(cert)
    const ownKey = createPublicKey(key).export({ type: 'spki', format: 'der' })
    const covers = (name: string): boolean =>
      (isIP(name) === 0 ? found.checkHost(name) : found.checkIP(name)) !== undefined
    return (
      found.publicKey.export({ type: 'spki', format: 'der' }).equals(ownKey) &&
      Date.parse(found.validFrom) <= now &&
      Date.parse(found.validTo) - RENEW_BEFORE_MS > now &&
      names.every(covers)
    )
  } catch {
    return false // Not a certificate any more: a new one for the same key is.
  }
}

const KEY_KIND = { name: 'ECDSA', namedCurve: 'P-256' } as const

async function newKey(): Promise<string> {
  const { privateKey } = await webcrypto.subtle.generateKey(KEY_KIND, true, ['sign', 'verify'])
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN PRIVATE KEY-----\n${lines.join('\n')}\n-----END PRIVATE KEY-----\n`
}

async function certify(pem: string, path: string, names: readonly string[], now: number): Promise<string> {
  // Heavy, and needed once a year.
  await import('reflect-metadata')
  const x509 = await import('@peculiar/x509')
  const keys = await importKeys(pem, path)
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=weir',
      notBefore: new Date(now - 60 * 60 * 1000),
      notAfter: new Date(now + VALID_MS),
      keys: keys as never,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(
          names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
        ),
      ],
    },
    webcrypto as never,
  )
  return `${certificate.toString('pem')}\n`
}

async function importKeys(pem: string, path: string): Promise<webcrypto.CryptoKeyPair> {
  try {
    const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64')
    const privateKey = await webcrypto.subtle.importKey('pkcs8', der, KEY_KIND, true, ['sign'])
    const spki = createPublicKey(pem).export({ type: 'spki', format: 'der' })
    const publicKey = await webcrypto.subtle.importKey('spki', spki, KEY_KIND, true, ['verify'])
    return { privateKey, publicKey }
  } catch (error) {
    throw new WeirError('tls.invalid', `Cannot read the key in "${path}"`, {
      hint: 'Restore it from a backup; or remove it to get a new one, which every client will have to accept again.',
      cause: error,
    })
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new WeirError('tls.invalid', `Cannot read "${path}": ${(error as Error).message}`, { cause: error })
  }
}

async function keep(path: string, text: string): Promise<string> {
  const partial = `${path}.${process.pid}.part`
  const file = await open(partial, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await chmod(partial, 0o600)
  await rename(partial, path)
  return text
}
