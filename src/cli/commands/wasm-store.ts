import { resolve } from 'node:path'
import { WeirError } from '../../errors.js'
import { readWasmComponent } from '../../model/wasm-component.js'
import { isWasmComponent, readWasmModule } from '../../model/wasm-module.js'
import { formatBytes } from '../../model/resources.js'
import { quoted } from '../../model/printable.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { readLocalBlob, sendBlob } from '../local-blobs.js'
import { readModule } from '../local-program.js'
import { printList } from '../output-format.js'
import { dateTime } from '../times.js'
import type { WireBlob } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

/** `weir wasm upload FILE`: prints the CID under which jobs of the namespace can name the module. */
export async function wasmUpload(
  file: string,
  flags: GlobalFlags & { namespace?: string },
  context: CliContext,
): Promise<number> {
  checkForm(await readModule(file, context), file)
  const blob = await readLocalBlob(resolve(context.cwd, file), file, true)
  const { terminal } = context
  return withClient(flags, context, async (client) => {
    await sendBlob(client, flags.namespace ?? '', blob, (line) => terminal.talk(line))
    await terminal.data(`${blob.cid}\n`)
    suggest(terminal, [['Run it:', `weir wasm run ${blob.cid}`]])
    return EXIT.ok
  })
}

/** `weir wasm list`: what the namespace holds, last used first. */
export async function wasmList(
  flags: GlobalFlags & ListFlags & { namespace?: string },
  context: CliContext,
): Promise<number> {
  return withClient(flags, context, async (client) => {
    const { Items } = await client.blobs({ namespace: flags.namespace })
    const format = await printList(context.terminal, { rows: Items, columns: COLUMNS, items: Items }, flags)
    if (format === 'table' && Items.length === 0) context.terminal.talk('Nothing was uploaded')
    return EXIT.ok
  })
}

const COLUMNS: Column<WireBlob>[] = [
  { header: 'CID', value: ({ CID }) => CID, cutFirst: 0 },
  { header: 'SIZE', value: ({ Bytes }) => formatBytes(Bytes), alignRight: true },
  { header: 'LAST USED', value: ({ LastUsed }) => dateTime(Date.parse(LastUsed)), cutFirst: 2 },
]

/** A module that needs others may be uploaded; what is none may not. */
function checkForm(bytes: Uint8Array, file: string): void {
  try {
    if (isWasmComponent(bytes)) readWasmComponent(bytes)
    else readWasmModule(bytes)
  } catch (error) {
    if (!(error instanceof WeirError)) throw error
    throw new WeirError(error.code, `Cannot upload ${quoted(file, 200)}: ${error.message}`, {
      hint: error.hint,
      cause: error,
    })
  }
}
