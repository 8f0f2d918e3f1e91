import fs from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

/** What a disk does with one call; see {@link mountFiles}. */
export interface FileFaults {
  /** Called before each call that is not over at once; rejects when the disk is full, never resolves for a dead process. */
  before: (path: string, call: string) => Promise<void> | undefined
}

interface Mount extends FileFaults {
  dir: string
  /** Per file: what a power cut leaves of it, while its content is not on the platter yet. Undefined = no file. */
  unsynced: Map<string, Buffer | undefined>
}

const mounts = new Map<string, Mount>()
let isInstalled = false

/**
 * From now on calls of `node:fs/promises` below `dir` are done at once and in the order in which they are made, so that
 * the world is the same each time; everywhere else they are what they were. The files are real ones.
 */
export function mountFiles(
  dir: string,
  faults: FileFaults,
): { powerCut(survives: () => boolean): void; unmount(): void } {
  install()
  const mount: Mount = { dir, ...faults, unsynced: new Map() }
  mounts.set(dir, mount)
  return {
    powerCut: (survives) => powerCut(mount, survives),
    unmount: () => void mounts.delete(dir),
  }
}

function powerCut(mount: Mount, survives: () => boolean): void {
  for (const [path, before] of mount.unsynced) {
    if (survives()) continue
    if (before === undefined) fs.rmSync(path, { force: true })
    else if (fs.existsSync(path)) fs.writeFileSync(path, before)
  }
  mount.unsynced.clear()
}

function mountOf(path: unknown): Mount | undefined {
  if (typeof path !== 'string' || mounts.size === 0) return undefined
  for (const mount of mounts.values())
    if (path === mount.dir || path.startsWith(`${mount.dir}/`)) return mount
  return undefined
}

type Call = (...args: never[]) => Promise<unknown>

/** Calls whose first argument is a path, done by the call of the same name that does not wait. */
function diverted(name: string, original: Call, atOnce: (...args: never[]) => unknown): Call {
  return async (...args: never[]) => {
    const mount = mountOf(args[0])
    if (mount === undefined) return original(...args)
    await mount.before(args[0] as unknown as string, name)
    return atOnce(...args)
  }
}

function install(): void {
  if (isInstalled) return
  isInstalled = true
  const own = promises as unknown as Record<string, Call>
  const sync = fs as unknown as Record<string, (...args: never[]) => unknown>
  for (const name of Object.keys(own)) {
    const atOnce = sync[`${name}Sync`]
    if (typeof own[name] === 'function' && atOnce !== undefined) own[name] = diverted(name, own[name], atOnce)
  }
  const readdir = own.readdir as Call
  own.readdir = async (...args) => {
    const names = await readdir(...args)
    return mountOf(args[0]) === undefined ? names : (names as string[]).toSorted()
  }
  own.rename = diverted(
    'rename',
    own.rename as Call,
    ((from: string, to: string) => {
      const mount = mountOf(to)
      if (mount !== undefined && !mount.unsynced.has(to)) {
        mount.unsynced.set(to, fs.existsSync(to) ? fs.readFileSync(to) : undefined)
      }
      fs.renameSync(from, to)
    }) as never,
  )
  own.open = diverted(
    'open',
    own.open as Call,
    ((path: string, flags: string, mode?: number) =>
      new Handle(path, fs.openSync(path, flags, mode))) as never,
  )
  syncBuiltinESMExports()
}

/** What the node uses of a `FileHandle`. */
class Handle {
  readonly #path: string
  readonly #fd: number

  constructor(path: string, fd: number) {
    this.#path = path
    this.#fd = fd
  }

  get fd(): number {
    return this.#fd
  }

  async writeFile(data: Uint8Array | string): Promise<void> {
    await mountOf(this.#path)?.before(this.#path, 'write')
    fs.writeSync(this.#fd, data as Uint8Array)
  }

  async write(data: Uint8Array, offset = 0, length = data.length, at: number | null = null): Promise<object> {
    await mountOf(this.#path)?.before(this.#path, 'write')
    return { bytesWritten: fs.writeSync(this.#fd, data, offset, length, at), buffer: data }
  }

  async read(buffer: Uint8Array, offset: number, length: number, at: number | null): Promise<object> {
    return { bytesRead: fs.readSync(this.#fd, buffer, offset, length, at), buffer }
  }

  async stat(): Promise<fs.Stats> {
    return fs.fstatSync(this.#fd)
  }

  async truncate(length = 0): Promise<void> {
    fs.ftruncateSync(this.#fd, length)
  }

  async readFile(options?: BufferEncoding): Promise<string | Buffer> {
    return fs.readFileSync(this.#fd, options)
  }

  async sync(): Promise<void> {
    await mountOf(this.#path)?.before(this.#path, 'sync')
    mountOf(this.#path)?.unsynced.delete(this.#path)
  }

  async datasync(): Promise<void> {
    return this.sync()
  }

  async close(): Promise<void> {
    fs.closeSync(this.#fd)
  }
}
