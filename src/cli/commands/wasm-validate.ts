import { createHash } from 'node:crypto'
import { WeirError } from '../../errors.js'
import { blobCid, isBlobCid } from '../../model/content-id.js'
import { printable } from '../../model/printable.js'
import { validateWasm } from '../../model/wasm-validation.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { isLocalProgram, readModuleArgument } from '../job-from-flags.js'
import { readModule } from '../local-program.js'
import { reportAsObject, reportAsText } from '../module-report.js'
import { OBJECT_FORMATS, printObject } from '../output-format.js'
import { readChoice } from '../read-choice.js'
import { shellWord } from '../shell-word.js'
import type { CliContext, GlobalFlags } from '../context.js'

export interface ValidateFlags extends GlobalFlags {
  entryPoint?: string
  importModule?: string[]
  namespace?: string
  output?: string
}

/** `weir wasm validate FILE|CID`: what the module is and needs, and OK or every reason why weir cannot run it (exit code 1). */
export async function wasmValidate(file: string, flags: ValidateFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const bytes = await readProgram(file, flags, context)
  const imports: { name: string; bytes: Uint8Array }[] = []
  const unknownImports: string[] = []
  for (const { name, program } of (flags.importModule ?? []).map(readModuleArgument)) {
    if (isLocalProgram(program) || isBlobCid(program))
      imports.push({ name, bytes: await readProgram(program, flags, context) })
    else unknownImports.push(name)
  }
  const { entryPoint } = flags
  const report = validateWasm(bytes, { entryPoint, imports, unknownImports, compile: true })
  const cid = blobCid(createHash('sha256').update(bytes).digest())
  const lookedAt = { file, cid, bytes: bytes.length, report }
  const exitCode = report.valid ? EXIT.ok : EXIT.no
  if (flags.output !== undefined) {
    const format = readChoice('--output', flags.output, OBJECT_FORMATS)
    await printObject(terminal, reportAsObject(lookedAt), format, true)
    return exitCode
  }
  await terminal.data(reportAsText(lookedAt, terminal))
  for (const { message, hint } of report.problems) {
    terminal.talk(`${terminal.talkStyle.red('Error:')} ${printable(message)}`)
    if (hint !== '') terminal.talk(`${terminal.talkStyle.green('Hint:')} ${printable(hint)}`)
  }
  if (!report.valid) return exitCode
  await terminal.data('\nOK\n')
  const network = report.asksForHttp ? '--network http --domain example.com ' : ''
  if (report.asksForHttp)
    terminal.talk(
      'It asks for HTTP: without --network http, and the hosts it needs, it is told that there is none (denied)',
    )
  suggest(terminal, [['Run it:', `weir wasm run ${network}${shellWord(file)}`]])
  return exitCode
}

/** A file of this machine, or what the server holds under the CID. */
async function readProgram(
  program: string,
  flags: Pick<ValidateFlags, 'namespace'> & GlobalFlags,
  context: CliContext,
): Promise<Uint8Array> {
  if (!isBlobCid(program)) return readModule(program, context)
  const { namespace } = flags
  const content = await withClient(flags, context, (client) => client.blobContent(program, { namespace }))
  if (blobCid(createHash('sha256').update(content).digest()) === program) return content
  throw new WeirError('api.failed', `Cannot use what the server sent as ${program}: it is other content`)
}
