import { isAbsolute, posix } from 'node:path'
import { WeirError } from '../errors.js'

/** A path that an operator lists, taken apart. */
export interface PathPattern {
  readonly text: string
  readonly writable: boolean
  /** The part before the first wildcard: a plain absolute path. */
  readonly base: string
  /** The rest, segment by segment: `**` or an expression for one segment. */
  readonly rest: ('**' | RegExp)[]
}

const ALTERNATIVES_MAX = 64

/**
 * Reads `path[:ro|:rw]`; read-only unless it says `:rw`. Wildcards: `*` and `?` within a name, `[a-z]` and `[!a-z]`,
 * `{a,b}`, `**` for any number of directories. Alternatives give several patterns. Throws `config.invalid`.
 */
export function parsePathPatterns(text: string): PathPattern[] {
  const suffix = /:(ro|rw)$/.exec(text)
  const path = suffix === null ? text : text.slice(0, -3)
  if (!isAbsolute(path) || path.includes('\0') || path.split('/').includes('..'))
    throw invalid(text, 'the path must be absolute and must not contain ".."')
  const alternatives = expandBraces(path)
  if (alternatives.length > ALTERNATIVES_MAX)
    throw invalid(text, `it has more than ${ALTERNATIVES_MAX} alternatives`)
  return alternatives.map((alternative) => parseOne(text, alternative, suffix?.[1] === 'rw'))
}

/**
 * True when `path` is, or lies below, something the pattern names. A job that may have a directory sees everything
 * in it, so what lies below is no further permission. `base` is the pattern's base as it really is on the disk.
 */
export function matchesPathPattern(path: string, { rest }: PathPattern, base: string): boolean {
  if (path !== base && !path.startsWith(base === '/' ? base : `${base}/`)) return false
  const below = path
    .slice(base.length)
    .split('/')
    .filter((segment) => segment !== '')
  return matchesSegments(below, rest)
}

function matchesSegments(segments: string[], rest: ('**' | RegExp)[]): boolean {
  const [first, ...others] = rest
  if (first === undefined) return true
  if (first === '**')
    return (
      matchesSegments(segments, others) || (segments.length > 0 && matchesSegments(segments.slice(1), rest))
    )
  const [segment, ...deeper] = segments
  return segment !== undefined && first.test(segment) && matchesSegments(deeper, others)
}

function parseOne(text: string, path: string, writable: boolean): PathPattern {
  const segments = posix
    .normalize(path)
    .split('/')
    .filter((segment) => segment !== '')
  const firstWild = segments.findIndex((segment) => /[*?[\\]/.test(segment))
  const plain = firstWild === -1 ? segments : segments.slice(0, firstWild)
  const wild = firstWild === -1 ? [] : segments.slice(firstWild)
  const rest = wild
    .map((segment) => (segment === '**' ? '**' : segmentExpression(text, segment)))
    .filter((part, index, all) => part !== '**' || all[index - 1] !== '**')
  return { text, writable, base: `/${plain.join('/')}`, rest }
}

function segmentExpression(text: string, segment: string): RegExp {
  let source = ''
  for (let i = 0; i < segment.length; i += 1) {
    const character = segment[i] ?? ''
    if (character === '*') source += '[^/]*'
    else if (character === '?') source += '[^/]'
    else if (character === '[') {
      const end = segment.indexOf(']', i + 2)
      if (end === -1) throw invalid(text, 'a "[" has no "]"')
      const set = segment
        .slice(i + 1, end)
        .replace(/[\\\]]/g, '\\$&')
        .replace(/^[!^]/, '^')
      source += `[${set}]`
      i = end
    } else if (character === '\\') {
      i += 1
      source += escaped(segment[i] ?? '\\')
    } else source += escaped(character)
  }
  try {
    return new RegExp(`^${source.replace(/(\[\^\/\]\*)+/g, '[^/]*')}$`, 's')
  } catch (error) {
    throw invalid(text, 'a "[…]" is malformed', error)
  }
}

function escaped(character: string): string {
  return character.replace(/[.*+?^${}()|[\]\\/]/, '\\$&')
}

function expandBraces(path: string): string[] {
  const match = /^(.*?)\{([^{}]*)\}(.*)$/s.exec(path)
  if (match === null) return [path]
  const [, before = '', inside = '', after = ''] = match
  const options = inside.split(',')
  if (options.length > ALTERNATIVES_MAX) return Array.from({ length: ALTERNATIVES_MAX + 1 }, () => path)
  const expanded: string[] = []
  for (const option of options) {
    expanded.push(...expandBraces(before + option + after))
    if (expanded.length > ALTERNATIVES_MAX) break
  }
  return expanded
}

function invalid(text: string, why: string, cause?: unknown): WeirError {
  return new WeirError('config.invalid', `Cannot allow the local path "${text}": ${why}`, {
    hint: 'Write an absolute path, for example /data, /data/** or /scratch:rw',
    cause,
  })
}
