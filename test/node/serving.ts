import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { executionStateName, WeirClient, type WireExecution } from '../../src/client/index.js'
import { entryPoint } from '../../src/package-root.js'
import { docker } from '../executors/docker/with-docker.js'

/** A real `weir serve` on a data directory, which can be killed and started again. */
export class Serving {
  readonly dataDir: string
  readonly #config: Record<string, unknown>
  #child: ChildProcess | undefined
  #client: WeirClient | undefined
  #said = ''
  nodeId = ''

  constructor(dataDir: string, config: Record<string, unknown> = {}) {
    this.dataDir = dataDir
    this.#config = config
  }

  /** Talks with the server of now. */
  get client(): WeirClient {
    if (this.#client === undefined) throw new Error('the server was never started')
    return this.#client
  }

  /** What the last server said on its error output. */
  get said(): string {
    return this.#said
  }

  /** Resolves when it answers. `more` replaces keys of the configuration. */
  async start(more: Record<string, unknown> = {}): Promise<void> {
    await mkdir(this.dataDir, { recursive: true, mode: 0o700 })
    const [port = 0, publisherPort = 0] = await freePorts(2)
    await writeFile(
      join(this.dataDir, 'config.yaml'),
      JSON.stringify({
        'API.Port': port,
        'Publishers.Types.Local.Port': publisherPort,
        'Engines.Types.Docker.HolderPoolSize': 1,
        'Engines.Types.Wasm.PoolSize': 0,
        'Orchestrator.Scheduler.RetryBackoff': '100ms',
        'Logging.Level': 'info',
        ...this.#config,
        ...more,
      }),
      { mode: 0o600 },
    )
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WEIR_')))
    const command = [entryPoint('cli/main.js'), '--data-dir', this.dataDir, 'serve']
    const child = spawn(process.execPath, command, { env, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#child = child
    this.#said = ''
    child.stderr.setEncoding('utf8')
    child.stderr.on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-65_536)
    })
    this.#client?.close()
    this.#client = new WeirClient({ baseUrl: `http://127.0.0.1:${port}` })
    for (const end = Date.now() + 60_000; ; ) {
      const [first] = await this.#client.nodes().catch(() => [])
      if (first !== undefined && first.Connection === 'CONNECTED') {
        this.nodeId = first.Info.NodeID
        return
      }
      if (child.exitCode !== null || Date.now() > end) throw new Error(`the server is not up\n${this.#said}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  /** Like a crash: the process itself is killed, and nothing else. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** A planned stop. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  /** For the end of a test: stops the server and removes whatever of its jobs is left in the engine. */
  async close(): Promise<void> {
    await this.#end('SIGTERM')
    this.#client?.close()
    if (this.nodeId === '') return
    const left = await docker.listContainers({ all: true, filters: { label: [`weir.node=${this.nodeId}`] } })
    for (const { Id } of left)
      await docker
        .getContainer(Id)
        .remove({ force: true, v: true })
        .catch(() => {})
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill(signal)
    const killer = setTimeout(() => child.kill('SIGKILL'), 30_000)
    await gone
    clearTimeout(killer)
  }

  /** The executions of a job, oldest first. */
  async executions(jobId: string): Promise<WireExecution[]> {
    return (await this.client.executions(jobId)).Items
  }

  /** Waits until an execution of the job is in this state, and gives its id. */
  async until(jobId: string, state: string, withinMs = 30_000): Promise<string> {
    for (const end = Date.now() + withinMs; ; ) {
      const all = await this.executions(jobId)
      const found = all.find(({ ComputeState }) => executionStateName(ComputeState.StateType) === state)
      if (found !== undefined) return found.ID
      if (Date.now() > end) throw new Error(`no execution is ${state}: ${JSON.stringify(all)}\n${this.#said}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Both outputs of the job's executions, read to their end. */
  async logs(jobId: string): Promise<{ stdout: string; stderr: string }> {
    const output = { stdout: '', stderr: '' }
    for await (const { stream, text } of logChunks(this.client, jobId)) output[stream] += text
    return output
  }

  async history(jobId: string): Promise<string[]> {
    const { Items } = await this.client.history(jobId)
    return Items.map(({ Event }) => `${Event.Topic}: ${Event.Message}`)
  }
}

async function* logChunks(
  client: WeirClient,
  jobId: string,
): AsyncGenerator<{ stream: 'stdout' | 'stderr'; text: string }> {
  for await (const chunk of client.logs(jobId, { follow: true })) {
    yield { stream: chunk.stream, text: Buffer.from(chunk.data).toString('latin1') }
  }
}

/** The job's container in the engine, whoever watches it. */
export async function containerOf(executionId: string): Promise<ReturnType<typeof docker.getContainer>> {
  const filters = { label: [`weir.execution=${executionId}`, 'weir.kind=job'] }
  const [found] = await docker.listContainers({ all: true, filters })
  if (found === undefined) throw new Error(`no container of ${executionId}`)
  return docker.getContainer(found.Id)
}

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
