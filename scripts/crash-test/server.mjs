import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { entryPoint } from '../../dist/package-root.js'

const READY_MS_MAX = 60_000

/** One `weir serve` that is killed without warning and started again on the same data directory and port. */
export class CrashingServer {
  #child
  #gone
  #said = ''
  #readyAtMs = 0
  #startedAtMs = 0

  static async create(directory) {
    const [port, publisherPort] = await freePorts(2)
    const marks = join(directory, 'marks')
    const dataDir = join(directory, 'data')
    for (const path of [marks, dataDir]) mkdirSync(path, { mode: 0o700 })
    writeFileSync(
      join(dataDir, 'config.yaml'),
      JSON.stringify({
        'API.Port': port,
        'Publishers.Types.Local.Port': publisherPort,
        'Logging.Level': 'warn',
        'Compute.AllowListedLocalPaths': [`${marks}:rw`],
        // Every kill costs a WebAssembly program a try.
        'Orchestrator.Scheduler.TriesMax': 100,
        'Orchestrator.Scheduler.RetryBackoff': '100ms',
        'Engines.Types.Docker.HolderPoolSize': 1,
      }),
    )
    return new CrashingServer({ port, marks, dataDir })
  }

  constructor({ port, marks, dataDir }) {
    this.port = port
    this.marks = marks
    this.dataDir = dataDir
    /** Milliseconds from each start to the first answer. */
    this.readyMs = []
  }

  /** Resolves when the process exists, not when it answers. */
  async start() {
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('WEIR_'))
    this.#child = spawn(process.execPath, [entryPoint('cli/main.js'), '--data-dir', this.dataDir, 'serve'], {
      env: Object.fromEntries(environment),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.#gone = once(this.#child, 'exit')
    this.#startedAtMs = Date.now()
    this.#readyAtMs = 0
    this.#child.stderr.setEncoding('utf8')
    this.#child.stderr.on('data', (text) => {
      this.#said = (this.#said + text).slice(-16_384)
    })
  }

  /** What the server printed last. */
  get said() {
    return this.#said
  }

  /** Rejects when the server does not come up: it then has lost everything. */
  async ready() {
    if (this.#readyAtMs > 0) return
    const end = Date.now() + READY_MS_MAX
    while (!(await this.#answers())) {
      if (this.#child.exitCode !== null || Date.now() > end) {
        throw new Error(`the server did not come up again\n${this.#said}`)
      }
      await sleep(20)
    }
    this.#readyAtMs = Date.now()
    this.readyMs.push(this.#readyAtMs - this.#startedAtMs)
  }

  /** Kills it while it starts, right after it is ready, or in the middle of work. Returns when that was. */
  async killAtRandom(random) {
    const dice = random()
    const isStarting = dice < 0.15
    if (!isStarting) await this.ready()
    const waitMs = Math.round(random() * (isStarting ? 700 : dice < 0.4 ? 300 : 4_000))
    await sleep(waitMs)
    if (this.#child.exitCode !== null) throw new Error(`the server went by itself\n${this.#said}`)
    this.#child.kill('SIGKILL')
    await this.#gone
    return isStarting ? `${waitMs} ms after its start` : `${waitMs} ms after it was ready`
  }

  async close() {
    this.#child?.kill('SIGTERM')
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), 30_000)
    await this.#gone
    clearTimeout(killer)
  }

  async #answers() {
    try {
      return (await fetch(`http://127.0.0.1:${this.port}/api/v1/agent/alive`)).ok
    } catch {
      return false // Nobody listens yet.
    }
  }
}

async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => server.address().port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
