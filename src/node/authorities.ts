import { X509Certificate } from 'node:crypto'
import { open } from 'node:fs/promises'
import { WeirError } from '../errors.js'

/** Many times what operating systems bring. */
const BYTES_MAX = 4 * 1024 * 1024

const BLOCK = /-----BEGIN ([^-\n]*)-----(?:[^-]*-----END \1-----)?/g

/**
 * Reads the certificates of authorities (PEM, text between them means nothing); undefined for an empty path. Rejects with
 * `config.invalid`: a list that cannot be read whole is not used in part, nor one that no host's certificate could be judged by.
 */
export async function readAuthorities(file: string): Promise<string | undefined> {
  if (file === '') return undefined
  const text = await readBounded(file)
  const certificates: string[] = []
  let isAnyInForce = false
  for (const [block, label = ''] of text.matchAll(BLOCK)) {
    const position = `block ${certificates.length + 1}`
    if (label.endsWith('PRIVATE KEY'))
      throw invalid(file, 'there is a private key in it, which belongs in a file of its owner alone')
    if (label !== 'CERTIFICATE')
      throw invalid(file, `${position} is no certificate, but "${label.slice(0, 40)}"`)
    if (!block.endsWith('-----END CERTIFICATE-----'))
      throw invalid(file, `certificate ${certificates.length + 1} has no end`)
    certificates.push(block)
    isAnyInForce ||= validTo(file, block, certificates.length) > Date.now()
  }
  if (certificates.length === 0) throw invalid(file, 'there is no certificate in it')
  if (!isAnyInForce) throw invalid(file, 'every certificate in it has expired')
  return certificates.join('\n')
}

async function readBounded(file: string): Promise<string> {
  const failed = (error: NodeJS.ErrnoException): never => {
    throw invalid(file, READ_PROBLEMS[error.code ?? ''] ?? error.code ?? 'it cannot be read')
  }
  const handle = await open(file).catch(failed)
  try {
    const about = await handle.stat()
    if (!about.isFile()) throw invalid(file, 'it is no file')
    if (about.size > BYTES_MAX)
      throw invalid(file, `it has ${about.size} bytes, and ${BYTES_MAX} are read at most`)
    return await handle.readFile('latin1').catch(failed)
  } finally {
    await handle.close()
  }
}

function validTo(file: string, certificate: string, position: number): number {
  try {
    return Date.parse(new X509Certificate(certificate).validTo)
  } catch {
    throw invalid(file, `certificate ${position} is malformed`)
  }
}

function invalid(file: string, reason: string): WeirError {
  return new WeirError(
    'config.invalid',
    `Cannot read certificates of authorities from "${file}" (Egress.AuthoritiesFile): ${reason}`,
    {
      hint: 'Egress.AuthoritiesFile is a PEM file, for example /etc/ssl/certs/ca-certificates.crt; empty = those of Node.js',
    },
  )
}

const READ_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'it is not there',
  EACCES: 'the node may not read it',
}
