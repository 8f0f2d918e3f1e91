import { isWeirError } from '../errors.js'
import { isBlobCid } from './content-id.js'
import { hasUnprintable, quoted } from './printable.js'
import type { Complaint } from './labels.js'

/** Rules for single values of a job specification. Each returns what is wrong, or undefined. */
export type Rule = (text: string) => Complaint | undefined

/** Runs a parser that throws WeirErrors as a rule. */
export function ruleOf(parse: (text: string) => unknown): Rule {
  return (text) => {
    try {
      parse(text)
      return undefined
    } catch (error) {
      if (!isWeirError(error)) throw error
      return { message: error.message, hint: error.hint }
    }
  }
}

/** Names that people read: no control or direction characters. */
export const readableName: Rule = (text) =>
  hasUnprintable(text) ? { message: `contains characters that cannot be shown: ${quoted(text)}` } : undefined

/** An absolute path inside a job: no `.` or `..` segments, not the root, not a place that belongs to the kernel. */
export const jobPath: Rule = (text) => {
  if (!text.startsWith('/'))
    return {
      message: `path must be absolute: ${quoted(text)}`,
      hint: `Write ${quoted(`/${text.replace(/^(?:\.\/+)+/, '')}`)}`,
    }
  if (hasUnprintable(text)) return { message: `path contains control characters: ${quoted(text)}` }
  const segments = text.split('/').slice(1)
  if (segments.some((segment) => segment === '.' || segment === '..')) {
    return { message: `path must not contain "." or "..": ${quoted(text)}` }
  }
  if (segments.some((segment) => Buffer.byteLength(segment) > 255)) {
    return { message: `path has a segment of more than 255 bytes: ${quoted(text)}` }
  }
  if (text === '/')
    return { message: 'path must not be the root directory', hint: 'Name a directory, for example /inputs' }
  const top = segments[0] ?? ''
  return KERNEL_PLACES.has(top) ? { message: `path must not be below /${top}: ${quoted(text)}` } : undefined
}

/** Where a module stands in the job. A job file sends no files of its author along, though a relative path looks like one. */
export const modulePath: Rule = (text) =>
  text.startsWith('/')
    ? jobPath(text)
    : {
        message: `path must be absolute: ${quoted(text)}`,
        hint: 'It is a path in the job. A file of yours: "weir wasm upload FILE", and here {Source: {Type: blob, Params: {CID: …}}}',
      }

/** Doubled and trailing slashes dropped, blanks around it trimmed. */
export function normaliseJobPath(text: string): string {
  const trimmed = text.trim().replace(/\/{2,}/g, '/')
  return trimmed.length > 1 && trimmed.endsWith('/') ? trimmed.slice(0, -1) : trimmed
}

/** An absolute path on a node: only checked for shape here; the node follows links and compares with its list. */
export const nodePath: Rule = (text) => {
  if (!text.startsWith('/'))
    return {
      message: `source path must be absolute: ${quoted(text)}`,
      hint: 'It is a path on the node. A small file of yours: Type inline, with URL "data:text/plain,…"',
    }
  if (hasUnprintable(text)) return { message: `source path contains control characters: ${quoted(text)}` }
  return text.split('/').includes('..')
    ? { message: `source path must not contain "..": ${quoted(text)}` }
    : undefined
}

/** The name of a directory in a result. */
export const resultName: Rule = (text) => {
  if (text === '.' || text === '..' || /[/\\]/.test(text)) {
    return {
      message: `name must be one path segment: ${quoted(text)}`,
      hint: 'Use a plain name such as outputs',
    }
  }
  if (hasUnprintable(text)) return { message: `name contains control characters: ${quoted(text)}` }
  if (Buffer.byteLength(text) > 255) return { message: `name is longer than 255 bytes: ${quoted(text)}` }
  return RESULT_FILES.has(text.toLowerCase())
    ? { message: `name ${quoted(text)} is taken by what every result holds`, hint: 'Choose another name' }
    : undefined
}

/** An http or https URL with a host and a path. */
export const httpUrl: Rule = (text) => {
  const match = /^(https?):\/\/([^/?#\s]*)([^\s]*)$/i.exec(text)
  if (match === null || hasUnprintable(text) || text.includes('\\') || !URL.canParse(text)) {
    return { message: `invalid URL: ${quoted(text)}`, hint: 'Write http://host/path or https://host/path' }
  }
  if (match[2] === '' || match[2]?.endsWith('@')) return { message: `URL has no host: ${quoted(text)}` }
  return match[3]?.startsWith('/') ? undefined : { message: `URL must have a path: ${quoted(text)}` }
}

/** The address of a service: an http or https URL, path optional. */
export const endpointUrl: Rule = (text) => httpUrl(/^https?:\/\/[^/]+$/i.test(text) ? `${text}/` : text)

/** A `data:` URL with readable content (base64 or percent-encoded). */
export const dataUrl: Rule = (text) => {
  const comma = text.indexOf(',')
  const head = text.slice(0, Math.max(comma, 0))
  if (comma < 0 || !/^data:[\w!#$&.+^/;=\x20"-]*$/i.test(head)) {
    return { message: `invalid data URL: ${quoted(text, 40)}`, hint: 'Write data:text/plain;base64,SGVsbG8=' }
  }
  const readable = /;base64$/i.test(head)
    ? isBase64(text, comma + 1)
    : !/%(?![0-9a-f]{2})/i.test(text.slice(comma + 1))
  return readable ? undefined : { message: 'invalid data URL: its content cannot be decoded' }
}

/** IPFS content identifier, version 0 or 1; checked in full when it is fetched. */
export const contentId: Rule = (text) =>
  /^(?:Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{40,200}|z[1-9A-HJ-NP-Za-km-z]{40,200}|k[a-z0-9]{40,200}|f[0-9a-f]{60,300})$/.test(
    text,
  )
    ? undefined
    : { message: `invalid CID: ${quoted(text)}` }

/** Content of the network's own store: one kind of CID in one spelling. */
export const blobId: Rule = (text) =>
  isBlobCid(text)
    ? undefined
    : {
        message: `invalid CID of a blob: ${quoted(text)}`,
        hint: 'Use what `weir wasm upload FILE` prints: bafkrei and 52 more characters',
      }

export const s3Bucket: Rule = (text) =>
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text)
    ? undefined
    : { message: `invalid bucket name: ${quoted(text)}` }

export const s3Key: Rule = (text) =>
  Buffer.byteLength(text) > 1024 || hasUnprintable(text)
    ? { message: `invalid key: ${quoted(text)}` }
    : undefined

export const s3Region: Rule = (text) =>
  /^[A-Za-z0-9-]{1,64}$/.test(text) ? undefined : { message: `invalid region: ${quoted(text)}` }

export const regularExpression: Rule = (text) => {
  try {
    new RegExp(text, 'u')
    return undefined
  } catch {
    return { message: `invalid regular expression: ${quoted(text)}` }
  }
}

export const sha256Hex: Rule = (text) =>
  /^[0-9a-f]{64}$/.test(text)
    ? undefined
    : { message: `invalid SHA-256 checksum: ${quoted(text)}`, hint: 'Write 64 hexadecimal digits' }

/** The name of an environment variable. */
export const environmentName: Rule = (text) => {
  if (text === '' || text.includes('=') || hasUnprintable(text) || /\s/.test(text)) {
    return {
      message: `invalid environment variable name: ${quoted(text)}`,
      hint: 'Use letters, digits and "_"',
    }
  }
  const reserved = RESERVED_ENVIRONMENT.find((prefix) => text.toUpperCase().startsWith(prefix))
  return reserved === undefined
    ? undefined
    : { message: `environment variable ${quoted(text)} has the reserved prefix ${reserved}` }
}

/** A `K=V` pair. */
export const environmentPair: Rule = (text) => {
  const equals = text.indexOf('=')
  if (equals < 0) return { message: `environment variable must be NAME=VALUE: ${quoted(text)}` }
  return environmentName(text.slice(0, equals)) ?? argumentLength(text)
}

/** One argument or environment entry: the kernel takes no string of 128 KiB or more. */
export const argumentLength: Rule = (text) => {
  const bytes = Buffer.byteLength(text)
  return bytes < ARGUMENT_BYTES_MAX
    ? undefined
    : {
        message: `is ${bytes} bytes long, less than ${ARGUMENT_BYTES_MAX} are allowed`,
        hint: 'Pass the data as an input',
      }
}

/** Prefixes of the variables that the node sets. */
export const RESERVED_ENVIRONMENT: readonly string[] = ['WEIR_', 'BACALHAU_']

const ARGUMENT_BYTES_MAX = 128 * 1024
const KERNEL_PLACES: ReadonlySet<string> = new Set(['proc', 'sys', 'dev'])
const RESULT_FILES: ReadonlySet<string> = new Set(['stdout', 'stderr', 'exitcode', 'egress-receipt.json'])

/** Linear and without copies: the content may be megabytes. */
function isBase64(text: string, from: number): boolean {
  const body = /[A-Za-z0-9+/_-]*={0,2}/y
  body.lastIndex = from
  const length = (body.exec(text)?.[0] ?? '').length
  return from + length === text.length && length % 4 !== 1
}
