import { basename } from 'node:path'
import { printable } from '../../model/printable.js'
import { validateWasm } from '../../model/wasm-validation.js'
import { EXIT } from '../exit-codes.js'
import { OBJECT_FORMATS, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { readModule } from '../local-program.js'
import type { CliContext } from '../context.js'

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
    const format = readChoice('--output', flags.output, OBJECT_FORMATS)
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
