import { shortId } from '../../model/ids.js'
import { suggest, withClient } from '../context.js'
import { EXIT } from '../exit-codes.js'
import type { CliContext, GlobalFlags } from '../context.js'

/** `weir job stop ID`: prints the id of the evaluation that carries it out. */
export async function jobStop(
  id: string,
  flags: GlobalFlags & { quiet?: boolean; namespace?: string },
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const { EvaluationID } = await withClient(flags, context, (client) =>
    client.stop(id, 'Stopped at user request', { namespace: flags.namespace }),
  )
  if (EvaluationID === '') {
    if (flags.quiet !== true) terminal.talk('The job was stopped before')
    return EXIT.ok
  }
  await terminal.data(`${EvaluationID}\n`)
  if (flags.quiet !== true) {
    terminal.talk(terminal.talkStyle.green('The job is being stopped'))
    suggest(terminal, [['Details:', `weir job describe ${shortId(id)}`]])
  }
  return EXIT.ok
}
