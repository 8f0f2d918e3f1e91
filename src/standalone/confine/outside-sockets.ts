import { readFileSync, realpathSync, statSync } from 'node:fs'

/**
 * Unix sockets of this machine's file system that somebody listens on now, by their real paths: on a read-only file
 * system one can still connect to them. Sockets that were bound by a relative path are not found. Throws when the kernel's list cannot be
 * read.
 */
export function outsideSockets(list = readFileSync('/proc/net/unix', 'utf8')): string[] {
  const paths = list
    .split('\n')
    .slice(1)
    .map((line) => /^(?:\S+ +){7}(\/.*)$/.exec(line)?.[1])
    .filter((path) => path !== undefined)
  return [...new Set(paths.flatMap(realSocket))].sort()
}

function realSocket(path: string): string[] {
  try {
    const real = realpathSync(path)
    return statSync(real).isSocket() ? [real] : []
  } catch {
    return [] // gone, or below a directory of somebody else that the program cannot enter either
  }
}
