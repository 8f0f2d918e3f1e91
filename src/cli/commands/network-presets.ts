import { requirePreset } from '../../model/presets.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import { printList } from '../output-format.js'
import type { WirePreset } from '../../client/index.js'
import type { CliContext, GlobalFlags } from '../context.js'
import type { ListFlags } from '../output-format.js'
import type { Column } from '../table.js'

/** `weir network presets [NAME]`: the named lists of the server, or one of them, host by host. */
export async function networkPresets(
  name: string | undefined,
  flags: GlobalFlags & ListFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const presets = await withClient(flags, context, (client) => client.presets())
  if (name !== undefined) {
    const preset = requirePreset(name.replace(/^@/, ''), new Map(presets.map((one) => [one.Name, one])))
    const rows = preset.Domains
    const columns: Column<string>[] = [{ header: 'DOMAIN', value: (domain) => domain, cutFirst: 0 }]
    await printList(terminal, { rows, columns, items: preset }, flags)
    return EXIT.ok
  }
  const format = await printList(terminal, { rows: presets, columns: COLUMNS, items: presets }, flags)
  const [first] = presets
  if (format !== 'table') return EXIT.ok
  if (first === undefined) terminal.talk('There are no presets; an operator defines them with Egress.Presets')
  else suggest(terminal, [['Use one:', `weir docker run --network http --domain @${first.Name} IMAGE`]])
  return EXIT.ok
}

const COLUMNS: readonly Column<WirePreset>[] = [
  { header: 'PRESET', value: ({ Name }) => `@${Name}`, cutFirst: 0 },
  { header: 'HOSTS', value: ({ Domains }) => String(Domains.length), alignRight: true, cutFirst: 0 },
  { header: 'DIGEST', value: ({ Digest }) => Digest, cutFirst: 1 },
  { header: 'DOMAINS', value: ({ Domains }) => Domains.join(', ') },
]
