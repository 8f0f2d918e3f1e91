#!/usr/bin/env node
import { processTerminal } from './terminal.js'
import { runCli } from './run-cli.js'

const STANDARD_INPUT_BYTES_MAX = 10 * 1024 * 1024 + 1

const terminal = processTerminal(process.env, process)
const code = await runCli(process.argv.slice(2), {
  terminal,
  environment: process.env,
  cwd: process.cwd(),
  inputIsTerminal: process.stdin.isTTY,
  ...(process.stdin.isTTY && process.stderr.isTTY
    ? { ask: async (question, options) => (await import('./ask.js')).askOnTerminal(question, options) }
    : {}),
  readStandardInput,
})
// Both streams empty before the end: to a pipe, writing goes on in the background.
await Promise.all([terminal.data(''), terminal.programError('')])
process.exit(code)

async function readStandardInput(): Promise<string> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of process.stdin as AsyncIterable<Buffer>) {
    bytes += part.length
    parts.push(part)
    // One byte more than a job may have is enough to refuse it.
    if (bytes >= STANDARD_INPUT_BYTES_MAX) break
  }
  return Buffer.concat(parts).toString('utf8')
}
