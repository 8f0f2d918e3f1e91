import { resolve } from 'node:path'
import { WeirError } from '../errors.js'
import { readLocalFile } from './read-local-file.js'
import type { CliContext } from './context.js'
import type { FlagProblems } from './flag-problems.js'
import type { WasmFlags } from './job-from-flags.js'

/** Larger modules are not read here. */
export const MODULE_BYTES_MAX = 256 * 1024 * 1024

/**
 * Looks at a local program before it is sent: a file that is no module, or that needs functions nobody provides, costs
 * no job. What import modules export is known to the node only, so with them just the form is checked.
 */
export async function checkLocalProgram(
  program: string,
  flags: WasmFlags,
  problems: FlagProblems,
  context: Pick<CliContext, 'cwd'>,
): Promise<void> {
  let bytes: Uint8Array
  try {
    bytes = await readModule(program, context)
  } catch {
    return // Sending it failed for the same reason, which is reported.
  }
  const { validateWasm } = await import('../model/wasm-validation.js')
  const { problems: found, module } = validateWasm(bytes, { entryPoint: flags.entryPoint })
  const hasImportModules =
    (flags.importModuleUrls ?? []).length + (flags.importModuleVolumes ?? []).length > 0
  if (hasImportModules && module !== undefined) return
  for (const { code, message, hint } of found) problems.add('PROGRAM', new WeirError(code, message, { hint }))
}

/** Throws `cli.usage` when the file cannot be read, `wasm.invalid` when it is too large. */
export function readModule(file: string, { cwd }: Pick<CliContext, 'cwd'>): Promise<Uint8Array> {
  return readLocalFile(resolve(cwd, file), {
    what: 'the module',
    bytesMax: MODULE_BYTES_MAX,
    tooLarge: 'wasm.invalid',
  })
}
