import type { WireObject } from './job.js'

/** What the server says it is. */
export interface ServerVersion {
  /** weir's own, for example `0.1.0`. */
  weir: string
  /** The Bacalhau release whose API is spoken; scripts compare it. Default `v1.5.2`. */
  bacalhau?: string
  /** Commit the program was built from. Default empty. */
  gitCommit?: string
  /** RFC 3339. Default: the epoch. */
  buildDate?: string
}

/** Build information in the two forms in which Bacalhau gives it: a JSON object and response headers. */
export interface BuildInfo {
  readonly wire: WireObject
  readonly headers: Readonly<Record<string, string>>
  /** Without the leading `v`. */
  readonly bacalhauVersion: string
}

export const BACALHAU_VERSION = 'v1.5.2'

export function buildInfo(version: ServerVersion): BuildInfo {
  const gitVersion = version.bacalhau ?? BACALHAU_VERSION
  const [major = '', minor = ''] = gitVersion.replace(/^v/, '').split('.')
  const buildDate = new Date(version.buildDate ?? '1970-01-01T00:00:00Z')
  const commit = version.gitCommit ?? ''
  const os = process.platform === 'win32' ? 'windows' : process.platform
  const arch = GO_ARCHITECTURES[process.arch] ?? process.arch
  return {
    wire: {
      Major: major,
      Minor: minor,
      GitVersion: gitVersion,
      GitCommit: commit,
      BuildDate: buildDate.toISOString(),
      GOOS: os,
      GOARCH: arch,
      WeirVersion: version.weir,
    },
    headers: {
      'x-bacalhau-git-version': gitVersion,
      'x-bacalhau-git-commit': commit,
      'x-bacalhau-build-date': goTime(buildDate),
      'x-bacalhau-build-os': os,
      'x-bacalhau-arch': arch,
      'x-weir-version': version.weir,
    },
    bacalhauVersion: gitVersion.replace(/^v/, ''),
  }
}

/** Go's default textual form, for example `2024-11-29 10:11:12 +0000 UTC`. */
function goTime(date: Date): string {
  return `${date.toISOString().slice(0, 19).replace('T', ' ')} +0000 UTC`
}

const GO_ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }
