import type { SandboxStatus } from './sandbox/job.js'

/**
 * Reads the status lines of a sandbox. What comes from there is not trusted: lines are bounded, and whatever is not a
 * status is refused.
 */
export class StatusReader {
  readonly #bytesMax: number
  readonly #ready = deferred<'ready' | 'closed'>()
  readonly #answer = deferred<SandboxStatus | undefined>()
  #text = ''
  #bytes = 0
  /** The last status after `ready`. */
  last: SandboxStatus | undefined

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** False when the sandbox does not keep to the protocol. */
  push(bytes: Buffer): boolean {
    this.#bytes += bytes.length
    if (this.#bytes > this.#bytesMax) return false
    this.#text += bytes.toString('utf8')
    const lines = this.#text.split('\n')
    this.#text = lines.pop() ?? ''
    return lines.every((line) => this.#take(line))
  }

  /** True once the program's end, or the refusal to run it, was told. */
  get hasEnded(): boolean {
    return this.last !== undefined && this.last.status !== 'started'
  }

  close(): void {
    this.#ready.resolve('closed')
    this.#answer.resolve(undefined)
  }

  ready(): Promise<'ready' | 'closed'> {
    return this.#ready.promise
  }

  afterReady(): Promise<SandboxStatus | undefined> {
    return this.#answer.promise
  }

  #take(line: string): boolean {
    const status = parseStatus(line)
    if (status === undefined) return false
    if (status.status === 'ready') {
      this.#ready.resolve('ready')
      return true
    }
    // After the end nothing counts any more.
    if (!this.hasEnded) this.last = status
    this.#answer.resolve(status)
    return true
  }
}

function parseStatus(line: string): SandboxStatus | undefined {
  let value: Partial<Record<string, unknown>>
  try {
    value = JSON.parse(line) as Partial<Record<string, unknown>>
  } catch {
    return undefined
  }
  const { status } = value
  if (status === 'ready') return { status }
  if (status === 'started') return { status, fromCode: count(value.fromCode) }
  if (status === 'code') return { status, good: value.good === true }
  if (status === 'refused') {
    const code = (['wasm.invalid', 'wasm.imports', 'wasm.entry_point', 'memory'] as const).find(
      (one) => one === value.code,
    )
    return code === undefined ? undefined : { status, code, message: text(value.message) }
  }
  if (status !== 'ended') return undefined
  const how = (['returned', 'exit', 'raise', 'trap'] as const).find((one) => one === value.how)
  if (how === undefined) return undefined
  return {
    status,
    how,
    value: count(value.value),
    message: text(value.message),
    memoryPages: count(value.memoryPages),
    outOfMemory: value.outOfMemory === true,
    diskFull: value.diskFull === true,
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 4_000) : ''
}

function count(value: unknown): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffffffff ? value : 0
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
