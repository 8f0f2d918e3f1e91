import { shortId } from '../../model/ids.js'
import { printable } from '../../model/printable.js'
import { suggest, withClient } from '../context.js'
import { whatToDo } from '../egress-check-lines.js'
import { EXIT } from '../exit-codes.js'
import {
  learnFrom,
  networkFlags,
  nothingLearned,
  sayChecked,
  sayContacted,
  suggestionFields,
} from '../learned.js'
import { printObject, readObjectOutput } from '../output-format.js'
import type { CliContext } from '../context.js'
import type { Learned } from '../learned.js'
import type { EgressFlags } from './job-egress.js'

/**
 * `weir job egress --suggest ID`: the flags that would let pass what was refused, or what a learning job reached; exact names
 * only. As YAML the whole `Network` of the job file, as JSON that and everything that is known about it.
 */
export async function jobEgressSuggest(id: string, flags: EgressFlags, context: CliContext): Promise<number> {
  const { terminal } = context
  const format = readObjectOutput(flags)
  const learned = await withClient(flags, context, async (client) => {
    const { Job } = await client.job(id)
    return learnFrom(client, Job, {
      executionId: flags.executionId,
      group: flags.group,
      checks: format !== 'yaml',
    })
  })
  if (format !== undefined) {
    const value = format === 'yaml' ? networkOf(learned) : report(learned)
    await printObject(terminal, value, format, flags.pretty ?? terminal.outIsTerminal)
    if (format === 'yaml')
      for (const warning of learned.suggestion.warnings) terminal.talk(printable(warning))
    return EXIT.ok
  }
  if (learned.missing > 0) await terminal.data(`${networkFlags(learned.domains)}\n`)
  else terminal.talk(nothingLearned(learned))
  sayContacted(learned.suggestion, terminal)
  sayChecked(learned, terminal)
  if (learned.missing > 0)
    suggest(terminal, [
      ...(learned.check === undefined ? [] : whatToDo(learned.check)),
      ['For a job file:', `weir job egress --suggest --output yaml ${shortId(id)}`],
    ])
  return EXIT.ok
}

function networkOf({ domains }: Learned): object {
  return { Network: domains.length === 0 ? { Type: 'None' } : { Type: 'HTTP', Domains: domains } }
}

function report(learned: Learned): object {
  const { suggestion, check } = learned
  return {
    ...networkOf(learned),
    ...suggestionFields(suggestion),
    ...(check === undefined ? {} : { Fitting: check.Fitting, Nodes: check.Nodes }),
  }
}
