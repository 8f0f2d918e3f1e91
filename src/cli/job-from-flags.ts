import { basename } from 'node:path'
import { WeirError } from '../errors.js'
import { parseConstraints } from '../model/constraints.js'
import { isBlobCid } from '../model/content-id.js'
import { parseInputArgument, parseOutputArgument, parsePublisherArgument } from '../model/input-argument.js'
import { quoted } from '../model/printable.js'
import { wholeNumber } from './whole-number.js'
import type { Constraint, InputSourceSpec, SpecConfig } from '../model/job-spec.js'
import { egressLimits } from './egress-limit-flags.js'
import type { FlagProblems } from './flag-problems.js'

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
  outboundUrl?: string[]
  learn?: boolean
  egressRate?: string
  egressBudget?: string[]
  egressRequests?: string
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
  importModule?: string[]
  importModuleVolumes?: string[]
  importModuleUrls?: string[]
}

/** Turns a local file or directory into a source; done by the caller because it reads files. */
export type Upload = (path: string, what: 'program' | 'input') => Promise<SpecConfig>

/** A module that provides imports: the name they ask for, empty when the node takes the file's, and where it is. */
export interface ModuleArgument {
  name: string
  /** A file of this machine, a URL or a CID. */
  program: string
}

/** Where mistakes are collected, and how local files are read. */
export interface FlagReading {
  problems: FlagProblems
  upload: Upload
}

/** The job specification that `docker run` submits, before parsing; what is wrong with flags goes to `problems`. */
export async function dockerJob(
  flags: DockerFlags,
  image: string,
  parameters: readonly string[],
  reading: FlagReading,
): Promise<Record<string, unknown>> {
  const engine: SpecConfig = {
    Type: 'docker',
    Params: {
      Image: image,
      Entrypoint: flags.entrypoint?.split(',').map((part) => part.trim()) ?? null,
      Parameters: parameters,
      EnvironmentVariables: reading.problems.readAll('--env', flags.env ?? [], environmentPair),
      WorkingDirectory: flags.workdir ?? '',
    },
  }
  return jobOf(flags, engine, reading)
}

/** The same for `wasm run`. `program` is a local file, a URL or a CID. */
export async function wasmJob(
  flags: WasmFlags,
  program: string,
  parameters: readonly string[],
  reading: FlagReading,
): Promise<Record<string, unknown>> {
  const { problems, upload } = reading
  const environment = problems.readAll('--env', flags.env ?? [], (pair): [string, string] => {
    const [name = '', ...value] = environmentPair(pair).split('=')
    return [name, value.join('=')]
  })
  const modules = [
    ...(await readModules(flags.importModule ?? [], reading)),
    ...(await readImportModules(flags.importModuleVolumes ?? [], reading)),
  ]
  const urls = problems.readAll('--import-module-urls', flags.importModuleUrls ?? [], (url) =>
    moduleOf(parseInputArgument(url)),
  )
  let Source: SpecConfig = { Type: 'inline', Params: { URL: 'data:,' } }
  try {
    Source = await programSource(program, upload)
  } catch (error) {
    problems.add('PROGRAM', error)
  }
  const engine: SpecConfig = {
    Type: 'wasm',
    Params: {
      // What the program sees as its own name.
      EntryModule: { Source, Target: isLocalProgram(program) ? moduleTarget(program) : '' },
      EntryPoint: flags.entryPoint ?? '',
      Parameters: parameters,
      EnvironmentVariables: Object.fromEntries(environment),
      ImportModules: [...modules, ...urls],
    },
  }
  return jobOf(flags, engine, reading)
}

/** Empty for names that would need care as a path. */
function moduleTarget(file: string): string {
  const name = basename(file)
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name) ? `/wasm/${name}` : ''
}

/** Reads `[NAME=]MODULE`. Without a name a file answers to its own, as a URL does. */
export function readModuleArgument(text: string): ModuleArgument {
  const named = /^([^=:/?]+)=(.+)$/s.exec(text)
  if (named !== null) return { name: named[1] ?? '', program: named[2] ?? '' }
  if (isLocalProgram(text)) return { name: basename(text).replace(/\.wasm$/, ''), program: text }
  const path = isUrl(text) && URL.canParse(text) ? new URL(text).pathname : ''
  return { name: (path.split('/').at(-1) ?? '').replace(/\.wasm$/, ''), program: text }
}

interface LinkedModule {
  Source: SpecConfig
  Alias: string
}

/** Each `[NAME=]MODULE`. */
function readModules(texts: readonly string[], reading: FlagReading): Promise<LinkedModule[]> {
  return eachModule('--import-module', texts, reading, async (text) => {
    const { name, program } = readModuleArgument(text)
    return { Source: await programSource(program, reading.upload), Alias: name }
  })
}

/** Each a local `.wasm` file, `CID:/path`, or a URI. */
function readImportModules(texts: readonly string[], reading: FlagReading): Promise<LinkedModule[]> {
  return eachModule('--import-module-volumes', texts, reading, async (text) => {
    const isFile = /^[^:]+\.wasm$/.test(text)
    return isFile
      ? { Source: await reading.upload(text, 'program'), Alias: basename(text, '.wasm') }
      : moduleOf(parseVolume(text))
  })
}

/** One after the other; what cannot be read becomes a problem of its flag, and the rest is read all the same. */
async function eachModule(
  flag: string,
  texts: readonly string[],
  { problems }: FlagReading,
  read: (text: string) => Promise<LinkedModule>,
): Promise<LinkedModule[]> {
  const modules: LinkedModule[] = []
  for (const text of texts) {
    try {
      modules.push(await read(text))
    } catch (error) {
      problems.add(flag, error)
    }
  }
  return modules
}

async function jobOf(
  flags: JobFlags,
  Engine: SpecConfig,
  { problems, upload }: FlagReading,
): Promise<Record<string, unknown>> {
  const number = (flag: string, text: string | undefined): number | undefined =>
    problems.read(flag, () => wholeNumber(flag, text), undefined)
  const { publisher, labels } = flags
  return {
    Name: flags.name ?? '',
    Namespace: flags.namespace ?? '',
    Type: problems.read('--target', () => readTarget(flags.target ?? 'any'), 'batch'),
    Priority: number('--priority', flags.priority),
    Count: problems.read('--count', () => readCount(flags), 1),
    Constraints: problems.read('--constraints', () => readConstraints(flags), []),
    Labels: Object.fromEntries(
      problems.readAll(
        '--labels',
        (labels ?? []).flatMap((text) => text.split(',')),
        readLabel,
      ),
    ),
    Tasks: [
      {
        Name: flags.taskName ?? 'main',
        Engine,
        Publisher:
          publisher === undefined
            ? undefined
            : problems.read('--publisher', () => parsePublisherArgument(publisher), undefined),
        InputSources: await readInputs(flags, problems, upload),
        ResultPaths: problems.readAll(
          '--output',
          [...(flags.output ?? []), ...(flags.outputVolumes ?? [])],
          parseOutputArgument,
        ),
        Resources: { CPU: flags.cpu, Memory: flags.memory, Disk: flags.disk, GPU: flags.gpu },
        Network: {
          Type: flags.network,
          Domains: flags.domain ?? [],
          ...(flags.outboundUrl === undefined ? {} : { OutboundURLs: flags.outboundUrl }),
          ...(flags.learn === true ? { Learn: true } : {}),
          Limits: egressLimits(flags, problems),
        },
        Timeouts: {
          TotalTimeout: number('--timeout', flags.timeout),
          // What learns has an end.
          ...(flags.learn === true && flags.timeout === undefined
            ? { ExecutionTimeout: LEARNING_SECONDS }
            : {}),
          QueueTimeout: number('--queue-timeout', flags.queueTimeout),
        },
      },
    ],
  }
}

/** Time limit of a learning job that sets none. */
const LEARNING_SECONDS = 600

function readCount(flags: JobFlags): number {
  return wholeNumber('--count', oneOf('--count', flags.count, '--concurrency', flags.concurrency)) ?? 1
}

function readConstraints(flags: JobFlags): Constraint[] {
  return parseConstraints(oneOf('--constraints', flags.constraints, '--selector', flags.selector) ?? '')
}

async function readInputs(
  flags: JobFlags,
  problems: FlagProblems,
  upload: Upload,
): Promise<InputSourceSpec[]> {
  const inputs: InputSourceSpec[] = []
  for (const text of flags.input ?? []) {
    try {
      inputs.push(isLocalPath(text) ? await localInput(text, upload) : parseInputArgument(text))
    } catch (error) {
      problems.add('--input', error)
    }
  }
  return [
    ...inputs,
    ...problems.readAll('--input-urls', flags.inputUrls ?? [], parseInputArgument),
    ...problems.readAll('--input-volumes', flags.inputVolumes ?? [], parseVolume),
  ]
}

/** `./data` and `../data` name files of this machine, which travel inside the job. */
function isLocalPath(text: string): boolean {
  return /^\.{1,2}(?:\/|:|$)/.test(text)
}

async function localInput(text: string, upload: Upload): Promise<InputSourceSpec> {
  const colon = text.lastIndexOf(':/')
  const path = colon < 0 ? text : text.slice(0, colon)
  const Source = await upload(path, 'input')
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

/** A program that is neither a URL nor a CID is a file of this machine. */
export function isLocalProgram(program: string): boolean {
  return !isUrl(program) && !isCid(program)
}

async function programSource(program: string, upload: Upload): Promise<SpecConfig> {
  if (isUrl(program)) return parseInputArgument(program).Source
  // The network's own store and IPFS have this kind of CID in common; `ipfs://` says which is meant.
  if (isBlobCid(program)) return { Type: 'blob', Params: { CID: program } }
  return isCid(program) ? { Type: 'ipfs', Params: { CID: program } } : upload(program, 'program')
}

function isUrl(program: string): boolean {
  return /^(?:https?|s3|ipfs|file|data):/i.test(program)
}

function isCid(program: string): boolean {
  return /^(?:Qm[1-9A-HJ-NP-Za-km-z]{44}|baf[a-z2-7]{50,})$/.test(program)
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
