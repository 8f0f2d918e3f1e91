import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { entryPoint } from '../../src/package-root.js'

export interface CliResult {
  code: number | null
  stdout: string
  stderr: string
}

export interface CliOptions {
  env?: Record<string, string>
  cwd?: string
  input?: string
  /** Called as output arrives; may send signals. */
  onOutput?: (seen: { stdout: string; stderr: string }, child: ChildProcess) => void
}

const PROGRAM = entryPoint('cli/main.js')

/** The environment without the settings of whoever runs the tests. */
export function cleanEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('WEIR_') && name !== 'FORCE_COLOR',
  )
  return { ...Object.fromEntries(own), NO_COLOR: '1', ...extra }
}

/** Runs the built program to its end. */
export function weir(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, ...args], {
      cwd: options.cwd,
      env: cleanEnvironment(options.env),
    })
    const seen = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      seen.stdout += text
      options.onOutput?.(seen, child)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      seen.stderr += text
      options.onOutput?.(seen, child)
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...seen }))
    child.stdin.end(options.input ?? '')
  })
}

export interface TestServer {
  dir: string
  port: string
  /** Runs the program against this server. */
  weir: (args: readonly string[], options?: CliOptions) => Promise<CliResult>
  /** Sends SIGINT and resolves with what the server ended with. */
  stop: () => Promise<CliResult>
}

/** Starts `weir serve` on a free port with a data directory of its own. */
export async function startServer(more: readonly string[] = []): Promise<TestServer> {
  const dir = mkdtempSync(join(tmpdir(), 'weir-cli-'))
  const env = { WEIR_DIR: join(dir, 'data') }
  let child: ChildProcess | undefined
  let ended: Promise<CliResult> | undefined
  const port = await new Promise<string>((resolve, reject) => {
    const settings = [
      'API.Port=0',
      'Publishers.Types.Local.Port=0',
      'Logging.Level=error',
      'Engines.Disabled=docker',
      ...more,
    ]
    ended = weir(['serve', ...settings.flatMap((setting) => ['-c', setting])], {
      env,
      onOutput: ({ stderr }, process) => {
        child = process
        const found = /on http:\/\/127\.0\.0\.1:(\d+)/.exec(stderr)?.[1]
        if (found !== undefined) resolve(found)
      },
    })
    ended.then(({ stderr }) => reject(new Error(`the server ended: ${stderr}`)), reject)
  })
  return {
    dir,
    port,
    weir: (args, options = {}) =>
      weir(args, {
        ...options,
        env: { ...env, WEIR_API_PORT: port, ...options.env },
        cwd: options.cwd ?? dir,
      }),
    stop: async () => {
      child?.kill('SIGINT')
      const result = (await ended) as CliResult
      rmSync(dir, { recursive: true, force: true })
      return result
    },
  }
}

/** Why WebAssembly jobs cannot run here; undefined when they can. */
export function missingSandbox(): string | undefined {
  const { status } = spawnSync('bwrap', ['--ro-bind', '/', '/', '--unshare-all', 'true'], { stdio: 'ignore' })
  return status === 0 ? undefined : 'needs bubblewrap'
}

/** True when somebody listens on the default port, so that nothing would be embedded. */
export function isDefaultPortTaken(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(1234, '127.0.0.1')
    const answer = (taken: boolean): void => {
      socket.destroy()
      resolve(taken)
    }
    socket.once('connect', () => answer(true)).once('error', () => answer(false))
  })
}

/** Small WASI programs. */
export const PROGRAMS = {
  /** Prints "hello" and exits with 0. */
  hello: Buffer.from(
    'AGFzbQEAAAABEANgBH9/f38Bf2ABfwBgAAACRgIWd2FzaV9zbmFwc2hvdF9wcmV2aWV3MQhmZF93cml0ZQAAFndhc2lfc25hcHNob3RfcHJldmlldzEJcHJvY19leGl0AAEDAgECBQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAIKIgEgAEEAQQg2AgBBBEEGNgIAQQFBAEEBQcAAEAAaQQAQAQsLDAEAQQgLBmhlbGxvCg==',
    'base64',
  ),
  /** Prints "seven" and exits with 7. */
  seven: Buffer.from(
    'AGFzbQEAAAABEANgBH9/f38Bf2ABfwBgAAACRgIWd2FzaV9zbmFwc2hvdF9wcmV2aWV3MQhmZF93cml0ZQAAFndhc2lfc25hcHNob3RfcHJldmlldzEJcHJvY19leGl0AAEDAgECBQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAIKIgEgAEEAQQg2AgBBBEEGNgIAQQFBAEEBQcAAEAAaQQcQAQsLDAEAQQgLBnNldmVuCg==',
    'base64',
  ),
  /** Prints a colour code of terminals. */
  escape: Buffer.from(
    'AGFzbQEAAAABEANgBH9/f38Bf2ABfwBgAAACRgIWd2FzaV9zbmFwc2hvdF9wcmV2aWV3MQhmZF93cml0ZQAAFndhc2lfc25hcHNob3RfcHJldmlldzEJcHJvY19leGl0AAEDAgECBQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAIKIgEgAEEAQQg2AgBBBEEJNgIAQQFBAEEBQcAAEAAaQQAQAQsLDwEAQQgLCRtbMzFtcmVkCg==',
    'base64',
  ),
  /** Never ends. */
  loop: Buffer.from('AGFzbQEAAAABBAFgAAADAgEABQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAAKCQEHAANADAALCw==', 'base64'),
}
