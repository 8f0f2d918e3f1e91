import { Buffer } from 'node:buffer'

/** Deeper paths are refused, by the packer as by the unpacker. */
export const PATH_DEPTH_MAX = 256

/** Longer paths, in bytes, are refused: the rest up to the kernel's 4,096 is for the directory they are put into. */
export const PATH_BYTES_MAX = 3072

/** Longer names, in bytes, exist on no common file system. */
export const NAME_BYTES_MAX = 255

export type EntryPath =
  | { segments: string[]; problem?: undefined }
  | { segments?: undefined; problem: string }

/**
 * Reads the name of an archive's entry. Either its segments, each a plain file name (none for the root, `./`), or
 * the reason why it must not be unpacked: absolute, upwards, too long, too deep. A `.` and doubled or trailing slashes
 * are harmless and dropped.
 */
export function readEntryPath(name: string): EntryPath {
  if (name.startsWith('/')) return { problem: 'the path is absolute' }
  if (name.includes('\0')) return { problem: 'the path contains a NUL' }
  if (Buffer.byteLength(name) > PATH_BYTES_MAX)
    return { problem: `the path is longer than ${PATH_BYTES_MAX} bytes` }
  const segments = name.split('/').filter((segment) => segment !== '' && segment !== '.')
  if (segments.length > PATH_DEPTH_MAX)
    return { problem: `the path is deeper than ${PATH_DEPTH_MAX} directories` }
  for (const segment of segments) {
    if (segment === '..') return { problem: 'the path leads upwards' }
    if (Buffer.byteLength(segment) > NAME_BYTES_MAX)
      return { problem: `a name is longer than ${NAME_BYTES_MAX} bytes` }
    if (process.platform === 'win32' && /[\\:]/.test(segment))
      return { problem: 'a name means something else on Windows' }
  }
  return { segments }
}
