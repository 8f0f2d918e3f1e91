import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import type { Socket as UdpSocket } from 'node:dgram'
import type { Server, Socket } from 'node:net'
import { entryPoint } from '../package-root.js'

/** A network namespace whose sockets are made inside and used here. */
export class Namespace {
  readonly name: string
  readonly #agent: ChildProcess
  readonly #waiting = new Map<
    number,
    { resolve: (handle: unknown) => void; reject: (error: Error) => void }
  >()
  #next = 1

  private constructor(name: string) {
    this.name = name
    this.#agent = spawn(
      'ip',
      ['netns', 'exec', name, process.execPath, entryPoint('conformance/namespace-agent.js')],
      {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      },
    )
    this.#agent.on('message', ({ id, error }: { id: number; error?: string }, handle) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) waiting?.resolve(handle)
      else waiting?.reject(new Error(`${name}: ${error}`))
    })
  }

  static create(name: string): Namespace {
    ip('netns', 'add', name)
    ip('-n', name, 'link', 'set', 'lo', 'up')
    return new Namespace(name)
  }

  get path(): string {
    return `/var/run/netns/${this.name}`
  }

  listen(host: string, port: number): Promise<Server> {
    return this.#make('listen', host, port)
  }

  udp(host: string, port: number): Promise<UdpSocket> {
    return this.#make('udp', host, port)
  }

  connect(host: string, port: number): Promise<Socket> {
    return this.#make('connect', host, port)
  }

  close(): void {
    this.#agent.kill('SIGKILL')
    ip('netns', 'del', this.name)
  }

  #make<T>(make: string, host: string, port: number): Promise<T> {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (handle: unknown) => void, reject })
      this.#agent.send({ id, make, host, port })
    })
  }
}

/** Runs `ip` with these arguments; throws when it fails. */
export function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** Why network namespaces cannot be made here; undefined when they can. */
export function namespacesMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  try {
    const name = `weir-probe-${process.pid}`
    ip('netns', 'add', name)
    ip('netns', 'del', name)
    return undefined
  } catch {
    return 'needs network namespaces (ip netns)'
  }
}
