import { FILETYPE } from './abi.js'
import type { DirectoryDescriptor } from './descriptors.js'
import { WasiError } from './errno.js'
import { fileTypeOf } from './files.js'
import type { WasiState } from './state.js'

const HEADER_BYTES = 24

/**
 * Fills `buffer` with directory entries from `cookie` on and returns how many bytes it used. A last entry that does not
 * fit is cut off, so a full buffer means that there is more.
 *
 * The cookie of an entry is its position. The names are read when the cookie is 0 and stay the same until the next 0.
 */
export function fillListing(
  state: WasiState,
  directory: DirectoryDescriptor,
  cookie: bigint,
  buffer: Uint8Array,
): number {
  state.tree.check(directory.place)
  if (cookie === 0n || directory.listing === undefined) {
    directory.listing = ['.', '..', ...state.tree.list(directory.place)]
  }
  const { listing } = directory
  if (cookie < 0n) throw new WasiError('INVAL')
  let used = 0
  for (let index = Number(cookie); index < listing.length && used < buffer.length; index++) {
    const entry = entryBytes(state, directory, listing[index] ?? '', index)
    const part = entry.subarray(0, buffer.length - used)
    buffer.set(part, used)
    used += part.length
  }
  return used
}

function entryBytes(
  state: WasiState,
  directory: DirectoryDescriptor,
  name: string,
  index: number,
): Uint8Array {
  const place = name === '.' || name === '..' ? directory.place : state.tree.child(directory.place, name)
  const stat = state.tree.stat(place)
  const isReal = stat !== undefined && stat !== 'virtual'
  const bytes = Buffer.alloc(HEADER_BYTES + name.length)
  bytes.writeBigUInt64LE(BigInt(index + 1), 0)
  bytes.writeBigUInt64LE(isReal && name !== '..' ? stat.ino : 0n, 8)
  bytes.writeUInt32LE(name.length, 16)
  bytes.writeUInt8(isReal ? fileTypeOf(stat) : stat === 'virtual' ? FILETYPE.DIRECTORY : FILETYPE.UNKNOWN, 20)
  bytes.write(name, HEADER_BYTES, 'latin1')
  return bytes
}
