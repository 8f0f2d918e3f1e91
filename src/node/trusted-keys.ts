import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { unwritable } from './allow-list-file.js'
import type { Config } from '../config/index.js'
import { editWhole } from '../edit-whole.js'
import { WeirError } from '../errors.js'
import { makeDirectory } from '../make-directory.js'
import { parseTrustedKeys, type TrustedKey } from '../model/index.js'

const FILE_BYTES_MAX = 4 * 1024 * 1024

/** Where a node keeps the keys that it trusts. */
export function trustedKeysFile({ values, dataDir }: Pick<Config, 'values' | 'dataDir'>): string {
  return values['Egress.TrustedKeysFile'] || join(dataDir, 'trusted-keys.json')
}

/** The keys of the file; none when there is no file. Rejects with `config.invalid`, naming every mistake. */
export async function readTrustedKeys(config: Pick<Config, 'values' | 'dataDir'>): Promise<TrustedKey[]> {
  const file = trustedKeysFile(config)
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw new WeirError(
      'config.invalid',
      `Cannot read the trusted keys in ${file}: ${(error as Error).message}`,
      {
        cause: error,
      },
    )
  }
  if (bytes.length > FILE_BYTES_MAX)
    throw new WeirError(
      'config.invalid',
      `The trusted keys in ${file} have more than ${FILE_BYTES_MAX} bytes`,
    )
  return parseTrustedKeys(bytes.toString(), file, {
    allowPublicSuffix: config.values['Egress.AllowPublicSuffixes'],
  })
}

/**
 * Replaces the file as a whole by what `change` makes of its keys, one change after the other, also between processes; a node
 * that runs follows. Rejects like the reading.
 */
export async function changeTrustedKeys(
  config: Pick<Config, 'values' | 'dataDir'>,
  change: (keys: readonly TrustedKey[]) => TrustedKey[],
): Promise<TrustedKey[]> {
  const file = trustedKeysFile(config)
  let keys: TrustedKey[] = []
  await makeDirectory(dirname(file))
  await editWhole(
    file,
    async () => {
      const text = `${JSON.stringify({ keys: change(await readTrustedKeys(config)) }, null, 2)}\n`
      // What could not be read again is not written.
      keys = parseTrustedKeys(text, file, {
        allowPublicSuffix: config.values['Egress.AllowPublicSuffixes'],
      })
      return text
    },
    { newMode: 0o600 },
  ).catch((error: unknown) => {
    throw unwritable(error, file)
  })
  return keys
}
