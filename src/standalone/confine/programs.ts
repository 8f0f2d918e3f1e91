import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { WeirError } from '../../errors.js'

/** The programs of this machine that confine another one, with their absolute paths. */
export interface ConfiningPrograms {
  unshare: string
  nsenter: string
  bwrap: string
  ip: string
  env: string
  sh: string
}

/** Debian package of each. */
const PACKAGES: Readonly<Record<keyof ConfiningPrograms, string>> = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  bwrap: 'bubblewrap',
  ip: 'iproute2',
  env: 'coreutils',
  sh: 'dash',
}

/** Where the system keeps its own programs. The user's PATH is not read: it may lead into the working directory. */
const DIRECTORIES = ['/usr/bin', '/usr/sbin', '/bin', '/sbin', '/usr/local/bin', '/usr/local/sbin']

/** Throws `exec.unavailable`, naming everything that is missing and how to get it. */
export function findConfiningPrograms(directories: readonly string[] = DIRECTORIES): ConfiningPrograms {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) {
    throw new WeirError(
      'exec.unavailable',
      `Cannot confine a program: that needs Linux on x86_64 or arm64, this is ${process.platform} on ${process.arch}`,
      { hint: 'Run it in a container job of a weir node instead' },
    )
  }
  const found = Object.keys(PACKAGES).map((name) => [name, find(name, directories)] as const)
  const missing = found.filter(([, path]) => path === undefined).map(([name]) => name)
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((name) => PACKAGES[name as keyof ConfiningPrograms]))]
    throw new WeirError('exec.unavailable', `Cannot confine a program without ${missing.join(', ')}`, {
      hint: `Install what is missing: apt-get install ${packages.join(' ')}`,
      details: { missing },
    })
  }
  return Object.fromEntries(found) as Record<keyof ConfiningPrograms, string>
}

function find(name: string, directories: readonly string[]): string | undefined {
  return directories
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false // not here; the next directory may have it
      }
    })
}
