import { stat } from 'node:fs/promises'
import { WeirError } from '../errors.js'
import { quoted } from '../model/printable.js'
import { readLocalFile } from './read-local-file.js'
import type { Terminal } from './terminal.js'

/** The join token in a file; undefined without one. Says so when others can read it. Throws `cli.usage`. */
export async function readJoinSecret(
  file: string | undefined,
  terminal: Terminal,
): Promise<string | undefined> {
  if (file === undefined) return undefined
  const what = 'the join token'
  const text = (await readLocalFile(file, { what, bytesMax: 4_096, tooLarge: 'cli.usage' }))
    .toString('utf8')
    .trim()
  if (text === '' || /\s/.test(text)) {
    throw new WeirError(
      'cli.usage',
      `Cannot read ${what} ${quoted(file, 200)}: the file does not hold one line`,
      {
        hint: 'Make one on the orchestrator: weir node token create > FILE',
      },
    )
  }
  const { mode } = await stat(file)
  if ((mode & 0o077) !== 0)
    terminal.talk(terminal.talkStyle.dim(`Others on this machine can read ${file}: chmod 600 ${file}`))
  return text
}
