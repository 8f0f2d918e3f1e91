import { createHash } from 'node:crypto'
import { WeirError } from '../errors.js'
import { parseImageReference } from './image-reference.js'
import type {
  InputSourceSpec,
  JobSignatureSpec,
  JobSpec,
  SignedPart,
  SpecConfig,
  TaskSpec,
} from './job-spec.js'
import { SIGNED_PARTS } from './job-spec.js'
import { isSignedBy, type KeyPair } from './key-pair.js'
import { quoted } from './printable.js'
import { sortedJson } from './sorted-json.js'
import type { TimeMs } from './state.js'
import { dockerEngine, task, wasmEngine } from './task-accessors.js'
import { urlFileName } from './url-file-name.js'

/** In every signature, and in front of what is signed: a signature over something else can never pass for one. */
export const SIGNATURE_TYPE = 'weir.job-signature/1'
/** Of one job. */
export const SIGNATURES_MAX = 8
/** A signature cannot be taken back, only its key: so none is good for longer. */
export const SIGNATURE_LIFE_MAX_MS = 366 * 24 * 3_600_000
/** How far the clock of whoever signed may be ahead. An expiry knows no grace. */
const CLOCK_SKEW_MS = 5 * 60_000

/** When and where a signature is good. */
export interface SignatureTerms {
  notBeforeMs: TimeMs
  expiresMs: TimeMs
  /** Absent: in any namespace. */
  namespace?: string
}

/** Why a signature does not count. */
export interface SignatureFault {
  code: 'signature.invalid' | 'signature.expired'
  message: string
  hint: string
}

/** What is to be thought of one signature. */
export interface SignatureVerdict {
  key: string
  notBeforeMs: TimeMs
  expiresMs: TimeMs
  /** Absent: it is genuine, in force, and over this very job. */
  fault?: SignatureFault
}

/**
 * Signs a job as `parseJobSpec` returns it. The signature is over the parts that decide what the program is and what it may
 * reach; name, labels, priority, resources, time limits and publisher, which a server may fill in, are left open.
 * Throws `signature.invalid` with every reason at once: what is signed must say exactly what runs. `unpinnedInputs`: whoever
 * signs vouches for inputs whose content the job does not pin.
 */
export function signJob(
  spec: JobSpec,
  { publicKey, sign }: Pick<KeyPair, 'publicKey' | 'sign'>,
  terms: SignatureTerms,
  { unpinnedInputs = false }: { unpinnedInputs?: boolean } = {},
): JobSignatureSpec {
  const { notBeforeMs, expiresMs, namespace } = terms
  const reasons = [
    ...refuseTerms(terms),
    ...refuseSigning(spec),
    ...(unpinnedInputs ? [] : task(spec).InputSources.flatMap(refuseInput)),
    ...(namespace !== undefined && namespace !== spec.Namespace
      ? [`the job is for namespace ${quoted(spec.Namespace)}, and the signature for ${quoted(namespace)}`]
      : []),
  ]
  if (reasons.length > 0) {
    throw new WeirError('signature.invalid', ['Cannot sign the job:', ...reasons].join('\n  '), {
      hint: HOW_TO_PIN,
      details: { reasons },
    })
  }
  const unsigned: JobSignatureSpec = {
    Type: SIGNATURE_TYPE,
    Key: publicKey,
    NotBefore: writeTime(notBeforeMs),
    Expires: writeTime(expiresMs),
    ...(namespace === undefined ? {} : { Namespace: namespace }),
    Parts: signedParts(spec),
    Signature: '',
  }
  return { ...unsigned, Signature: sign(signedText(unsigned)) }
}

/** The job with this signature; another one of the same key is replaced. Throws `signature.invalid` when there are too many. */
export function withSignature(spec: JobSpec, signature: JobSignatureSpec): JobSpec {
  const [only] = spec.Tasks
  const others = (only.Network.Signatures ?? []).filter(({ Key }) => Key !== signature.Key)
  if (others.length >= SIGNATURES_MAX)
    throw new WeirError(
      'signature.invalid',
      `Cannot sign the job: it has ${SIGNATURES_MAX} signatures already`,
    )
  return { ...spec, Tasks: [{ ...only, Network: { ...only.Network, Signatures: [...others, signature] } }] }
}

/**
 * Judges every signature of a job as `parseJobSpec` returns it, in order; empty for a job that nobody signed. Whether anybody
 * trusts the keys is not asked. A job that an orchestrator hands on may be anything: one that cannot be read is judged to have
 * a signature that does not hold. Pure, never throws.
 */
export function judgeSignatures(spec: JobSpec, nowMs: TimeMs): SignatureVerdict[] {
  try {
    return judge(spec, nowMs)
  } catch {
    return [UNREADABLE]
  }
}

function judge(spec: JobSpec, nowMs: TimeMs): SignatureVerdict[] {
  const { Signatures = [] } = task(spec).Network
  if (!Array.isArray(Signatures) || Signatures.length > SIGNATURES_MAX) return [UNREADABLE]
  if (Signatures.length === 0) return []
  const parts = partsOrNothing(spec)
  const unsignable = refuseSigning(spec)
  return Signatures.map((signature) => {
    const { Key, NotBefore, Expires } = signature
    const fault = faultOf(signature, { spec, parts, unsignable, nowMs })
    return {
      key: Key,
      notBeforeMs: readTime(NotBefore),
      expiresMs: readTime(Expires),
      ...(fault === undefined ? {} : { fault }),
    }
  })
}

const UNREADABLE: SignatureVerdict = {
  key: '',
  notBeforeMs: NaN,
  expiresMs: NaN,
  fault: {
    code: 'signature.invalid',
    message: 'Cannot judge who signed the job: it cannot be read',
    hint: 'Compare it with what was submitted (weir job describe): the orchestrator may have altered it',
  },
}

/** One error for everything that is wrong with the signatures of a job; undefined when nothing is. */
export function signatureError(verdicts: readonly SignatureVerdict[]): WeirError | undefined {
  const faults = verdicts.flatMap(({ fault }) => (fault === undefined ? [] : [fault]))
  const [first] = faults
  if (first === undefined) return undefined
  const worst = faults.find(({ code }) => code === 'signature.invalid') ?? first
  return new WeirError(worst.code, faults.map(({ message }) => message).join('\n'), { hint: worst.hint })
}

/** Milliseconds of an RFC 3339 time in the one spelling that signatures have; NaN for every other text. */
export function readTime(text: string): TimeMs {
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) ? Date.parse(text) : NaN
  return Number.isNaN(ms) || writeTime(ms) !== text ? NaN : ms
}

/** Whole seconds. */
export function writeTime(ms: TimeMs): string {
  return new Date(Math.floor(ms / 1000) * 1000).toISOString().replace('.000Z', 'Z')
}

interface Judged {
  spec: JobSpec
  parts: Partial<Record<SignedPart, string>>
  unsignable: readonly string[]
  nowMs: TimeMs
}

/** The gravest first: what is not genuine has no expiry worth speaking of. */
function faultOf(
  signature: JobSignatureSpec,
  { spec, parts, unsignable, nowMs }: Judged,
): SignatureFault | undefined {
  const { Type, Key, NotBefore, Expires, Namespace, Parts } = signature
  const invalid = (what: string, hint: string): SignatureFault => ({
    code: 'signature.invalid',
    message: `The signature of ${Key} ${what}`,
    hint,
  })
  const [notBeforeMs, expiresMs] = [readTime(NotBefore), readTime(Expires)]
  const isGenuine =
    Type === SIGNATURE_TYPE &&
    Number.isFinite(notBeforeMs + expiresMs) &&
    isSignedBy(Key, signedText(signature), signature.Signature)
  if (!isGenuine) return invalid('is not one: it was altered, or made by another key', SIGN_AGAIN)
  if (unsignable.length > 0) return invalid(`cannot hold: ${unsignable.join('; ')}`, HOW_TO_PIN)
  const differing = SIGNED_PARTS.filter((part) => Parts[part] !== parts[part])
  if (differing.length > 0) {
    const words = differing.map((part) => PART_WORDS[part])
    return invalid(`is for another job: what differs is ${words.join(', ')}`, SIGN_AGAIN)
  }
  if (Namespace !== undefined && Namespace !== spec.Namespace)
    return invalid(
      `is for namespace ${quoted(Namespace)}, and the job is in ${quoted(spec.Namespace)}`,
      'Submit it in the namespace that it was signed for',
    )
  if (refuseTerms({ notBeforeMs, expiresMs }).length > 0)
    return invalid(
      `is good from ${NotBefore} to ${Expires}, which is no time it could be signed for`,
      SIGN_AGAIN,
    )
  const expired = (what: string): SignatureFault => ({
    code: 'signature.expired',
    message: `The signature of ${Key} ${what}`,
    hint: SIGN_AGAIN,
  })
  if (nowMs >= expiresMs) return expired(`expired at ${Expires}`)
  if (nowMs + CLOCK_SKEW_MS < notBeforeMs) return expired(`is good from ${NotBefore} on only`)
  return undefined
}

const PART_WORDS: Readonly<Record<SignedPart, string>> = {
  Program: 'the image or module',
  Command: 'the command',
  Environment: 'the environment',
  Inputs: 'the inputs',
  Results: 'the result paths',
  Network: 'the network policy',
  Run: 'the job type or count',
}

const SIGN_AGAIN = 'Have the job signed again as it is now: weir key sign'
const HOW_TO_PIN =
  'Write an image as name@sha256:…, or as sha256:… what "docker image inspect" calls its Id; a module by CID; a URL with its SHA256'

/**
 * The keys that vouch for the job, each until when: what they signed is genuine and is this very job. That moment may have
 * passed, so that whoever refuses something for it can say so. What is not in force yet vouches for nothing.
 */
export function vouchingKeys(
  verdicts: readonly SignatureVerdict[],
  nowMs: TimeMs,
): { key: string; untilMs: TimeMs }[] {
  return verdicts
    .filter(
      ({ fault, expiresMs }) =>
        fault === undefined || (fault.code === 'signature.expired' && nowMs >= expiresMs),
    )
    .map(({ key, expiresMs }) => ({ key, untilMs: expiresMs }))
}

/** Everything but the signature itself. */
function signedText({ Signature: _signature, ...rest }: JobSignatureSpec): string {
  return `${SIGNATURE_TYPE}\n${sortedJson(rest)}`
}

/**
 * What a signature covers. Each part has its own hash, so that it can be said which one differs. Fields that are absent and
 * fields with their empty value are the same.
 */
function signedParts(spec: JobSpec): Record<SignedPart, string> {
  const of = task(spec)
  const { Domains, Learn = false, Limits, Type } = of.Network
  const { program, command, environment } = signedEngine(of)
  return {
    Program: hash(program),
    Command: hash(command),
    Environment: hash([of.Env, environment]),
    Inputs: hash(of.InputSources.map(input)),
    // An empty directory over one of the image's changes what runs.
    Results: hash(of.ResultPaths.map(({ Name, Path }) => ({ Name, Path }))),
    Network: hash({ Type, Domains: [...new Set(Domains)].toSorted(), Learn, Limits: Limits ?? null }),
    Run: hash({ Type: spec.Type, Count: spec.Count }),
  }
}

/** A job of another engine has no parts that a signature could be for. */
function partsOrNothing(spec: JobSpec): Partial<Record<SignedPart, string>> {
  return isSignableEngine(task(spec)) ? signedParts(spec) : {}
}

function signedEngine(of: TaskSpec): { program: unknown; command: unknown; environment: unknown } {
  if (of.Engine.Type === 'docker') {
    const { Image, Entrypoint, Parameters, EnvironmentVariables, WorkingDirectory } = dockerEngine(of)
    return {
      program: { engine: 'docker', Image },
      command: { Entrypoint, Parameters, WorkingDirectory },
      environment: EnvironmentVariables,
    }
  }
  const { EntryModule, ImportModules, EntryPoint, Parameters, EnvironmentVariables } = wasmEngine(of)
  return {
    program: {
      engine: 'wasm',
      EntryModule: input(EntryModule),
      ImportModules: ImportModules.map(input),
    },
    command: { EntryPoint, Parameters },
    environment: EnvironmentVariables,
  }
}

function input({ Source, Alias, Target }: InputSourceSpec): unknown {
  return { Type: Source.Type, Params: Source.Params ?? {}, Alias, Target }
}

function hash(value: unknown): string {
  return createHash('sha256').update(sortedJson(value)).digest('base64url')
}

/** Why no signature of this job could say what runs and what it may reach, as parts of a sentence. */
function refuseSigning(spec: JobSpec): string[] {
  const of = task(spec)
  const { Type, Domains, Learn } = of.Network
  const reasons: string[] = []
  if (Type !== 'HTTP')
    reasons.push(`the job asks for network ${Type}, and a signature is for the hosts of --network http`)
  if (Learn === true)
    reasons.push('the job is to learn its hosts, and a signature is for hosts that are known')
  for (const domain of Domains.filter((one) => one.startsWith('@')))
    reasons.push(`${quoted(domain)} stands for a list that may change: name its hosts`)
  return [...reasons, ...refuseProgram(of), ...of.InputSources.flatMap(refuseNameless)]
}

/** A server that chooses the name of a file chooses which of the program's inputs it is. */
function refuseNameless({ Source, Target }: InputSourceSpec): string[] {
  if (Source.Type.toLowerCase() !== 'urldownload') return []
  const urls = Object.entries(Source.Params ?? {}).filter(([key]) => key.toLowerCase() === 'url')
  const [[, text = ''] = []] = urls
  const isNamed = typeof text === 'string' && URL.canParse(text) && urlFileName(new URL(text)) !== undefined
  if (isNamed && urls.length === 1) return []
  return [
    `the URL of the input at ${quoted(Target)} names no file, so its server would: end it with a file name`,
  ]
}

function isSignableEngine({ Engine }: TaskSpec): boolean {
  return Engine.Type === 'docker' || Engine.Type === 'wasm'
}

function refuseProgram(of: TaskSpec): string[] {
  if (!isSignableEngine(of)) return [`jobs of engine ${quoted(of.Engine.Type)} cannot be signed`]
  if (of.Engine.Type === 'docker') {
    const { Image } = dockerEngine(of)
    const isPinned = parseImageReference(Image).digest.startsWith('sha256:')
    return isPinned
      ? []
      : [`the image ${quoted(Image)} is named by a tag, which can be moved to another program`]
  }
  const { EntryModule, ImportModules } = wasmEngine(of)
  return [EntryModule, ...ImportModules]
    .filter(({ Source }) => !isPinned(Source))
    .map(({ Source }) => `a module comes from a source (${Source.Type}) that may give another one later`)
}

function refuseInput({ Source, Target }: InputSourceSpec): string[] {
  if (isPinned(Source)) return []
  return [
    `the input at ${quoted(Target)} (${Source.Type}) does not say its SHA256, so it may become another: pin it, or sign with --unpinned-inputs`,
  ]
}

/** True for sources that can give only one content. */
function isPinned({ Type, Params = {} }: SpecConfig): boolean {
  const type = Type.toLowerCase()
  if (type === 'inline' || type === 'blob' || type === 'ipfs') return true
  return (
    type === 'urldownload' &&
    [Params.SHA256, Params.Checksum].some((sum) => typeof sum === 'string' && sum !== '')
  )
}

function refuseTerms({ notBeforeMs, expiresMs }: SignatureTerms): string[] {
  if (!(expiresMs > notBeforeMs)) return ['it would expire before it begins']
  if (expiresMs - notBeforeMs > SIGNATURE_LIFE_MAX_MS)
    return [`it would be good for more than ${SIGNATURE_LIFE_MAX_MS / 86_400_000} days`]
  return []
}
