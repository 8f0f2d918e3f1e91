import { REAL_CLOCK } from '../../src/node/real-time.js'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createComputeNode, type ComputeNode, type ComputeNodeOptions } from '../../src/compute/index.js'
import { WeirError } from '../../src/errors.js'
import type { JobSpec, TaskSpec } from '../../src/model/job-spec.js'
import type { EgressSummary } from '../../src/model/state.js'
import {
  outputSubject,
  type Chance,
  type EgressGateway,
  type OutputReadResponse,
  type Publisher,
  type StorageSource,
  type Transport,
} from '../../src/ports/index.js'
import { createInProcessTransport } from '../../src/transports/in-process.js'
import { ProcessExecutor, type ProcessExecutorOptions } from './process-executor.js'
import { TestOrchestrator } from './test-orchestrator.js'

export const CLOCK = REAL_CLOCK
export const CHANCE: Chance = { uuid: () => randomUUID(), random: () => Math.random() }

export interface Fixture {
  node: ComputeNode
  orchestrator: TestOrchestrator
  executor: ProcessExecutor
  source: TextSource
  publisher: CopyPublisher
  gateway: TestGateway
  transport: Transport
  dataDir: string
  /** Whole output of an execution, followed by long polls until it is done. */
  follow(
    executionId: string,
    bytesMax?: number,
  ): Promise<{ stdout: string; stderr: string; truncated: boolean }>
  /** Names of what is left of an execution on disk. */
  leftovers(executionId: string): Promise<string[]>
  close(): Promise<void>
}

export interface FixtureOptions {
  executor?: ProcessExecutorOptions
  node?: Partial<ComputeNodeOptions>
  transport?: Transport
  dataDir?: string
  /** Default true. */
  start?: boolean
}

/** A started node with a test orchestrator, an executor of real processes, one source, one publisher and a gateway. */
export async function startFixture(options: FixtureOptions = {}): Promise<Fixture> {
  const nodeId = options.node?.nodeId ?? 'n-test'
  const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'weir-compute-')))
  const transport = options.transport ?? createInProcessTransport({ clock: CLOCK, chance: CHANCE })
  const orchestrator = new TestOrchestrator(transport, nodeId)
  const served = await orchestrator.listen()
  const executor = new ProcessExecutor(options.executor)
  const [source, publisher, gateway] = [new TextSource(), new CopyPublisher(), new TestGateway()]
  const node = createComputeNode({
    nodeId,
    dataDir,
    transport,
    clock: CLOCK,
    chance: CHANCE,
    executors: [executor],
    sources: [source],
    publishers: [publisher],
    gateway,
    version: '0.0.0-test',
    capacity: { cpu: '4', memory: '4gb', disk: '1gb', gpu: '0' },
    ...options.node,
    limits: { syncIntervalMs: 500, diskCheckMs: 50, stopGraceMs: 300, ...options.node?.limits },
  })
  if (options.start !== false) await node.start()
  return {
    node,
    orchestrator,
    executor,
    source,
    publisher,
    gateway,
    transport,
    dataDir,
    follow: (id, bytesMax) => follow(transport, nodeId, id, bytesMax),
    leftovers: async (id) => (await listed(join(dataDir, 'compute', 'executions', id))).toSorted(),
    async close() {
      await node.close()
      await executor.close()
      await served.close()
      await transport.close()
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true, force: true })
    },
  }
}

/** A batch job that runs a command; `change` replaces parts of its task. */
export function commandJob(
  command: readonly string[],
  change: Partial<TaskSpec> = {},
  job: Partial<JobSpec> = {},
): JobSpec {
  return {
    Name: 'test',
    Namespace: 'default',
    Type: 'batch',
    Priority: 0,
    Count: 1,
    Constraints: [],
    Meta: {},
    Labels: {},
    ...job,
    Tasks: [
      {
        Name: 'main',
        Engine: { Type: 'process', Params: { Command: [...command] } },
        Publisher: { Type: '' },
        Env: {},
        Meta: {},
        InputSources: [],
        ResultPaths: [],
        Resources: { CPU: '100m', Memory: '10mb', Disk: '', GPU: '' },
        Network: { Type: 'None', Domains: [] },
        Timeouts: { ExecutionTimeout: 0, QueueTimeout: 0, TotalTimeout: 0 },
        ...change,
      },
    ],
  }
}

export function shellJob(
  script: string,
  change: Partial<TaskSpec> = {},
  job: Partial<JobSpec> = {},
): JobSpec {
  return commandJob(['sh', '-c', script], change, job)
}

/** A batch job with a shell script in a container. */
export function dockerJob(image: string, script: string, change: Partial<TaskSpec> = {}) {
  return commandJob([], {
    Engine: {
      Type: 'docker',
      Params: {
        Image: image,
        Entrypoint: ['/bin/sh', '-c'],
        Parameters: [script],
        EnvironmentVariables: [],
        WorkingDirectory: '',
      },
    },
    Resources: { CPU: '500m', Memory: '64mb', Disk: '', GPU: '' },
    ...change,
  })
}

/** Waits until something holds that no report tells of. */
export async function eventually(holds: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`does not hold after ${timeoutMs} ms: ${holds.toString()}`)
    await sleep(10)
  }
}

/** A zombie has ended: nobody has fetched its exit code yet. */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    return !/^State:\s+[ZX]/m.test(await readFile(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

interface TextParams {
  Text?: string
  Hang?: boolean
  HangFile?: string
}

/** Source `text`: writes `Params.Text`, or waits for ever with `Params.Hang`, or while the file `Params.HangFile` exists. */
export class TextSource implements StorageSource {
  readonly type = 'text'
  fetching = 0
  async admit() {
    return []
  }
  async measure() {
    return undefined
  }
  async fetch(
    ...[input, intoDir, limits, signal]: Parameters<StorageSource['fetch']>
  ): ReturnType<StorageSource['fetch']> {
    this.fetching += 1
    try {
      const { Text = '', Hang = false, HangFile = '' } = (input.Source.Params ?? {}) as TextParams
      if (Hang || existsSync(HangFile)) await sleep(600_000, undefined, { signal })
      limits.progress?.(Text.length, Text.length)
      signal.throwIfAborted()
      await writeFile(join(intoDir, 'data'), Text)
      return [{ hostPath: join(intoDir, 'data'), target: input.Target, writable: false }]
    } finally {
      this.fetching -= 1
    }
  }
}

/** Publisher `copy`: remembers what it was given. */
export class CopyPublisher implements Publisher {
  readonly type = 'copy'
  /** By execution: path → content. */
  readonly published = new Map<string, Record<string, string>>()
  publishing = 0
  hang = false
  async admit() {
    return []
  }
  async publish(...[result, , signal]: Parameters<Publisher['publish']>): ReturnType<Publisher['publish']> {
    this.publishing += 1
    try {
      if (this.hang) await sleep(600_000, undefined, { signal })
      const files: Record<string, string> = {}
      for (const entry of await readdir(result.dir, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name)
        const name = path.slice(result.dir.length + 1)
        files[entry.isDirectory() ? `${name}/` : name] = entry.isFile() ? await readFile(path, 'utf8') : ''
      }
      this.published.set(result.executionId, files)
      return { Type: 'copy', Params: { executionId: result.executionId } }
    } finally {
      this.publishing -= 1
    }
  }
}

/** A gateway that opens nothing but counts leases. */
export class TestGateway implements EgressGateway {
  leasesOpen = 0
  leasesOpened = 0
  running = true
  failing = false
  hang: Promise<void> | undefined
  async attach() {
    return { id: 'a', proxyUrl: 'http://127.0.0.1:3128' }
  }
  async open(...[, , attachment]: Parameters<EgressGateway['open']>) {
    await this.hang
    if (this.failing) throw new WeirError('egress.unavailable', 'the namespace is gone')
    this.leasesOpen += 1
    this.leasesOpened += 1
    let open = true
    return {
      proxyUrl: attachment.proxyUrl,
      env: { http_proxy: attachment.proxyUrl, HTTP_PROXY: attachment.proxyUrl },
      summary: async () => SUMMARY,
      close: async () => {
        if (open) this.leasesOpen -= 1
        open = false
        return SUMMARY
      },
    }
  }
  async detach() {}
  async setNodePolicy() {}
  async status() {
    return { running: this.running, policyGeneration: 1, leases: this.leasesOpen, connections: 0 }
  }
  async close() {}
}

export const SUMMARY: EgressSummary = {
  records: 3,
  allowed: 2,
  refused: 1,
  bytesUp: 10,
  bytesDown: 20,
  destinations: [],
  destinationsTruncated: false,
  chainHead: 'ab'.repeat(32),
}

async function follow(transport: Transport, nodeId: string, executionId: string, bytesMax = 64 * 1024) {
  const output = { stdout: '', stderr: '', truncated: false }
  for (let cursor = 0; ; ) {
    const page = (await transport.request(
      outputSubject(nodeId),
      { executionId, cursor, waitMs: 2_000, bytesMax },
      5_000,
    )) as OutputReadResponse
    for (const { stream, data } of page.chunks)
      output[stream] += Buffer.from(data, 'base64').toString('latin1')
    cursor = page.cursor
    output.truncated = page.truncated
    if (page.done) return output
  }
}

async function listed(dir: string): Promise<string[]> {
  try {
    return await readdir(dir)
  } catch {
    return []
  }
}
