import { constants } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { WeirError } from '../../errors.js'
import {
  type WasmEngineParams,
  type WasmModule,
  formatBytes,
  ownPages,
  readWasmModule,
  validateWasm,
} from '../../model/index.js'
import type { RunModules } from '../../ports/index.js'
import type { WasmLimits } from './options.js'

export interface LoadedModule {
  /** File name of the entry module, or the name that imports ask for. */
  name: string
  bytes: Buffer
}

export interface LoadedModules {
  entry: LoadedModule
  imports: LoadedModule[]
  /** The core modules of a component; undefined when the entry module is one itself. */
  parts: (LoadedModule & { tableElements: number })[] | undefined
  /** Pages of 64 KiB that the modules' memories have at the start. */
  initialPages: number
}

/**
 * Reads the modules of a run and checks that they can work together, before anything is started.
 *
 * @throws WeirError `wasm.invalid`, `wasm.imports`, `wasm.entry_point`; several problems are told in one message.
 */
export async function loadModules(
  modules: RunModules | undefined,
  params: WasmEngineParams,
  limits: WasmLimits,
): Promise<LoadedModules> {
  if (modules === undefined) throw new WeirError('wasm.invalid', 'The run carries no WebAssembly module')
  if (modules.imports.length > limits.importModulesMax) {
    throw new WeirError(
      'wasm.imports',
      `The job has ${modules.imports.length} import modules, ${limits.importModulesMax} are allowed`,
    )
  }
  const entry = await load(modules.entry.hostPath, '', limits)
  const imports: LoadedModule[] = []
  for (const { alias, volume } of modules.imports) imports.push(await load(volume.hostPath, alias, limits))
  const named = withShortNames(imports, entry)
  const report = validateWasm(entry.bytes, { entryPoint: params.EntryPoint, imports: named })
  const [first, ...others] = report.problems
  if (first !== undefined) {
    const also = others.map((one) => `; also: ${one.message}`).join('')
    throw new WeirError(first.code, first.message + also.slice(0, 2_000), { hint: first.hint })
  }
  const used = named.map((one) => readWasmModule(one.bytes))
  if (report.module !== undefined) used.push(report.module)
  const core = report.component?.modules.map(({ module }) => module) ?? []
  checkTables([...used, ...core])
  const initialPages =
    used.reduce((sum, one) => sum + (one.memories[0]?.min ?? 0), 0) +
    core.reduce((sum, one) => sum + ownPages(one), 0)
  const parts = report.component?.modules.map(({ module, start, end }, index) => ({
    name: `${entry.name} (core module ${index})`,
    bytes: entry.bytes.subarray(start, end),
    tableElements: module.tables.reduce((sum, one) => sum + one.min, 0),
  }))
  return { entry, imports: named, parts, initialPages }
}

const TABLE_ELEMENTS_MAX = 10_000_000
/** Each of them can grow to a million elements. Compilers make one or two. */
const TABLES_MAX = 16

/** Tables live outside the guest's memory, so they have a bound of their own. */
function checkTables(modules: WasmModule[]): void {
  for (const { tables } of modules) {
    if (tables.length <= TABLES_MAX) continue
    throw new WeirError('wasm.invalid', `A module has ${tables.length} tables, ${TABLES_MAX} are allowed`)
  }
  const elements = modules.flatMap((one) => one.tables).reduce((sum, one) => sum + one.min, 0)
  if (elements <= TABLE_ELEMENTS_MAX) return
  throw new WeirError(
    'wasm.invalid',
    `The tables of the module have ${elements} elements, ${TABLE_ELEMENTS_MAX} are allowed`,
  )
}

async function load(path: string, alias: string, limits: WasmLimits): Promise<LoadedModule> {
  const file = await theFile(path)
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const found = await handle.stat()
    if (!found.isFile())
      throw new WeirError(
        'wasm.invalid',
        `The module ${JSON.stringify(basename(file))} is not a regular file`,
      )
    if (found.size > limits.moduleBytesMax) {
      const sizes = `${formatBytes(found.size)}, ${formatBytes(limits.moduleBytesMax)} are allowed`
      throw new WeirError('wasm.invalid', `The module ${JSON.stringify(basename(file))} has ${sizes}`, {
        hint: 'Strip it (wasm-strip, wasm-opt -Oz), or ask the operator for a higher limit',
      })
    }
    const bytes = Buffer.alloc(found.size)
    const { bytesRead } = await handle.read(bytes, 0, found.size, 0)
    return { name: alias === '' ? basename(file) : alias, bytes: bytes.subarray(0, bytesRead) }
  } finally {
    await handle.close()
  }
}

/** A source may deliver a directory with the one file in it. */
async function theFile(path: string): Promise<string> {
  if (!(await stat(path)).isDirectory()) return path
  const names = await readdir(path)
  const [only] = names
  if (names.length === 1 && only !== undefined) return join(path, only)
  throw new WeirError('wasm.invalid', `A module must be one file, its source gave ${names.length}`, {
    hint: 'Name the file itself as the source of the module',
  })
}

/** Without an alias, `math.wasm` answers to the name of its file and to `math`, whichever is asked for. */
function withShortNames(imports: LoadedModule[], entry: LoadedModule): LoadedModule[] {
  const asked = new Set<string>()
  for (const { bytes } of [entry, ...imports]) {
    try {
      for (const one of readWasmModule(bytes).imports) asked.add(one.module)
    } catch {
      // Not readable: the validation that follows says so.
    }
  }
  return imports.map((one) => {
    const short = one.name.replace(/\.wasm$/, '')
    return !asked.has(one.name) && asked.has(short) ? { ...one, name: short } : one
  })
}
