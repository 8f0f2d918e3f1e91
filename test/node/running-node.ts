import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { existsSync } from 'node:fs'
import { WeirClient, type WireJob } from '../../src/client/index.js'
import { loadConfig } from '../../src/config/index.js'
import { type RunningNode, startNode, type StartNodeOptions } from '../../src/node/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'

export const CSV_MODULE = join(PACKAGE_ROOT, 'examples/csv-summary/csv-summary.wasm')

/** Why tests that run WebAssembly cannot run here; empty when they can. */
export const noSandbox: string = ['/usr/bin/bwrap', '/usr/local/bin/bwrap', '/bin/bwrap'].some((path) =>
  existsSync(path),
)
  ? ''
  : 'needs bubblewrap'

export interface TestNode extends RunningNode {
  dataDir: string
  client: WeirClient
}

/** What every test node has: free ports, no engines but those asked for. */
export function testSettings(more: string[] = []): string[] {
  return ['API.Port=0', 'Publishers.Types.Local.Port=0', 'Engines.Types.Docker.HolderPoolSize=0', ...more]
}

export async function withDirectory<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'weir-node-'))
  try {
    return await use(directory)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** Starts a node, hands it to the test and closes it, whatever happens. */
export async function withNode<T>(
  dataDir: string,
  settings: string[],
  use: (node: TestNode) => Promise<T>,
  options: Partial<StartNodeOptions> = {},
): Promise<T> {
  const config = loadConfig({ dataDir, settings: testSettings(settings) })
  const node = await startNode({ config, logLevel: 'silent', ...options })
  const client = new WeirClient({ baseUrl: node.apiUrl })
  try {
    return await use({ ...node, dataDir, client })
  } finally {
    client.close()
    await node.close()
  }
}

/** Submits a job and waits for its end. */
export async function runJob(client: WeirClient, job: object): Promise<WireJob> {
  const { JobID } = await client.submit(job)
  return endOf(client, JobID)
}

export async function endOf(client: WeirClient, id: string, withinMs = 60_000): Promise<WireJob> {
  for (const end = Date.now() + withinMs; ; ) {
    const { Job } = await client.job(id)
    if (['Completed', 'Failed', 'Stopped'].includes(String(Job.State.StateType))) return Job
    if (Date.now() > end) throw new Error(`job ${id} is still ${Job.State.StateType}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A job for the WebAssembly module that sums a CSV file. */
export function csvJob(module: string, more: object = {}): object {
  return {
    Type: 'batch',
    Tasks: [
      {
        Name: 'main',
        Engine: {
          Type: 'wasm',
          Params: {
            EntryModule: { Source: { Type: 'inline', Params: { URL: module } }, Target: '/csv-summary.wasm' },
            Parameters: ['/inputs/sales.csv', '/outputs/totals.csv', '2', '3'],
          },
        },
        InputSources: [
          {
            Source: {
              Type: 'inline',
              Params: { URL: 'data:text/csv,id,city,amount%0A1,paris,3%0A2,lima,4%0A' },
            },
            Target: '/inputs/sales.csv',
          },
        ],
        ...more,
      },
    ],
  }
}

/** A job that runs a command in a container. */
export function containerJob(image: string, command: string[], more: object = {}): object {
  return {
    Type: 'batch',
    Tasks: [
      { Name: 'main', Engine: { Type: 'docker', Params: { Image: image, Parameters: command } }, ...more },
    ],
  }
}
