import { basename } from 'node:path'
import { WeirError } from '../errors.js'
import { parseConstraints } from '../model/constraints.js'
import { parseInputArgument, parseOutputArgument, parsePublisherArgument } from '../model/input-argument.js'
import { printable, quoted } from '../model/printable.js'
import type { InputSourceSpec, ResultPathSpec, SpecConfig } from '../model/job-spec.js'

/** Flags of `docker run` and `wasm run` that describe the job. */
export interface JobFlags {
  name?: string
  namespace?: string
  priority?: string
  count?: string
  concurrency?: string
  labels?: string[]
  target?: string
  constraints?: string
  selector?: string
  taskName?: string
  input?: string[]
  inputUrls?: string[]
  inputVolumes?: string[]
  output?: string[]
  outputVolumes?: string[]
  publisher?: string
  cpu?: string
  memory?: string
  disk?: string
  gpu?: string
  network?: string
  domain?: string[]
  timeout?: string
  queueTimeout?: string
  env?: string[]
}

export interface DockerFlags extends JobFlags {
  entrypoint?: string
  workdir?: string
}

export interface WasmFlags extends JobFlags {
  entryPoint?: string
  importModuleVolumes?: string[]
  importModuleUrls?: string[]
}

/** Turns a local file or directory into an inline source; done by the caller because it reads files. */
export type Upload = (path: string) => Promise<SpecConfig>

/** The job specification that `docker run` submits, before parsing. Throws `cli.usage`, `input.invalid`, … */
export async function dockerJob(
  flags: DockerFlags,
  image: string,
  parameters: readonly string[],
  upload: Upload,
): Promise<Record<string, unknown>> {
  const engine: SpecConfig = {
    Type: 'docker',
    Params: {
      Image: image,
      Entrypoint: flags.entrypoint?.split(',').map((part) => part.trim()) ?? null,
      Parameters: parameters,
      EnvironmentVariables: (flags.env ?? []).map(environmentPair),
      WorkingDirectory: flags.workdir ?? '',
    },
  }
  return jobOf(flags, engine, upload)
}

/** The job specification that `wasm run` submits. `program` is a local file, a URL or a CID. */
export async function wasmJob(
  flags: WasmFlags,
  program: string,
  parameters: readonly string[],
  upload: Upload,
): Promise<Record<string, unknown>> {
  const environment = (flags.env ?? []).map((pair): [string, string] => {
    const [name = '', ...value] = environmentPair(pair).split('=')
    return [name, value.join('=')]
  })
  const volumes = (flags.importModuleVolumes ?? []).map((text) => moduleOf(parseVolume(text)))
  const urls = (flags.importModuleUrls ?? []).map((url) => moduleOf(parseInputArgument(url)))
  const engine: SpecConfig = {
    Type: 'wasm',
    Params: {
      EntryModule: { Source: await programSource(program, upload) },
      EntryPoint: flags.entryPoint ?? '',
      Parameters: parameters,
      EnvironmentVariables: Object.fromEntries(environment),
      ImportModules: [...volumes, ...urls],
    },
  }
  return jobOf(flags, engine, upload)
}

async function jobOf(flags: JobFlags, Engine: SpecConfig, upload: Upload): Promise<Record<string, unknown>> {
  const InputSources = await readInputs(flags, upload)
  return {
    Name: flags.name ?? '',
    Namespace: flags.namespace ?? '',
    Type: readTarget(flags.target ?? 'any'),
    Priority: wholeNumber('--priority', flags.priority),
    Count: wholeNumber('--count', oneOf('--count', flags.count, '--concurrency', flags.concurrency)) ?? 1,
    Constraints: parseConstraints(
      oneOf('--constraints', flags.constraints, '--selector', flags.selector) ?? '',
    ),
    Labels: Object.fromEntries((flags.labels ?? []).flatMap((text) => text.split(',')).map(readLabel)),
    Tasks: [
      {
        Name: flags.taskName ?? 'main',
        Engine,
        Publisher: flags.publisher === undefined ? undefined : parsePublisherArgument(flags.publisher),
        InputSources,
        ResultPaths: readOutputs(flags),
        Resources: { CPU: flags.cpu, Memory: flags.memory, Disk: flags.disk, GPU: flags.gpu },
        Network: { Type: flags.network, Domains: flags.domain ?? [] },
        Timeouts: {
          TotalTimeout: wholeNumber('--timeout', flags.timeout),
          QueueTimeout: wholeNumber('--queue-timeout', flags.queueTimeout),
        },
      },
    ],
  }
}

async function readInputs(flags: JobFlags, upload: Upload): Promise<InputSourceSpec[]> {
  const inputs: InputSourceSpec[] = []
  for (const text of flags.input ?? []) {
    inputs.push(isLocalPath(text) ? await localInput(text, upload) : parseInputArgument(text))
  }
  for (const url of flags.inputUrls ?? []) inputs.push(parseInputArgument(url))
  for (const text of flags.inputVolumes ?? []) inputs.push(parseVolume(text))
  return inputs
}

/** `./data` and `../data` name files of this machine, which travel inside the job. */
function isLocalPath(text: string): boolean {
  return /^\.{1,2}(?:\/|:|$)/.test(text)
}

async function localInput(text: string, upload: Upload): Promise<InputSourceSpec> {
  const colon = text.lastIndexOf(':/')
  const path = colon < 0 ? text : text.slice(0, colon)
  const Source = await upload(path)
  return { Source, Alias: '', Target: colon < 0 ? localTarget(Source, path) : text.slice(colon + 1) }
}

/** A directory becomes `/inputs`, a file lands in it under its own name, as one fetched by URL does. */
function localTarget({ Params }: SpecConfig, path: string): string {
  const isArchive = String(Params?.URL).startsWith('data:application/gzip')
  return isArchive ? '/inputs' : `/inputs/${basename(path)}`
}

/** `CID:/path`, from the time when every input was on IPFS. */
function parseVolume(text: string): InputSourceSpec {
  return parseInputArgument(text.includes('://') ? text : `ipfs://${text}`)
}

function moduleOf({ Source, Target }: InputSourceSpec): { Source: SpecConfig; Alias: string } {
  // The alias is the module name that imports ask for: the target's file name without its ending.
  const name = Target.split('/').at(-1) ?? ''
  return { Source, Alias: Target === '/inputs' ? '' : name.replace(/\.wasm$/, '') }
}

async function programSource(program: string, upload: Upload): Promise<SpecConfig> {
  if (/^(?:https?|s3|ipfs|file|data):/i.test(program)) return parseInputArgument(program).Source
  const isCid = /^(?:Qm[1-9A-HJ-NP-Za-km-z]{44}|baf[a-z2-7]{50,})$/.test(program)
  return isCid ? { Type: 'ipfs', Params: { CID: program } } : upload(program)
}

function readOutputs(flags: JobFlags): ResultPathSpec[] {
  return [...(flags.output ?? []), ...(flags.outputVolumes ?? [])].map(parseOutputArgument)
}

function readTarget(target: string): 'batch' | 'ops' {
  const word = target.trim().toLowerCase()
  if (word === 'any') return 'batch'
  if (word === 'all') return 'ops'
  throw new WeirError('cli.usage', `Cannot use --target ${quoted(target)}`, {
    hint: 'Use any (one node per execution) or all',
  })
}

function readLabel(text: string): [string, string] {
  const equals = text.indexOf('=')
  if (equals <= 0) {
    throw new WeirError('cli.usage', `Cannot read the label ${quoted(text)}`, {
      hint: 'Write --labels KEY=VALUE',
    })
  }
  return [text.slice(0, equals).trim(), text.slice(equals + 1).trim()]
}

function environmentPair(text: string): string {
  if (text.indexOf('=') > 0) return text
  throw new WeirError('cli.usage', `Cannot read the environment variable ${quoted(text)}`, {
    hint: 'Write --env NAME=VALUE',
  })
}

/** A flag and its old name: either, not both. */
function oneOf(
  name: string,
  value: string | undefined,
  old: string,
  oldValue: string | undefined,
): string | undefined {
  if (value !== undefined && oldValue !== undefined) {
    throw new WeirError('cli.usage', `Cannot use ${name} and ${old} at once: they mean the same`, {
      hint: `Use ${name}`,
    })
  }
  return value ?? oldValue
}

/** Throws `cli.usage` when the text is not a whole number. */
export function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (/^-?\d{1,15}$/.test(text.trim())) return Number(text)
  throw new WeirError('cli.usage', `Cannot use ${flag} ${printable(text, 40)}: it is not a whole number`)
}
