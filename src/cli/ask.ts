import { Writable } from 'node:stream'
import { createInterface } from 'node:readline/promises'
import { WeirError } from '../errors.js'

/**
 * Asks a question on standard error and reads one line from the terminal; with `hidden` nothing of it is shown. Rejects
 * with `cli.usage` on Ctrl-C and at the end of the input.
 */
export async function askOnTerminal(question: string, { hidden }: { hidden: boolean }): Promise<string> {
  let isMuted = false
  const output = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      if (!isMuted) process.stderr.write(chunk)
      done()
    },
  })
  const lines = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 })
  const given = new AbortController()
  lines.once('SIGINT', () => given.abort())
  lines.once('close', () => given.abort())
  try {
    const answer = lines.question(question, { signal: given.signal })
    isMuted = hidden
    return (await answer).trim()
  } catch (error) {
    throw new WeirError('cli.usage', 'Cannot go on without an answer', { cause: error })
  } finally {
    isMuted = false
    if (hidden) process.stderr.write('\n')
    lines.close()
  }
}
