import { WeirError } from '../../errors.js'

/** The registry that is meant when a reference names none. */
export const DEFAULT_REGISTRY = 'docker.io'

export interface ImageReference {
  /** As it was written. */
  text: string
  /** Registry host with port as written, or {@link DEFAULT_REGISTRY}. */
  registry: string
  /** Path without registry, as written: `library/busybox` stays `busybox`. */
  path: string
  /** Empty when none was given; the engine then takes `latest`. */
  tag: string
  /** `sha256:…`; empty when none was given. */
  digest: string
  /** True for an image id (`sha256:` + 64 digits, or at least 12 hexadecimal digits): such an image is never pulled. */
  isId: boolean
}

/**
 * Reads an image reference strictly: `[registry[:port]/]path[:tag][@sha256:digest]`, or an image id.
 *
 * Throws `image.unavailable` with the rule that was broken.
 */
export function parseImageReference(text: string): ImageReference {
  if (text.length === 0 || text.length > 512) throw invalid(text, 'it is empty or longer than 512 characters')
  if (IMAGE_ID.test(text)) return { text, registry: '', path: text, tag: '', digest: '', isId: true }
  const [named = '', digest = '', ...more] = text.split('@')
  if (more.length > 0 || (text.includes('@') && !DIGEST.test(digest))) {
    throw invalid(text, 'a digest is "sha256:" and 64 lower-case hexadecimal digits, once, at the end')
  }
  const { registry, rest } = splitRegistry(named)
  const colon = rest.lastIndexOf(':')
  const path = colon === -1 ? rest : rest.slice(0, colon)
  const tag = colon === -1 ? '' : rest.slice(colon + 1)
  if (colon !== -1 && !TAG.test(tag)) throw invalid(text, `"${tag}" is not a tag`)
  if (registry !== DEFAULT_REGISTRY && !REGISTRY.test(registry)) {
    throw invalid(text, `"${registry}" is not a registry host`)
  }
  const bad = path.split('/').find((part) => !COMPONENT.test(part))
  if (bad !== undefined) {
    throw invalid(
      text,
      `"${bad}" is not a path component (lower-case letters, digits, and . _ - between them)`,
    )
  }
  // A bare short hexadecimal name is also how people write image ids.
  const isId = SHORT_ID.test(text)
  return { text, registry, path, tag, digest, isId }
}

/** What to ask the engine for: with the tag `latest` where neither tag nor digest was given. */
export function pullName({ text, tag, digest }: ImageReference): string {
  return tag === '' && digest === '' ? `${text}:latest` : text
}

const IMAGE_ID = /^(?:sha256:)?[0-9a-f]{64}$/
const SHORT_ID = /^[0-9a-f]{12,63}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const REGISTRY =
  /^(?:\[[0-9a-fA-F:.]+\]|(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*)(?::[0-9]{1,5})?$/

/** The first part is a registry if it could not be a path of the default one (distribution reference grammar). */
function splitRegistry(named: string): { registry: string; rest: string } {
  const slash = named.indexOf('/')
  const first = slash === -1 ? '' : named.slice(0, slash)
  const isRegistry = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase()
  if (slash === -1 || !isRegistry) return { registry: DEFAULT_REGISTRY, rest: named }
  const rest = named.slice(slash + 1)
  return { registry: first === 'index.docker.io' ? DEFAULT_REGISTRY : first, rest }
}

function invalid(text: string, reason: string): WeirError {
  return new WeirError('image.unavailable', `Cannot read the image reference ${quote(text)}: ${reason}`, {
    hint: 'Write [registry[:port]/]name[:tag][@sha256:digest], for example ubuntu:24.04',
  })
}

function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text)
}
