import { spawn } from 'node:child_process'
import { toWeirError } from '../errors.js'
import { printable } from '../model/printable.js'
import type { Refusal } from './network-admission.js'

/** The operator's own judges. */
export interface ProbeCommands {
  exec: readonly string[]
  http: string
}

/**
 * Asks the operator's program and URL about a job; empty = accepted. `payload` is the JSON `{"Job": …}`.
 *
 * Program: started without a shell and with no environment but PATH; the JSON arrives on standard input and, when it
 * is shorter than 100,000 bytes, in `WEIR_JOB_SELECTION_PROBE_DATA` and `BACALHAU_JOB_SELECTION_PROBE_DATA`. Exit code 0
 * accepts; the reason of a refusal is what it wrote to standard error.
 *
 * URL: `POST application/json`, redirects are not followed. A status of 400 or more refuses; a JSON answer
 * `{"shouldBid": false, "reason": "…"}` refuses as well.
 *
 * A probe that cannot be asked, or does not answer before the signal aborts, refuses (retryable): in doubt no job runs.
 */
export async function askProbes(
  commands: ProbeCommands,
  payload: string,
  signal: AbortSignal,
): Promise<Refusal[]> {
  const [exec, http] = await Promise.all([
    commands.exec.length === 0 ? undefined : askProgram(commands.exec, payload, signal).catch(brokenProbe),
    commands.http === '' ? undefined : askUrl(commands.http, payload, signal).catch(brokenProbe),
  ])
  return [exec, http].filter((refusal) => refusal !== undefined)
}

const ENVIRONMENT_BYTES_MAX = 100_000
const REASON_BYTES_MAX = 4_096
const ANSWER_BYTES_MAX = 64 * 1024
const LAST_WORDS_MS = 100

async function askProgram(
  [program = '', ...args]: readonly string[],
  payload: string,
  signal: AbortSignal,
): Promise<Refusal | undefined> {
  const small = Buffer.byteLength(payload) < ENVIRONMENT_BYTES_MAX
  const child = spawn(program, args, {
    env: {
      PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
      ...(small && {
        WEIR_JOB_SELECTION_PROBE_DATA: payload,
        BACALHAU_JOB_SELECTION_PROBE_DATA: payload,
      }),
    },
    stdio: ['pipe', 'ignore', 'pipe'],
    // A group of its own: what the program starts dies with it.
    detached: true,
  })
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It is gone already.
    }
  }
  signal.addEventListener('abort', kill, { once: true })
  child.stdin.on('error', () => {
    // A probe need not read its input.
  })
  child.stdin.end(payload)
  let reason = ''
  child.stderr.on('data', (data: Buffer) => {
    if (reason.length < REASON_BYTES_MAX) reason += data.toString('utf8')
  })
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
      // What it wrote last is still on its way; what it left running must not hold the pipe.
      child.once('exit', (exitCode) => {
        kill()
        setTimeout(resolve, LAST_WORDS_MS, exitCode).unref()
      })
    })
    signal.throwIfAborted()
    return code === 0
      ? undefined
      : refused(reason, `the operator's program ended with code ${code ?? 'none'}`)
  } finally {
    signal.removeEventListener('abort', kill)
    kill()
    child.stderr.destroy()
  }
}

async function askUrl(url: string, payload: string, signal: AbortSignal): Promise<Refusal | undefined> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: payload,
    redirect: 'error',
    signal,
  })
  const text = await readBounded(response)
  const type = response.headers.get('content-type')?.split(';')[0]?.trim()
  const answer = type === 'application/json' ? readAnswer(text) : {}
  if (response.status >= 400) {
    return refused(answer.reason ?? '', `the operator's service answered with status ${response.status}`)
  }
  return answer.shouldBid === false
    ? refused(answer.reason ?? '', "the operator's service said no")
    : undefined
}

async function readBounded(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.length
    if (bytes > ANSWER_BYTES_MAX) throw new Error(`the answer is longer than ${ANSWER_BYTES_MAX} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

/** Key names count without regard to case, as in Bacalhau. */
function readAnswer(text: string): { shouldBid?: boolean; reason?: string } {
  const answer: unknown = JSON.parse(text)
  if (typeof answer !== 'object' || answer === null) throw new Error('the answer is not a JSON object')
  const fields = new Map(Object.entries(answer).map(([key, value]) => [key.toLowerCase(), value as unknown]))
  const [shouldBid, reason] = [fields.get('shouldbid'), fields.get('reason')]
  return {
    ...(typeof shouldBid === 'boolean' && { shouldBid }),
    ...(typeof reason === 'string' && { reason }),
  }
}

function refused(reason: string, fallback: string): Refusal {
  const said = printable(reason.trim(), REASON_BYTES_MAX)
  return {
    code: 'compute.policy',
    message: `This node's own check refuses the job: ${said === '' ? fallback : said}`,
    hint: 'Choose another node, or ask its operator',
  }
}

function brokenProbe(error: unknown): Refusal {
  return {
    code: 'compute.policy',
    message: `This node's own check cannot be asked: ${toWeirError(error).message}`,
    hint: 'Try again later; the operator must repair the check',
    retryable: true,
  }
}
