import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { entryPoint } from '../package-root.js'
import { isLeftBehind, runName } from '../run-directory.js'

/** Two sites on a machine of their own: a network namespace behind a virtual cable. */
export interface DemoInternet {
  /** The network namespace in which they are. */
  namespace: string
  /** Address of the sites, as this machine and the gateway see it. */
  address: string
  /** This machine's end of the cable. */
  hostAddress: string
  close(): Promise<void>
}

/**
 * Builds the demo's "internet": a network namespace with a web server in it, so that the demo works on a machine
 * without internet and shows real connections. Needs root; returns the reason when it cannot be built.
 */
export async function startDemoInternet(): Promise<DemoInternet | string> {
  if (process.getuid?.() !== 0) return 'needs root (it makes a network namespace)'
  const id = process.pid % 100_000
  removeLeftovers()
  const names = { namespace: runName('weir-demo'), here: `wd${id}h`, there: `wd${id}s` }
  const third = id % 250
  const hostAddress = `10.211.${third}.1`
  const address = `10.211.${third}.2`
  const steps = [
    ['netns', 'add', names.namespace],
    ['link', 'add', names.here, 'type', 'veth', 'peer', 'name', names.there, 'netns', names.namespace],
    ['addr', 'add', `${hostAddress}/30`, 'dev', names.here],
    ['link', 'set', names.here, 'up'],
    ['-n', names.namespace, 'addr', 'add', `${address}/30`, 'dev', names.there],
    ['-n', names.namespace, 'link', 'set', names.there, 'up'],
    ['-n', names.namespace, 'link', 'set', 'lo', 'up'],
  ]
  const remove = (): void => {
    // Removing the namespace removes the cable with it.
    spawnSync('ip', ['netns', 'del', names.namespace], { stdio: 'ignore' })
    spawnSync('ip', ['link', 'del', names.here], { stdio: 'ignore' })
  }
  for (const step of steps) {
    const result = spawnSync('ip', step, { encoding: 'utf8' })
    if (result.error !== undefined || result.status !== 0) {
      remove()
      return `network namespaces cannot be made here (${result.error?.message ?? result.stderr.trim()})`
    }
  }
  const server = spawn(
    'ip',
    ['netns', 'exec', names.namespace, process.execPath, entryPoint('demo/site.js'), address],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  await Promise.race([once(server.stdout, 'data'), once(server, 'exit')])
  if (server.exitCode !== null) {
    remove()
    return 'the web server of the demo did not start'
  }
  return {
    namespace: names.namespace,
    address,
    hostAddress,
    close: async () => {
      await stop(server)
      remove()
    },
  }
}

/** Namespaces of demos that were killed, with the web servers that go on in them. */
function removeLeftovers(): void {
  const listed = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout ?? ''
  for (const line of listed.split('\n')) {
    const [name = ''] = line.split(' ')
    if (!isLeftBehind(name, 'weir-demo')) continue
    const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout ?? ''
    for (const pid of pids
      .split('\n')
      .map(Number)
      .filter((one) => one > 1)) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It has ended meanwhile.
      }
    }
    spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  await gone
}
