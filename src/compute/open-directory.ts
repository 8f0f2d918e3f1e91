import { Buffer } from 'node:buffer'
import {
  close,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  opendirSync,
  openSync,
  type Dirent,
  type Stats,
} from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'

/** Longer than this, work on many entries gives the event loop a turn. */
const SLICE_MS = 5

/**
 * A directory held by its descriptor. Paths of its entries lead over the descriptor, so whatever a path is replaced by
 * meanwhile, they mean this directory, and its depth does not count: a kernel path is at most 4,096 bytes, a tree
 * may be deeper. Calls are synchronous because there are many of them and each takes microseconds.
 *
 * Linux; on systems without /proc/self/fd, paths are ordinary ones.
 */
export class OpenDirectory {
  private readonly fd: number
  private readonly prefix: Buffer
  private closed = false

  /** Throws as open(2) does; a link is not followed (`ELOOP`, `ENOTDIR`). */
  constructor(path: string | Buffer) {
    this.fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
    const over = `/proc/self/fd/${this.fd}`
    this.prefix = existsSync(over) ? Buffer.from(`${over}/`) : Buffer.concat([Buffer.from(path), SLASH])
  }

  /** A path to an entry of this directory, for as long as it is open. */
  path(name: Buffer | string): Buffer {
    return Buffer.concat([this.prefix, Buffer.from(name as Buffer)])
  }

  stat(): Stats {
    return fstatSync(this.fd)
  }

  /** Entries one by one, in no order, without `.` and `..`; other work gets its turn in between. */
  async *entries(signal?: AbortSignal): AsyncGenerator<Dirent<Buffer>> {
    const listing = opendirSync(this.prefix, LISTING)
    try {
      let until = performance.now() + SLICE_MS
      for (let entry = listing.readSync(); entry !== null; entry = listing.readSync()) {
        if (performance.now() > until) {
          await nextTurn()
          signal?.throwIfAborted()
          until = performance.now() + SLICE_MS
        }
        yield entry as unknown as Dirent<Buffer>
      }
    } finally {
      listing.closeSync()
    }
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    closeSync(this.fd)
  }

  /**
   * For a directory that is removed already: closing it frees it on the disk, which can take milliseconds, so somebody else
   * waits for that. Not for many at a time: they stay open meanwhile.
   */
  closeAside(): void {
    if (this.closed) return
    this.closed = true
    close(this.fd, () => undefined)
  }
}

const SLASH = Buffer.from('/')
/** The types do not know that names can be had as bytes. */
const LISTING = { encoding: 'buffer' as BufferEncoding, bufferSize: 256 }
