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
 * The cookie of an entry is its position. The names are read when the cookie is 0 and stay the same until the next 0;
 * those that are gone meanwhile are left out.
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
    if (entry === undefined) continue
    const part = entry.subarray(0, buffer.length - used)
    buffer.set(part, used)
    used += part.length
  }
  return used
}

/** Undefined when nothing has that name any more. */
function entryBytes(
  state: WasiState,
  directory: DirectoryDescriptor,
  name: string,
  index: number,
): Uint8Array | undefined {
  const { tree } = state
  const { place } = directory
  const found = name === '.' ? place : name === '..' ? tree.parent(place) : tree.child(place, name)
  const stat = tree.stat(found)
  if (stat === undefined) return undefined
  const isVirtual = stat === 'virtual'
  const bytes = Buffer.alloc(HEADER_BYTES + name.length)
  bytes.writeBigUInt64LE(BigInt(index + 1), 0)
  bytes.writeBigUInt64LE(isVirtual ? tree.virtualInode(found) : stat.ino, 8)
  bytes.writeUInt32LE(name.length, 16)
  bytes.writeUInt8(isVirtual ? FILETYPE.DIRECTORY : fileTypeOf(stat), 20)
  bytes.write(name, HEADER_BYTES, 'latin1')
  return bytes
}
