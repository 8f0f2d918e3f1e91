import { execFile } from 'node:child_process'
import { WeirError } from '../../errors.js'

/**
 * Runs a program of the machine (`ip`, `nft`, `nsenter`) without a shell and returns its standard output.
 *
 * Rejects with `engine.failed` when it is missing, fails or takes longer than `timeoutMs` (default 10 s).
 */
export async function runHostCommand(
  program: string,
  args: string[],
  { stdin = '', timeoutMs = 10_000 }: { stdin?: string; timeoutMs?: number } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      // Debian keeps these programs in /usr/sbin, which is not in everybody's PATH.
      {
        timeout: timeoutMs,
        killSignal: 'SIGKILL',
        maxBuffer: 4 * 1024 * 1024,
        env: { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`, LC_ALL: 'C' },
      },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(commandFailed(program, args, error, stderr, timeoutMs))
      },
    )
    child.stdin?.on('error', () => {
      /* The program ended without reading everything; its exit status tells the story. */
    })
    child.stdin?.end(stdin)
  })
}

function commandFailed(
  program: string,
  args: string[],
  error: Error & { code?: string | number | null; killed?: boolean },
  stderr: string,
  timeoutMs: number,
): WeirError {
  const what = `Cannot run ${[program, ...args.slice(0, 3)].join(' ')}`
  if (error.code === 'ENOENT') {
    return new WeirError('engine.failed', `${what}: the program "${program}" is not installed`, {
      hint: `Install the package that contains ${program} (Debian: iproute2, nftables, util-linux)`,
    })
  }
  const reason = error.killed === true ? `it took longer than ${timeoutMs} ms` : lastLines(stderr)
  return new WeirError('engine.failed', `${what}: ${reason}`, { cause: error })
}

function lastLines(stderr: string): string {
  const text = stderr.trim()
  return text === '' ? 'it failed without a message' : text.slice(-500).replaceAll('\n', '; ')
}
