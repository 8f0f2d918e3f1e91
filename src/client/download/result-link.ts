import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { WeirError } from '../../errors.js'
import type { SpecConfig } from '../../model/job-spec.js'

/** One published result that can be downloaded over HTTP. */
export interface ResultLink {
  url: URL
  /** Hex; then the download is verified. */
  sha256: string | undefined
  bytes: number | undefined
  /** Name for the result: the file's without `.tar.gz`, usually the execution's id. One plain file name. */
  name: string
  /** A gzipped tar, by its name; anything else is one file. */
  archive: boolean
}

/**
 * Reads published results; those that say "nothing was published" are left out. Rejects kinds that weir cannot download
 * with `results.unavailable`. Names are unique.
 */
export function readResultLinks(items: readonly SpecConfig[]): ResultLink[] {
  const links = items.filter(({ Type }) => Type !== '' && Type.toLowerCase() !== 'noop').map(readResultLink)
  const taken = new Set<string>()
  for (const link of links) {
    let name = link.name
    for (let i = 2; taken.has(name); i += 1) name = `${link.name}-${i}`
    link.name = name
    taken.add(name)
  }
  return links
}

function readResultLink({ Type, Params = {} }: SpecConfig): ResultLink {
  const type = Type.toLowerCase()
  if (type === 'urldownload') return link(Params.URL, sha256Hex(Params.SHA256), Params.Bytes)
  if (type === 's3presigned') {
    const object = Params.SourceSpec as { ChecksumSHA256?: unknown } | undefined
    return link(Params.PreSignedURL, sha256Hex(object?.ChecksumSHA256), undefined)
  }
  throw new WeirError('results.unavailable', `Cannot download a result of type ${JSON.stringify(Type)}`, {
    hint: 'Show the list of results with --output json and fetch it with a tool for that storage',
    details: { type: Type },
  })
}

function link(text: unknown, sha256: string | undefined, bytes: unknown): ResultLink {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:'))
    throw new WeirError('results.unavailable', 'Cannot download a result: its URL is missing or not http(s)')
  const file = fileName(url)
  const plain = file.replace(/\.(tar\.gz|tgz)$/i, '')
  return {
    url,
    sha256,
    bytes: typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0 ? bytes : undefined,
    name: plain === '' ? 'result' : plain,
    archive: plain !== file,
  }
}

/** A name for this machine, from a URL that is not trusted. */
function fileName(url: URL): string {
  const segment = url.pathname.slice(url.pathname.lastIndexOf('/') + 1)
  const name = segment.replace(/[^A-Za-z0-9._-]/g, '_').replace(/^\.+/, '')
  if (name.length <= 120) return name === '' ? 'result' : name
  const suffix = /\.(tar\.gz|tgz)$/i.exec(name)?.[0] ?? ''
  return `${name.slice(0, 80)}-${createHash('sha256').update(segment).digest('hex').slice(0, 16)}${suffix}`
}

/** Hex, or base64 as S3 writes it; anything else is no checksum of the whole. */
function sha256Hex(value: unknown): string | undefined {
  if (typeof value !== 'string') return undefined
  if (/^[0-9a-f]{64}$/i.test(value)) return value.toLowerCase()
  return /^[A-Za-z0-9+/]{43}=$/.test(value) ? Buffer.from(value, 'base64').toString('hex') : undefined
}

/** For messages: without credentials, query and the secret part of a link. */
export function describeLink({ url, name }: ResultLink): string {
  return `${name} from ${url.host}`
}
