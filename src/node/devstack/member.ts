import { type ChildProcess, fork } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { type ErrorCode, WeirError } from '../../errors.js'
import { makeDirectory } from '../../make-directory.js'
import { entryPoint } from '../../package-root.js'
import type { PlainConfig } from './overlay.js'

/** What a member process is told first; secrets travel here and never in arguments or the environment. */
export interface MemberInit {
  name: string
  config: PlainConfig
  joinSecret: string
  logLevel: string
  /** Removed by the member itself when the process that started it is gone. Empty: everything is kept. */
  removeWhenOrphaned: string
}

/** From the member, once. */
export type MemberReport =
  | { ready: { apiUrl: string } }
  | { failed: { code: ErrorCode; message: string; hint?: string } }

/** A compute node in a process of its own. */
export interface Member {
  readonly name: string
  readonly dataDir: string
  readonly pid: number
  readonly apiUrl: string
  /** Undefined while it runs. */
  readonly ended: string | undefined
  /** Ends what it runs and resolves when the process is gone. Idempotent. */
  stop(): Promise<void>
}

/** Starts a member; resolves when it is ready. Rejects with what kept it from starting. */
export async function startMember(init: MemberInit, onEnd: (reason: string) => void): Promise<Member> {
  const { dataDir } = init.config
  await makeDirectory(dataDir, 0o700)
  const log = openSync(join(dataDir, 'node.log'), 'a', 0o600)
  const child = fork(entryPoint('node/processes/stack-member.js'), [], {
    stdio: ['ignore', log, log, 'ipc'],
    env: withoutConfiguration(process.env),
    execArgv: [],
  })
  closeSync(log)
  let ended: string | undefined
  const gone = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
  let isStopping = false
  void gone.then((reason) => {
    ended = reason
    if (!isStopping) onEnd(reason)
  })
  const stop = async (): Promise<void> => {
    isStopping = true
    const cut = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    if (child.connected) child.send({ stop: true }, () => {})
    await gone
    clearTimeout(cut)
  }
  const report = await Promise.race([firstReport(child, init), gone])
  if (typeof report === 'string' || 'failed' in report) {
    await stop()
    throw startFailure(init.name, dataDir, report)
  }
  return {
    name: init.name,
    dataDir,
    pid: child.pid ?? 0,
    apiUrl: report.ready.apiUrl,
    get ended() {
      return ended
    },
    stop,
  }
}

const STOP_MS = 30_000

function firstReport(child: ChildProcess, init: MemberInit): Promise<MemberReport> {
  return new Promise((resolve) => {
    child.once('message', (report) => resolve(report as MemberReport))
    // A process that is gone already is reported by its end.
    child.send(init, () => {})
  })
}

function startFailure(name: string, dataDir: string, report: string | MemberReport): WeirError {
  const log = join(dataDir, 'node.log')
  if (typeof report === 'string' || !('failed' in report)) {
    return new WeirError(
      'internal',
      `Node "${name}" ended while it was started (${typeof report === 'string' ? report : 'unknown'}): see ${log}`,
    )
  }
  const { code, message, hint } = report.failed
  return new WeirError(code, `Cannot start node "${name}": ${message}`, { hint: hint ?? `See ${log}` })
}

/** The configuration was read by the process that starts the stack; what is in its environment must not count twice. */
function withoutConfiguration(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('WEIR_')))
}
