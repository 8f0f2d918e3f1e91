import { WeirError } from '../errors.js'
import { quoted } from './printable.js'

/** A container image, taken apart. */
export interface ImageReference {
  /** Registry host with optional port; empty for the default registry and for image ids. */
  domain: string
  /** For example `library/alpine` is written `alpine`; empty for image ids. */
  path: string
  /** Empty when none is given. */
  tag: string
  /** `sha256:…`; empty when none is given. */
  digest: string
}

/**
 * Reads `[registry[:port]/]path[:tag][@digest]`, or the id of a local image (`sha256:` + 64 hex digits), by the
 * grammar of the distribution specification: nothing is repaired, `..` and upper-case paths are refused.
 * Throws `spec.invalid`.
 */
export function parseImageReference(text: string): ImageReference {
  if (IMAGE_ID.test(text)) return { domain: '', path: '', tag: '', digest: text }
  const match = text.length <= LENGTH_MAX ? REFERENCE.exec(text) : null
  const name = match?.[1] ?? ''
  const { domain, path } = splitDomain(name)
  if (match === null || path === '' || path.length > NAME_MAX || !PATH.test(path)) throw invalid(text)
  if (domain !== '' && !DOMAIN.test(domain)) throw invalid(text)
  return { domain, path, tag: match[2] ?? '', digest: match[3] ?? '' }
}

/** The first segment is a registry when it could not be part of a path: it has a dot or port, or is `localhost`. */
function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/')
  const first = slash < 0 ? '' : name.slice(0, slash)
  const isDomain = first === 'localhost' || /[.:[]/.test(first) || first !== first.toLowerCase()
  return isDomain ? { domain: first, path: name.slice(slash + 1) } : { domain: '', path: name }
}

const LENGTH_MAX = 600
const NAME_MAX = 255
const IMAGE_ID = /^sha256:[0-9a-f]{64}$/
/** Name, tag, digest. A colon with a slash behind it belongs to the registry's port, not to the tag. */
const REFERENCE = /^([^@\s]*?)(?::(\w[\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$/
const PATH = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const DOMAIN =
  /^(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*)(?::[0-9]{1,5})?$/

function invalid(text: string): WeirError {
  return new WeirError('spec.invalid', `invalid image reference: ${quoted(text)}`, {
    hint: 'Write [registry[:port]/]name[:tag][@sha256:digest], for example alpine:3.20 or registry.example.com/org/tool:1.2.',
  })
}
