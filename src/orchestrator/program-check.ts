import { isWeirError, WeirError } from '../errors.js'
import { isBlobType, task, validateWasm, wasmEngine } from '../model/index.js'
import type { ImportModule, JobSpec, SpecConfig, SpecProblem } from '../model/index.js'
import type { ReadContent } from '../ports/index.js'
import { Turns } from './turns.js'

/** What the engine takes; larger modules are judged by the node. */
const MODULE_BYTES_MAX = 128 * 1024 * 1024

/** Programs whose modules are all named by content are looked at once: so many are remembered. */
const KNOWN_MAX = 1_000

/** Looks at programs one after the other, because a program may be large. */
export class ProgramChecks {
  readonly #read: ReadContent
  readonly #turns = new Turns()
  /** Programs that were found good; content never changes, so neither does the verdict. */
  readonly #known = new Set<string>()

  constructor(read: ReadContent) {
    this.#read = read
  }

  /** Rejects with `spec.invalid`, see {@link checkProgram}. */
  async check(spec: JobSpec): Promise<void> {
    if (task(spec).Engine.Type !== 'wasm') return
    const key = contentKey(spec)
    if (key !== undefined && this.#known.has(key)) return
    await this.#turns.take('', () => checkProgram(spec, this.#read))
    if (key === undefined) return
    const [oldest] = this.#known
    if (this.#known.size >= KNOWN_MAX && oldest !== undefined) this.#known.delete(oldest)
    this.#known.add(key)
  }
}

/** Undefined when a module is not named by content. That the namespace holds it was asked before. */
function contentKey(spec: JobSpec): string | undefined {
  const { EntryModule, EntryPoint, ImportModules } = wasmEngine(task(spec))
  const modules = [EntryModule, ...ImportModules]
  if (!modules.every(({ Source }) => isBlobType(Source.Type))) return undefined
  return JSON.stringify([EntryPoint, ...modules.map(({ Source, Alias }) => [Source.Params?.CID, Alias])])
}

/**
 * Looks at the program of a wasm job before the job is placed, as far as its modules are at hand. Rejects with
 * `spec.invalid` and all problems. What is fetched from elsewhere is judged by the node that fetches it.
 */
async function checkProgram(spec: JobSpec, read: ReadContent): Promise<void> {
  const { Engine } = task(spec)
  if (Engine.Type !== 'wasm') return
  const { EntryModule, EntryPoint, ImportModules } = wasmEngine(task(spec))
  const namespace = spec.Namespace === '' ? 'default' : spec.Namespace
  const problems: SpecProblem[] = []
  const readModule = async (source: SpecConfig, path: string): Promise<Uint8Array | undefined> => {
    try {
      return await read(source, namespace, MODULE_BYTES_MAX)
    } catch (error) {
      if (!isWeirError(error, 'source.refused', 'source.unavailable', 'source.too_large')) throw error
      problems.push({ path, message: error.message, hint: error.hint })
      return undefined
    }
  }
  const entry = await readModule(EntryModule.Source, `${ENGINE}.EntryModule`)
  const imports: ImportModule[] = []
  const unknownImports: string[] = []
  for (const [index, { Source, Alias }] of ImportModules.entries()) {
    const bytes = await readModule(Source, `${ENGINE}.ImportModules[${index}]`)
    // Without an alias it answers to the name of a file that only the node will know.
    if (bytes === undefined || Alias === '') unknownImports.push(Alias)
    else imports.push({ name: Alias, bytes })
  }
  if (entry !== undefined) {
    const report = validateWasm(entry, { entryPoint: EntryPoint || undefined, imports, unknownImports })
    const path = `${ENGINE}.EntryModule`
    problems.push(...report.problems.map(({ message, hint }) => ({ path, message, hint })))
  }
  if (problems.length === 0) return
  throw new WeirError('spec.invalid', problems.map(({ message }) => message).join('\n'), {
    hint: problems.length === 1 ? problems[0]?.hint : undefined,
    details: { problems },
  })
}

const ENGINE = 'Tasks[0].Engine.Params'
