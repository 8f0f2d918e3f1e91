import { printable } from '../../model/printable.js'
import { candidatesAt } from './candidates.js'
import { readWords } from './read-words.js'
import { SHELLS } from './scripts.js'
import type { WeirCommand } from '../command.js'
import type { CliContext } from '../context.js'
import type { Candidate, Candidates } from './candidates.js'

/**
 * Answers a shell's question `SHELL -- WORD…`. Never says anything else, and never fails: an error in the middle of a
 * line that somebody is typing helps nobody. Resolves with 0.
 */
export async function answerShell(
  program: WeirCommand,
  argv: readonly string[],
  context: CliContext,
): Promise<number> {
  const shell = SHELLS.find((name) => name === argv[0])
  if (shell === undefined || argv[1] !== '--') return 0
  try {
    // PowerShell cannot hand over an empty word.
    const words = argv.slice(2).map((word) => (shell === 'powershell' && word === '""' ? '' : word))
    const cursor = readWords(program, words, shell)
    const candidates = await candidatesAt(cursor, context)
    await context.terminal.data(answerText(candidates, cursor.current, cursor.prefix))
  } catch {
    // No server, a broken configuration file: there is nothing to offer.
  }
  return 0
}

const DESCRIPTION_MAX = 60
const CANDIDATES_MAX = 200

function answerText({ words, paths, goesOn }: Candidates, current: string, prefix: string): string {
  const wanted = current.toLowerCase()
  const fitting = words.filter(({ value }) => isHarmless(value) && value.toLowerCase().startsWith(wanted))
  const lines = fitting.slice(0, CANDIDATES_MAX).map((candidate) => line(candidate, prefix))
  if (paths !== undefined) lines.push(`:${paths}`)
  if (goesOn === true && fitting.length > 0) lines.push(':nospace')
  return lines.map((text) => `${text}\n`).join('')
}

function line({ value, description = '' }: Candidate, prefix: string): string {
  return `${prefix}${value}\t${printable(description.replaceAll('\t', ' '), DESCRIPTION_MAX)}`
}

/** Candidates become part of a command line; nothing that a shell or a terminal acts on is offered. */
function isHarmless(value: string): boolean {
  return /^[\w.@/=+:-]+$/.test(value)
}
