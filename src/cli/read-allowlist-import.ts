import { resolve } from 'node:path'
import { WeirError } from '../errors.js'
import { readForeignAllowlist } from '../model/import-allowlist.js'
import { refusedLine } from './commands/allowlist-report.js'
import { quoted } from '../model/printable.js'
import { readLocalFile } from './read-local-file.js'
import type { ImportedList } from '../model/import-allowlist.js'
import type { CliContext } from './context.js'

const FILE_BYTES_MAX = 4 * 1024 * 1024

/**
 * Reads the list of another system from a file, or from standard input for `-`. Throws `pattern.invalid` with every refused entry
 * unless `skipRefused`; then they are named on standard error.
 */
export async function readAllowlistImport(
  file: string,
  { skipRefused }: { skipRefused: boolean },
  { cwd, readStandardInput, terminal }: CliContext,
): Promise<ImportedList> {
  const text = file === '-' ? await readStandardInput() : await readText(resolve(cwd, file))
  const shown = file === '-' ? 'standard input' : quoted(file, 200)
  const list = readForeignAllowlist(text, file === '-' ? 'the list of standard input' : `the list ${shown}`)
  const { refused, taken } = list
  if (refused.length === 0) return list
  const lines = refused.map(refusedLine)
  if (skipRefused && taken.length > 0) {
    for (const line of lines) terminal.talk(`Left out ${line}`)
    return list
  }
  const entries = refused.length === 1 ? 'one entry' : `${refused.length} entries`
  throw new WeirError(
    'pattern.invalid',
    [`Cannot import ${entries} of ${shown}; nothing is changed:`, ...lines].join('\n  '),
    {
      ...(taken.length === 0
        ? {}
        : { hint: `correct them, or import the other ${taken.length} alone with --skip-refused` }),
      details: { refused },
    },
  )
}

async function readText(path: string): Promise<string> {
  const bytes = await readLocalFile(path, {
    what: 'the list',
    bytesMax: FILE_BYTES_MAX,
    tooLarge: 'pattern.invalid',
  })
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new WeirError('pattern.invalid', `Cannot read the list ${JSON.stringify(path)}: it is not UTF-8`)
  }
}
