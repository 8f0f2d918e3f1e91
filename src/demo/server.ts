import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { entryPoint } from '../package-root.js'

/** A `weir serve` of the demo. */
export interface DemoServer {
  port: number
  close(): Promise<void>
}

/**
 * Starts `weir serve` on a free port with a data directory of its own and this configuration, and waits until it
 * answers. Rejects with what the server said when it does not come up.
 */
export async function startDemoServer(
  directory: string,
  config: Record<string, unknown>,
): Promise<DemoServer> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const [port = 0, publisherPort = 0] = await freePorts(2)
  const file = join(directory, 'config.yaml')
  await writeFile(
    file,
    JSON.stringify(
      { 'API.Port': port, 'Publishers.Types.Local.Port': publisherPort, 'Logging.Level': 'warn', ...config },
      null,
      2,
    ),
  )
  const child = spawn(process.execPath, [entryPoint('cli/main.js'), '--data-dir', directory, 'serve'], {
    env: withoutSettings(process.env),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text: string) => {
    said = (said + text).slice(-8_192)
  })
  const end = Date.now() + 60_000
  while (!(await answers(port))) {
    if (child.exitCode !== null || Date.now() > end) {
      await stop(child)
      throw new Error(`the server of the demo did not start\n${said}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { port, close: () => stop(child) }
}

/** Whoever repeats the demo's commands has its variables set, which would win over the server's file. */
function withoutSettings(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('WEIR_')))
}

async function answers(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/agent/alive`)
    return response.ok
  } catch {
    return false
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const killer = setTimeout(() => child.kill('SIGKILL'), 20_000)
  await gone
  clearTimeout(killer)
}

/** Ports that nobody uses now, taken together so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as { port: number }).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
