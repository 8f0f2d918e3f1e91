import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importBusyboxImage } from '../../src/demo/busybox-image.js'
import { startDemoInternet } from '../../src/demo/internet.js'
import { startDemoServer } from '../../src/demo/server.js'
import { PROGRAMS, missingSandbox, weir } from './with-cli.js'
import type { CliOptions, CliResult } from './with-cli.js'

/** A server with Docker, an image, and an "internet" of its own behind it. */
export interface World {
  dir: string
  port: string
  image: string
  /** Address of this machine's end of the cable to the internet. */
  hostAddress: string
  weir: (args: readonly string[], options?: CliOptions) => Promise<CliResult>
  close: () => Promise<void>
}

/** Why no such world can be made here; empty when it can. */
export function missingWorld(): string {
  if (process.getuid?.() !== 0) return 'needs root'
  const hasDocker = spawnSync('docker', ['version'], { stdio: 'ignore' }).status === 0
  if (!hasDocker) return 'needs a Docker engine'
  return missingSandbox() ?? ''
}

/**
 * Sites `example.com` and `data.example.com` are reachable for jobs; `secret.example.com` resolves to the same private
 * address and is on the node's list, but is no exception; `other.test` is on no list.
 */
export async function startWorld(tag: string): Promise<World> {
  const dir = mkdtempSync(join(tmpdir(), 'weir-cli-'))
  const closing: (() => unknown)[] = [() => rmSync(dir, { recursive: true, force: true })]
  const close = async (): Promise<void> => {
    for (const one of closing.splice(0).toReversed()) await one()
  }
  try {
    const server = await startParts(dir, tag, closing)
    return { ...server, dir, image: tag, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function startParts(
  dir: string,
  tag: string,
  closing: (() => unknown)[],
): Promise<Pick<World, 'port' | 'hostAddress' | 'weir'>> {
  const internet = await startDemoInternet()
  if (typeof internet === 'string') throw new Error(`no internet for the tests: it ${internet}`)
  closing.push(() => internet.close())
  const image = await importBusyboxImage(tag)
  if (typeof image === 'string') throw new Error(`no image for the tests: it ${image}`)
  closing.push(() => image.remove())
  const names = ['example.com', 'data.example.com', 'secret.example.com', 'other.test']
  const server = await startDemoServer(join(dir, 'server'), {
    'JobAdmissionControl.AcceptNetworkedJobs': true,
    'Egress.Allow': ['.example.com'],
    'Egress.Learning.Users': ['everyone'],
    'Egress.Hosts': Object.fromEntries(names.map((name) => [name, internet.address])),
    'Egress.PrivateExceptions': ['example.com:80', 'data.example.com:80'],
    'Compute.OutputBytesMax': 100_000,
  })
  closing.push(() => server.close())
  for (const [name, bytes] of Object.entries(PROGRAMS)) writeFileSync(join(dir, `${name}.wasm`), bytes)
  const port = String(server.port)
  return {
    port,
    hostAddress: internet.hostAddress,
    weir: (args, options = {}) =>
      weir(args, {
        ...options,
        cwd: options.cwd ?? dir,
        env: { WEIR_API_PORT: port, WEIR_DIR: join(dir, 'client'), ...options.env },
      }),
  }
}

/** The full id of the job that a run said it submitted. */
export function idIn(stderr: string): string {
  return /Job (j-[0-9a-f-]{36}) submitted/.exec(stderr)?.[1] ?? 'no id'
}
