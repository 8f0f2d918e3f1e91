import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Docker from 'dockerode'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RunExit } from '../../../src/ports/index.js'
import { importBusybox, noRoot, removeImage, skipNote, startRun, testExecutor } from './with-docker.js'

const IMAGE = 'weir-test-engine:1'
const missing =
  noRoot !== '' ? noRoot : spawnSync('dockerd', ['--version']).status === 0 ? '' : 'needs the program dockerd'

/** An engine of the test's own, so that nobody else's containers end with it. */
class OwnEngine {
  readonly dir = mkdtempSync(join(tmpdir(), 'weir-dockerd-'))
  readonly socket = join(this.dir, 'docker.sock')
  readonly #more: string[]
  readonly #containerd: ChildProcess
  #child: ChildProcess | undefined

  constructor(more: string[] = []) {
    this.#more = more
    const log = openSync(join(this.dir, 'containerd.log'), 'a')
    const places = { '--root': 'c-root', '--state': 'c-state', '--address': 'containerd.sock' }
    const flags = Object.entries(places).flatMap(([name, place]) => [name, join(this.dir, place)])
    // As on real machines a service of its own, which lives on when the engine is restarted.
    this.#containerd = spawn('containerd', flags, { stdio: ['ignore', log, log] })
  }

  async start(): Promise<void> {
    const log = openSync(join(this.dir, 'log'), 'a')
    const options = {
      '--data-root': join(this.dir, 'data'),
      '--exec-root': join(this.dir, 'exec'),
      '--containerd': join(this.dir, 'containerd.sock'),
      '--pidfile': join(this.dir, 'pid'),
      '--host': `unix://${this.socket}`,
      '--bridge': 'none',
      '--iptables': 'false',
      '--storage-driver': 'vfs',
    }
    const flags = Object.entries(options).map(([name, value]) => `${name}=${value}`)
    this.#child = spawn('dockerd', [...flags, ...this.#more], { stdio: ['ignore', log, log] })
    const docker = new Docker({ socketPath: this.socket })
    for (const end = Date.now() + 30_000; ; ) {
      if (
        await docker.ping().then(
          () => true,
          () => false,
        )
      )
        return
      if (this.#child.exitCode !== null || Date.now() > end)
        throw new Error(`dockerd does not start: ${this.dir}/log`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill(signal)
    // An engine that is asked to stop can hang; then whoever runs it kills it, as service managers do.
    const patience = setTimeout(() => child.kill('SIGKILL'), 30_000)
    await gone
    clearTimeout(patience)
  }

  /** What the engine says of its containers, and the end of its log. */
  account(): string {
    const listed = spawnSync('docker', ['-H', `unix://${this.socket}`, 'ps', '-a'], { timeout: 5_000 })
    return `${String(listed.stdout)}${String(listed.stderr)}${textOf(join(this.dir, 'log')).slice(-4_000)}`
  }

  async close(): Promise<void> {
    await this.stop('SIGTERM')
    this.#endShims()
    const gone = once(this.#containerd, 'exit')
    this.#containerd.kill('SIGKILL')
    await gone
    spawnSync('sh', ['-c', `grep ' ${this.dir}' /proc/mounts | cut -d' ' -f2 | sort -r | xargs -r umount -l`])
    rmSync(this.dir, { recursive: true, force: true })
  }

  /** Containers that an engine leaves alone have a parent each, which names our socket. */
  #endShims(): void {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const command = textOf(`/proc/${pid}/cmdline`)
      if (!command.includes('containerd-shim') || !command.includes(this.dir)) continue
      const children = textOf(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean)
      for (const one of [...children, pid]) process.kill(Number(one), 'SIGKILL')
    }
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return '' // It has ended meanwhile.
  }
}

describe.skipIf(missing !== '')(
  `an engine that is restarted while a program runs${skipNote(missing)}`,
  () => {
    let engine: OwnEngine

    /** Gives the engine an image that the test's other engine has made. */
    async function startWithImage(more: string[] = []) {
      engine = new OwnEngine(more)
      await engine.start()
      const copied = spawnSync('sh', ['-c', `docker save ${IMAGE} | docker -H unix://${engine.socket} load`])
      if (copied.status !== 0) throw new Error(copied.stderr.toString())
      return testExecutor({ socketPath: engine.socket })
    }

    /** The end of the run; when it does not come, the engine's account tells why. */
    async function endOf(started: Awaited<ReturnType<typeof startRun>>): Promise<RunExit> {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(new Error(`the run does not end\n${engine.account()}`)), 40_000)
      })
      return Promise.race([started.end(), late]).finally(() => clearTimeout(timer))
    }

    beforeEach(() => importBusybox(IMAGE))
    afterEach(async () => {
      await engine.close()
      await removeImage(IMAGE)
    })

    it.each(['SIGTERM', 'SIGKILL'] as const)(
      'and ends it by that (%s) is named as the reason, and the job can be tried again',
      { timeout: 90_000 },
      async (signal) => {
        const executor = await startWithImage()
        const started = await startRun(executor, { image: IMAGE, script: 'echo begun; sleep 600' })
        await expect.poll(() => started.stdout()).toBe('begun\n')
        await engine.stop(signal)
        await engine.start()
        const exit = await endOf(started)
        expect(exit).toMatchObject({ code: 'engine.failed', retryable: true })
        expect(exit.message).toMatch(/engine/)
        await executor.close()
      },
    )

    it('and leaves it alone loses nothing of its output', { timeout: 90_000 }, async () => {
      const executor = await startWithImage(['--live-restore'])
      const script = 'i=0; while [ $i -lt 100 ]; do echo $i; usleep 50000; i=$((i+1)); done; exit 3'
      const started = await startRun(executor, { image: IMAGE, script })
      await expect.poll(() => started.stdout().length).toBeGreaterThan(10)
      await engine.stop('SIGKILL')
      await engine.start()
      const exit = await endOf(started)
      expect(exit).toMatchObject({ exitCode: 3, code: '' })
      expect(started.stdout()).toBe(Array.from({ length: 100 }, (_, index) => `${index}\n`).join(''))
      await executor.close()
    })
  },
)
