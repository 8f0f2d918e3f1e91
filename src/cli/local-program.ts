import { resolve } from 'node:path'
import { WeirError } from '../errors.js'
import { isLocalProgram, readModuleArgument } from './job-from-flags.js'
import { readLocalFile } from './read-local-file.js'
import type { CliContext } from './context.js'
import type { FlagProblems } from './flag-problems.js'
import type { WasmFlags } from './job-from-flags.js'

/** Larger modules are not read here. */
export const MODULE_BYTES_MAX = 256 * 1024 * 1024

/**
 * Looks at a local program before it is sent: a file that is no module, or that needs functions nobody provides, costs
 * no job. What import modules from elsewhere export is not known here.
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
  const { imports, unknownImports } = await readImports(flags, context)
  const { problems: found } = validateWasm(bytes, { entryPoint: flags.entryPoint, imports, unknownImports })
  for (const { code, message, hint } of found) problems.add('PROGRAM', new WeirError(code, message, { hint }))
}

/** Import modules of this machine with their content, and the names of the others. */
async function readImports(
  flags: Pick<WasmFlags, 'importModule' | 'importModuleUrls' | 'importModuleVolumes'>,
  context: Pick<CliContext, 'cwd'>,
): Promise<{ imports: { name: string; bytes: Uint8Array }[]; unknownImports: string[] }> {
  const given = [...(flags.importModule ?? []), ...(flags.importModuleVolumes ?? [])].map(readModuleArgument)
  const imports: { name: string; bytes: Uint8Array }[] = []
  const unknownImports = (flags.importModuleUrls ?? []).map(() => '')
  for (const { name, program } of given) {
    const bytes = isLocalProgram(program)
      ? await readModule(program, context).catch(() => undefined) // Reported where it is sent.
      : undefined
    if (bytes === undefined) unknownImports.push(name)
    else imports.push({ name, bytes })
  }
  return { imports, unknownImports }
}

/** Throws `cli.usage` when the file cannot be read, `wasm.invalid` when it is too large. */
export function readModule(file: string, { cwd }: Pick<CliContext, 'cwd'>): Promise<Uint8Array> {
  return readLocalFile(resolve(cwd, file), {
    what: 'the module',
    bytesMax: MODULE_BYTES_MAX,
    tooLarge: 'wasm.invalid',
  })
}
