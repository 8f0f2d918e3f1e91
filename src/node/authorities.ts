import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { WeirError } from '../errors.js'

/**
 * Reads the certificates of authorities (PEM); undefined for an empty path. Rejects with `config.invalid`: a list that cannot be
 * read whole is not used in part.
 */
export async function readAuthorities(file: string): Promise<string | undefined> {
  if (file === '') return undefined
  const invalid = (reason: string): WeirError =>
    new WeirError('config.invalid', `Cannot read certificates of authorities from ${file}: ${reason}`, {
      hint: 'Egress.AuthoritiesFile is a PEM file, for example /etc/ssl/certs/ca-certificates.crt; empty = those of Node.js',
    })
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw invalid(error.code ?? 'unreadable')
  })
  const certificates = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  if (certificates.length === 0) throw invalid('there is no certificate in it')
  for (const [index, one] of certificates.entries()) {
    try {
      new X509Certificate(one)
    } catch {
      throw invalid(`certificate ${index + 1} is malformed`)
    }
  }
  return certificates.join('\n')
}
