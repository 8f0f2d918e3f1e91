/** The oldest Bacalhau client that is served. */
export const CLIENT_VERSION_MIN = '1.4.0'

export interface ClientVersion {
  major: number
  minor: number
  patch: number
  isPrerelease: boolean
}

/** Who is calling, by the header `X-Bacalhau-Git-Version`. */
export type ClientVersionCheck =
  | { answer: 'serve'; version: ClientVersion | undefined }
  | { answer: 'malformed' }
  | { answer: 'too_old'; version: string }

/**
 * Judges the header. Absent, empty and development versions (`v0.0.0`, `v0.0.0-…`) are served as if they were current:
 * `version` is undefined then.
 */
export function checkClientVersion(header: string | undefined): ClientVersionCheck {
  const text = (header ?? '').trim()
  if (text === '') return { answer: 'serve', version: undefined }
  const version = parseVersion(text)
  if (version === undefined) return { answer: 'malformed' }
  if (version.major === 0 && version.minor === 0 && version.patch === 0) {
    return { answer: 'serve', version: undefined }
  }
  if (isOlderThan(version, 1, 4)) return { answer: 'too_old', version: text.replace(/^v/, '') }
  return { answer: 'serve', version }
}

/** True for versions before `major.minor.0`, its pre-releases included. */
export function isOlderThan(version: ClientVersion, major: number, minor: number): boolean {
  if (version.major !== major) return version.major < major
  if (version.minor !== minor) return version.minor < minor
  return version.patch === 0 && version.isPrerelease
}

function parseVersion(text: string): ClientVersion | undefined {
  const match = VERSION.exec(text)
  if (match === null) return undefined
  const [, major, minor = '0', patch = '0', prerelease] = match
  return {
    major: Number(major),
    minor: Number(minor),
    patch: Number(patch),
    isPrerelease: prerelease !== undefined,
  }
}

const VERSION =
  /^v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(-[0-9A-Za-z.-]{1,100})?(?:\+[0-9A-Za-z.-]{1,100})?$/
