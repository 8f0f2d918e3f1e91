import { resolve } from 'node:path'
import { WeirError, toWeirError } from '../../errors.js'
import { JOB_TEXT_BYTES_MAX, parseJobText } from '../../model/parse-job-text.js'
import { printable, quoted } from '../../model/printable.js'
import { EXIT } from '../exit-codes.js'
import { readObjectOutput } from '../output-format.js'
import { readLocalFile } from '../read-local-file.js'
import { submitJob } from '../submit.js'
import type { ParsedJob } from '../../model/parse-job.js'
import type { CliContext } from '../context.js'
import type { AllRunFlags } from '../run-flags.js'

export interface TemplateFlags {
  templateVars?: string[]
  templateEnvs?: string
  /** False with `--no-template`. */
  template?: boolean
}

/** `weir job run [FILE|-]`. */
export async function jobRun(
  file: string | undefined,
  flags: AllRunFlags & TemplateFlags & { output?: string; hideWarnings?: boolean },
  context: CliContext,
): Promise<number> {
  const format = readObjectOutput(flags)
  const parsed = await readJobFile(file, flags, context)
  return submitJob(
    parsed,
    { flags, format, mayEmbed: false, showWarnings: flags.hideWarnings !== true },
    context,
  )
}

/** `weir job validate FILE`: prints OK, or every mistake. */
export async function jobValidate(
  file: string | undefined,
  flags: TemplateFlags,
  context: CliContext,
): Promise<number> {
  const { terminal } = context
  const { warnings } = await readJobFile(file, flags, context)
  for (const warning of warnings)
    terminal.talk(`${terminal.talkStyle.yellow('Warning:')} ${printable(warning)}`)
  await terminal.data('OK\n')
  return EXIT.ok
}

/** The job of a file, `-` or absent: of standard input. */
export async function readJobFile(
  file: string | undefined,
  flags: TemplateFlags,
  context: CliContext,
): Promise<ParsedJob> {
  const isInput = file === undefined || file === '-'
  if (file === undefined && context.inputIsTerminal) {
    throw new WeirError('cli.usage', 'Cannot read a job: no file is named and nothing is piped in', {
      hint: 'Write weir job run FILE, or weir job run - and type the job',
    })
  }
  return parseJobText(isInput ? await context.readStandardInput() : await readText(file, context), {
    ...(isInput ? {} : { fileName: file }),
    templateVariables: readVariables(flags.templateVars ?? []),
    templateEnvironment: matchingVariables(flags.templateEnvs, context.environment),
    noTemplate: flags.template === false,
    serverFields: 'error',
  })
}

async function readText(file: string, { cwd }: CliContext): Promise<string> {
  const limits = { what: 'the job file', bytesMax: JOB_TEXT_BYTES_MAX, tooLarge: 'spec.too_large' } as const
  return (await readLocalFile(resolve(cwd, file), limits)).toString('utf8')
}

/** `k=v`, repeatable, also as a comma list: a comma begins a new pair only before `name=`. */
export function readVariables(texts: readonly string[]): Record<string, string> {
  const pairs = texts.flatMap((text) => text.split(/,(?=\s*[A-Za-z_][\w.-]*=)/))
  return Object.fromEntries(
    pairs.map((pair): [string, string] => {
      const equals = pair.indexOf('=')
      if (equals > 0) return [pair.slice(0, equals).trim(), pair.slice(equals + 1)]
      throw new WeirError('cli.usage', `Cannot read the template variable ${quoted(pair)}`, {
        hint: 'Write -V NAME=VALUE',
      })
    }),
  )
}

/** Variables of the environment whose whole name matches; `*` alone means all. */
function matchingVariables(
  pattern: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  if (pattern === undefined) return {}
  const expression = readPattern(pattern)
  const entries = Object.entries(environment).flatMap(([name, value]): [string, string][] =>
    value !== undefined && expression.test(name) ? [[name, value]] : [],
  )
  return Object.fromEntries(entries)
}

function readPattern(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern === '*' ? '.*' : pattern})$`)
  } catch (error) {
    throw toWeirError(error, 'cli.usage', `Cannot use --template-envs ${quoted(pattern)}`)
  }
}
