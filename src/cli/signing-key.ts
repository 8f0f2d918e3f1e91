import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { WeirError } from '../errors.js'
import { signJob, withSignature } from '../model/job-signature.js'
import { isPublicKey, type KeyPair, keyPairOfPem } from '../model/key-pair.js'
import { quoted } from '../model/printable.js'
import { readLifetime } from './read-lifetime.js'
import type { ParsedJob } from '../model/parse-job.js'
import type { CliContext } from './context.js'

export interface SignFlags {
  signKey?: string
  signExpires?: string
}

const LIFETIME_DEFAULT = '1d'
const PEM_BYTES_MAX = 16 * 1024

/** The job as it is, or signed, when `--sign-key` asks for it. Throws `key.invalid`, `signature.invalid` or `cli.usage`. */
export async function signedByFlags(
  parsed: ParsedJob,
  { signKey, signExpires }: SignFlags,
  context: CliContext,
): Promise<ParsedJob> {
  if (signKey === undefined) {
    if (signExpires === undefined) return parsed
    throw new WeirError('cli.usage', 'Cannot use --sign-expires without --sign-key', {
      hint: 'Name the file with the key: --sign-key FILE',
    })
  }
  const key = await readSigningKey(signKey, context)
  const notBeforeMs = Date.now()
  const expiresMs = notBeforeMs + 1000 * readLifetime('--sign-expires', signExpires ?? LIFETIME_DEFAULT)
  const signature = signJob(parsed.spec, key, { notBeforeMs, expiresMs })
  return { ...parsed, spec: withSignature(parsed.spec, signature) }
}

/** Reads a private key file; nobody but its owner may be able to. Throws `key.invalid`. */
export async function readSigningKey(path: string, { cwd }: Pick<CliContext, 'cwd'>): Promise<KeyPair> {
  const refuse = (why: string, hint: string): WeirError =>
    new WeirError('key.invalid', `Cannot use the key ${quoted(path, 200)}: ${why}`, { hint })
  const handle = await open(resolve(cwd, path), 'r').catch((error: NodeJS.ErrnoException) => {
    throw refuse(
      error.code === 'ENOENT' ? 'there is no such file' : (error.code ?? 'it cannot be opened'),
      MAKE_ONE,
    )
  })
  try {
    const { mode, size } = await handle.stat()
    if (size > PEM_BYTES_MAX) throw refuse('it is too large to be one', MAKE_ONE)
    if ((mode & 0o077) !== 0)
      throw refuse(
        'others than its owner may read it',
        `Run: chmod 600 ${path}; if others may have read it, make a new one`,
      )
    return keyPairOfPem(await handle.readFile('utf8'))
  } finally {
    await handle.close()
  }
}

/** Public keys of a flag. Throws `key.invalid`. */
export function readPublicKeys(texts: readonly string[] = []): string[] {
  const wrong = texts.find((text) => !isPublicKey(text))
  if (wrong === undefined) return [...texts]
  throw new WeirError('key.invalid', `Cannot use ${quoted(wrong)} as a public key`, {
    hint: 'A public key is U and 55 letters and digits; "weir key show FILE" prints that of a file',
  })
}

const MAKE_ONE = 'Make one with: weir key generate FILE'
