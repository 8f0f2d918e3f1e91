import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { WeirError, toWeirError } from '../errors.js'
import type { InputSourceSpec } from '../model/job-spec.js'
import { formatBytes } from '../model/resources.js'
import { task, wasmEngine } from '../model/task-accessors.js'
import type { RunModules, StorageSource, Volume } from '../ports/index.js'
import { kind } from './admission.js'
import { bounded } from './bounded-work.js'
import { measureDisk } from './disk-use.js'
import type { Run } from './run.js'

/** Everything that was fetched. */
export interface PreparedInputs {
  volumes: Volume[]
  /** WASM only. */
  modules?: RunModules
  /** On the node's disk, for this run alone. */
  bytes: number
}

/**
 * Fetches the task's inputs and modules side by side below `inputs/`. Together they may use `diskBytesMax`; what is
 * known to be larger is refused before anything is fetched. Rejects with `source.*`; the first failure ends the others.
 */
export async function prepareInputs(run: Run): Promise<PreparedInputs> {
  const fetches = plan(run)
  if (fetches.length === 0) return { volumes: [], bytes: 0 }
  const { clock, limits } = run.parts
  await refuseTooLarge(run, fetches)
  run.note({ topic: TOPIC, message: `Downloading ${count(fetches.length, 'input')}` })
  const fetched = await bounded((signal) => fetchAll(run, fetches, signal), {
    clock,
    signal: run.signal,
    ms: limits.inputsTimeoutMs,
    timeout: () =>
      new WeirError(
        'source.unavailable',
        `Cannot fetch the inputs within ${limits.inputsTimeoutMs / 1000} s`,
        {
          retryable: true,
          hint: 'Use smaller inputs or a node closer to the data',
        },
      ),
  })
  const { bytes } = await measureDisk([run.dirs.inputs], EVERYTHING, run.signal)
  if (bytes > run.diskBytesMax) throw tooLarge(bytes, run.diskBytesMax)
  run.note({ topic: TOPIC, message: `Inputs are ready (${formatBytes(bytes)} on disk)` })
  return { ...arrange(run, fetched), bytes }
}

interface Fetch {
  input: InputSourceSpec
  source: StorageSource
  intoDir: string
}

const TOPIC = 'Downloading Inputs'
const PROGRESS_MS = 2_000
const EVERYTHING = { bytesMax: Infinity, filesMax: Infinity }

/** Inputs first, then the entry module, then the imported ones. */
function plan({ desired, parts, dirs }: Run): Fetch[] {
  const of = task(desired.jobSpec)
  const modules = kind(of.Engine.Type) === 'wasm' ? wasmEngine(of) : undefined
  const inputs = of.InputSources.map((input, index) => ({ input, name: String(index) }))
  const programs = modules === undefined ? [] : [modules.EntryModule, ...modules.ImportModules]
  return [...inputs, ...programs.map((input, index) => ({ input, name: `module-${index}` }))].map(
    ({ input, name }) => {
      const source = parts.sources.get(kind(input.Source.Type))
      if (source === undefined) {
        throw new WeirError('compute.source', `This node does not offer input source "${input.Source.Type}"`)
      }
      return { input, source, intoDir: join(dirs.inputs, name) }
    },
  )
}

/** A size that cannot be known, or not in time, says nothing: the fetch is bounded as well. */
async function refuseTooLarge(run: Run, fetches: readonly Fetch[]): Promise<void> {
  const { clock, limits } = run.parts
  const sizes = await Promise.all(
    fetches.map(async ({ input, source }) => {
      try {
        return await bounded((signal) => source.measure(input, signal), {
          clock,
          signal: run.signal,
          ms: limits.checkTimeoutMs,
          timeout: () => new WeirError('source.unavailable', 'Cannot measure an input in time'),
        })
      } catch {
        run.signal.throwIfAborted()
        return undefined
      }
    }),
  )
  const known = sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0)
  if (known > run.diskBytesMax) throw tooLarge(known, run.diskBytesMax)
}

async function fetchAll(run: Run, fetches: readonly Fetch[], signal: AbortSignal): Promise<Volume[][]> {
  const budget = new FetchBudget(run, signal)
  const volumes: Volume[][] = []
  const todo = fetches.entries()
  const work = async () => {
    for (const [index, fetch] of todo) volumes[index] = await fetchOne(fetch, budget, index)
  }
  const workers = Array.from({ length: run.parts.limits.inputsParallelMax }, work)
  try {
    await Promise.all(workers.map((worker) => worker.catch((error: unknown) => budget.fail(error))))
  } finally {
    budget.close()
  }
  if (budget.failure !== undefined) throw budget.failure
  return volumes
}

async function fetchOne(
  { input, source, intoDir }: Fetch,
  budget: FetchBudget,
  index: number,
): Promise<Volume[]> {
  await mkdir(intoDir, { recursive: true, mode: 0o700 })
  budget.signal.throwIfAborted()
  const limits = {
    bytesMax: budget.left,
    progress: (bytes: number) => budget.progress(index, bytes),
  }
  try {
    return await source.fetch(input, intoDir, limits, budget.signal)
  } catch (error) {
    budget.signal.throwIfAborted()
    throw toWeirError(error, 'source.unavailable', `Cannot fetch input "${input.Source.Type}"`)
  }
}

/** The disk that all fetches share: whoever passes the bound ends all of them. */
class FetchBudget {
  /** The first thing that went wrong. */
  failure: unknown
  readonly #run: Run
  readonly #end = new AbortController()
  readonly #outer: AbortSignal
  readonly #bytes = new Map<number, number>()
  #reportedMs: number

  constructor(run: Run, outer: AbortSignal) {
    this.#run = run
    this.#outer = outer
    this.#reportedMs = run.parts.clock.now()
    outer.addEventListener('abort', this.#forward, { once: true })
  }

  get signal(): AbortSignal {
    return this.#end.signal
  }

  get used(): number {
    return [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  get left(): number {
    return Math.max(0, this.#run.diskBytesMax - this.used)
  }

  progress(index: number, bytes: number): void {
    this.#bytes.set(index, bytes)
    if (this.used > this.#run.diskBytesMax) this.fail(tooLarge(this.used, this.#run.diskBytesMax))
    const nowMs = this.#run.parts.clock.now()
    if (nowMs - this.#reportedMs < PROGRESS_MS) return
    this.#reportedMs = nowMs
    this.#run.note({ topic: TOPIC, message: `Downloaded ${formatBytes(this.used)}` })
  }

  fail(error: unknown): void {
    this.failure ??= error
    this.#end.abort(error)
  }

  close(): void {
    this.#outer.removeEventListener('abort', this.#forward)
  }

  readonly #forward = () => this.fail(this.#outer.reason)
}

function arrange({ desired }: Run, fetched: Volume[][]): { volumes: Volume[]; modules?: RunModules } {
  const of = task(desired.jobSpec)
  const inputs = fetched.slice(0, of.InputSources.length)
  const [entry, ...imports] = fetched.slice(of.InputSources.length)
  const volumes = inputs.flat()
  if (entry === undefined) return { volumes }
  const aliases = wasmEngine(of).ImportModules.map(({ Alias }) => Alias)
  return {
    volumes,
    modules: {
      entry: onlyVolume(entry),
      imports: imports.map((made, index) => ({ alias: aliases[index] ?? '', volume: onlyVolume(made) })),
    },
  }
}

function onlyVolume(volumes: readonly Volume[]): Volume {
  const [volume] = volumes
  if (volume !== undefined && volumes.length === 1) return volume
  throw new WeirError('wasm.invalid', `A module must be one file, its source gave ${volumes.length}`, {
    hint: 'Name the file itself as the source of the module',
  })
}

function tooLarge(bytes: number, bytesMax: number): WeirError {
  return new WeirError(
    'source.too_large',
    `The inputs need ${formatBytes(bytes)} of disk, the execution may use ${formatBytes(bytesMax)}`,
    { hint: 'Ask for more disk (--disk), or use smaller inputs' },
  )
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}
