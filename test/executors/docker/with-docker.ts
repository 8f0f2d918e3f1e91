import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { copyFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import Docker from 'dockerode'
import { pack } from 'tar-stream'
import { createDockerExecutor } from '../../../src/executors/docker/index.js'
import type { DockerExecutor, DockerExecutorOptions } from '../../../src/executors/docker/index.js'
import type { DockerEngineParams, TaskSpec } from '../../../src/model/index.js'
import type { OutputMount, RunExit, RunningExecution, Volume, NetworkSlot } from '../../../src/ports/index.js'

export const SOCKET = '/var/run/docker.sock'
export const docker = new Docker({ socketPath: SOCKET })

/** Why tests with containers cannot run here; empty when they can. */
export const noDocker: string = reasonAgainstDocker()
/** Why tests that make networks cannot run here; empty when they can. */
export const noRoot: string = noDocker !== '' ? noDocker : process.getuid?.() === 0 ? '' : 'needs root'

/** For titles: says visibly why something is skipped. */
export function skipNote(reason: string): string {
  return reason === '' ? '' : ` (skipped: ${reason})`
}

function reasonAgainstDocker(): string {
  try {
    accessSync(SOCKET, constants.R_OK | constants.W_OK)
  } catch {
    return 'needs a Docker engine'
  }
  const answer = spawnSync('curl', ['-sS', '--max-time', '5', '--unix-socket', SOCKET, 'http://d/_ping'])
  if (answer.error === undefined && answer.stdout.toString() !== 'OK')
    return 'the Docker engine does not answer'
  const kind = spawnSync('sh', ['-c', 'file -L /bin/busybox 2>/dev/null || echo static'])
  return kind.stdout.toString().includes('static') ? '' : 'needs a static /bin/busybox'
}

/** Builds an image from files: `files` maps a path in the image to a file here, its text, or a link (`-> target`); bytes are a program. */
export async function importImage(
  name: string,
  files: Record<string, string | Buffer>,
  changes: string[] = [],
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'weir-image-'))
  try {
    for (const [path, content] of Object.entries(files)) {
      const to = join(dir, path)
      mkdirSync(dirname(to), { recursive: true })
      if (typeof content === 'string' && content.startsWith('-> ')) symlinkSync(content.slice(3), to)
      else if (typeof content === 'string' && content.startsWith('/')) copyFileSync(content, to)
      else writeFileSync(to, content, { mode: typeof content === 'string' ? 0o644 : 0o755 })
    }
    spawnSync('chmod', ['-R', 'u+rwX,go+rX', dir])
    const [repo = '', tag = 'latest'] = name.split(':')
    const tar = spawn('tar', ['--numeric-owner', '--owner=0', '--group=0', '-C', dir, '-c', '.'])
    const stream = await docker.importImage(tar.stdout as unknown as string, {
      repo,
      tag,
      changes: ['LABEL weir.test=1', ...changes],
    })
    for await (const chunk of stream as unknown as AsyncIterable<Buffer>) {
      if (chunk.toString().includes('"error"')) throw new Error(chunk.toString())
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Builds an image from the lines of a Dockerfile. */
export async function buildImage(name: string, dockerfile: string[]): Promise<void> {
  const archive = pack()
  archive.entry({ name: 'Dockerfile' }, [...dockerfile, 'LABEL weir.test=1', ''].join('\n'))
  archive.finalize()
  const stream = await docker.buildImage(archive as unknown as NodeJS.ReadableStream, {
    t: name,
    rm: true,
    forcerm: true,
  })
  for await (const chunk of stream as unknown as AsyncIterable<Buffer>) {
    if (chunk.toString().includes('"error"')) throw new Error(chunk.toString())
  }
}

export async function removeImage(name: string): Promise<void> {
  await docker
    .getImage(name)
    .remove({ force: true })
    .catch(() => {
      /* It was never made. */
    })
}

const APPLETS = (
  'sh ls cat echo id sleep env su chown chmod mkdir rm touch ps kill ip ping arping nc wget nslookup traceroute ' +
  'unshare nsenter mount umount dd head tail grep wc yes seq true false test hostname tr printf df sha256sum ' +
  'iptables sysctl tc mknod chroot date find usleep cp mv ln'
).split(' ')

/** A small image with busybox, root and two users. */
export async function importBusybox(
  name: string,
  changes: string[] = [],
  more: Record<string, string | Buffer> = {},
): Promise<void> {
  await importImage(
    name,
    {
      'bin/busybox': '/bin/busybox',
      ...Object.fromEntries(APPLETS.map((applet) => [`bin/${applet}`, '-> busybox'])),
      'etc/passwd':
        'root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000:worker:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n',
      'etc/group': 'root:x:0:\nworker:x:1000:\nnogroup:x:65534:\n',
      'root/.keep': ' ',
      'tmp/.keep': ' ',
      ...more,
    },
    changes,
  )
}

/** A node id that no other test uses. */
export function testNodeId(): string {
  return `n-test-${randomUUID()}`
}

export function testExecutor(options: Partial<DockerExecutorOptions> = {}): DockerExecutor {
  return createDockerExecutor({ nodeId: testNodeId(), socketPath: SOCKET, holderPoolSize: 0, ...options })
}

export interface TestRun {
  image: string
  /** Passed to `/bin/sh -c`, unless `params` say otherwise. */
  script?: string
  params?: Partial<DockerEngineParams>
  env?: Record<string, string>
  mode?: 'none' | 'http' | 'full'
  memoryBytes?: number
  cpu?: number
  volumes?: Volume[]
  outputs?: OutputMount[]
  slot?: NetworkSlot
  executionId?: string
  outputBytesMax?: number
  /** Called with each piece of output; a promise holds the program back. */
  onOutput?: (stream: string, data: Uint8Array) => Promise<void> | void
}

export interface Started {
  running: RunningExecution
  slot: NetworkSlot
  executionId: string
  stdout(): string
  stderr(): string
  progress: string[]
  /** Waits for the end and gives everything back. */
  end(): Promise<RunExit>
}

const nodeIds = new WeakMap<DockerExecutor, string>()

export function withNodeId(executor: DockerExecutor, nodeId: string): DockerExecutor {
  nodeIds.set(executor, nodeId)
  return executor
}

export async function startRun(executor: DockerExecutor, run: TestRun): Promise<Started> {
  const executionId = run.executionId ?? `e-${randomUUID()}`
  const signal = AbortSignal.timeout(60_000)
  const slot = run.slot ?? (await executor.network.acquire(run.mode ?? 'none', { executionId }, signal))
  const scratchDir = mkdtempSync(join(tmpdir(), 'weir-scratch-'))
  const out: Record<string, Buffer[]> = { stdout: [], stderr: [] }
  const progress: string[] = []
  const params = {
    Image: run.image,
    ...(run.script === undefined ? {} : { Entrypoint: ['/bin/sh', '-c'], Parameters: [run.script] }),
    ...run.params,
  }
  const giveBack = async () => {
    await slot.release()
    rmSync(scratchDir, { recursive: true, force: true })
  }
  try {
    const running = await executor.start(
      {
        nodeId: nodeIds.get(executor) ?? 'n-test',
        jobId: `j-${randomUUID()}`,
        executionId,
        task: { Engine: { Type: 'docker', Params: params } } as unknown as TaskSpec,
        engine: { Type: 'docker', Params: params },
        env: run.env ?? {},
        resources: {
          cpu: run.cpu ?? 1,
          memoryBytes: run.memoryBytes ?? 128 * 1024 * 1024,
          diskBytes: 0,
          gpu: 0,
        },
        volumes: run.volumes ?? [],
        outputs: run.outputs ?? [],
        network: slot,
        output: {
          write(stream, data) {
            if (run.onOutput !== undefined) return run.onOutput(stream, data)
            out[stream]?.push(Buffer.from(data))
            return undefined
          },
        },
        scratchDir,
        ...(run.outputBytesMax === undefined ? {} : { outputBytesMax: run.outputBytesMax }),
      },
      (message) => progress.push(message),
      signal,
    )
    return {
      running,
      slot,
      executionId,
      progress,
      stdout: () => Buffer.concat(out.stdout ?? []).toString(),
      stderr: () => Buffer.concat(out.stderr ?? []).toString(),
      async end() {
        const exit = await running.exit
        await running.remove?.()
        await giveBack()
        return exit
      },
    }
  } catch (error) {
    await giveBack()
    throw error
  }
}

/** Runs a script to its end. */
export async function runScript(
  executor: DockerExecutor,
  run: TestRun,
): Promise<{ exit: RunExit; stdout: string; stderr: string; progress: string[] }> {
  const started = await startRun(executor, run)
  const exit = await started.end()
  return { exit, stdout: started.stdout(), stderr: started.stderr(), progress: started.progress }
}

/** Containers that carry a node's label. */
export async function containersOf(nodeId: string): Promise<Docker.ContainerInfo[]> {
  return docker.listContainers({ all: true, filters: { label: [`weir.node=${nodeId}`] } })
}

/** Polls until the condition holds; fails after thirty seconds. */
export async function eventually(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`not within thirty seconds: ${what}`)
}
