import { readFile, stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { WeirError, toWeirError } from '../../errors.js'
import { printable, quoted } from '../../model/printable.js'
import { validateWasm } from '../../model/wasm-validation.js'
import { EXIT } from '../exit-codes.js'
import { OBJECT_FORMATS, printObject, readFormat } from '../output-format.js'
import type { CliContext } from '../context.js'

const MODULE_BYTES_MAX = 256 * 1024 * 1024

/** `weir wasm validate FILE`: prints OK, or every reason why weir cannot run the module (exit code 1). */
export async function wasmValidate(
  file: string,
  flags: { entryPoint?: string; importModule?: string[]; output?: string },
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const bytes = await readModule(file, context)
  const imports = await Promise.all((flags.importModule ?? []).map((text) => readImport(text, context)))
  const { valid, problems, entryPoints } = validateWasm(bytes, {
    entryPoint: flags.entryPoint,
    imports,
    compile: true,
  })
  if (flags.output !== undefined) {
    const format = readFormat(flags.output, OBJECT_FORMATS)
    await printObject(terminal, { Valid: valid, Problems: problems, EntryPoints: entryPoints }, format, true)
    return valid ? EXIT.ok : EXIT.no
  }
  if (valid) {
    await terminal.data('OK\n')
    return EXIT.ok
  }
  for (const { message, hint } of problems) {
    terminal.talk(`${terminal.talkStyle.red('Error:')} ${printable(message)}`)
    if (hint !== '') terminal.talk(`${terminal.talkStyle.green('Hint:')} ${printable(hint)}`)
  }
  return EXIT.no
}

/** `FILE`, or `NAME=FILE` when imports ask for another name than the file's. */
async function readImport(text: string, context: CliContext): Promise<{ name: string; bytes: Uint8Array }> {
  const equals = text.indexOf('=')
  const file = equals > 0 ? text.slice(equals + 1) : text
  const name = equals > 0 ? text.slice(0, equals) : basename(file).replace(/\.wasm$/, '')
  return { name, bytes: await readModule(file, context) }
}

async function readModule(file: string, { cwd }: CliContext): Promise<Uint8Array> {
  const path = resolve(cwd, file)
  try {
    const { size } = await stat(path)
    if (size > MODULE_BYTES_MAX) {
      throw new WeirError(
        'wasm.invalid',
        `Cannot validate ${quoted(file)}: it has ${size} bytes, at most ${MODULE_BYTES_MAX} are read`,
      )
    }
    return await readFile(path)
  } catch (error) {
    throw toWeirError(error, 'cli.usage', `Cannot read ${quoted(file, 200)}`)
  }
}
