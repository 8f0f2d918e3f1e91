import type { BigIntStats } from 'node:fs'
import { FILETYPE, FSTFLAGS } from './abi.js'
import { realtimeNs } from './clocks.js'
import { WasiError } from './errno.js'
import { fileTypeOf } from './files.js'
import type { GuestMemory } from './guest-memory.js'
import type { WasiState } from './state.js'

const FILESTAT_BYTES = 64
const FLAGS_ALL = FSTFLAGS.ATIM | FSTFLAGS.ATIM_NOW | FSTFLAGS.MTIM | FSTFLAGS.MTIM_NOW

/** Something whose numbers can be asked for: a real one, a directory that only leads to mounts, or a stream. */
export type AnyStat = BigIntStats | 'virtual' | 'stream'

/** Writes a `filestat`. `virtualInode` is the inode number of a virtual directory. */
export function writeStat(
  state: WasiState,
  memory: GuestMemory,
  out: number,
  stat: AnyStat,
  virtualInode: bigint,
): void {
  const at = memory.check(out, FILESTAT_BYTES)
  memory.bytes(at, FILESTAT_BYTES).fill(0)
  if (stat === 'stream') return
  if (stat === 'virtual') {
    memory.setU64(at + 8, virtualInode)
    memory.setU8(at + 16, FILETYPE.DIRECTORY)
    memory.setU64(at + 24, 1n)
    return
  }
  const times = state.times.of(stat)
  memory.setU64(at, stat.dev)
  memory.setU64(at + 8, stat.ino)
  memory.setU8(at + 16, fileTypeOf(stat))
  memory.setU64(at + 24, stat.nlink)
  memory.setU64(at + 32, stat.size)
  memory.setU64(at + 40, times.atim)
  memory.setU64(at + 48, times.mtim)
  memory.setU64(at + 56, times.ctim)
}

/** The times that `fstflags` ask for; EINVAL when one is to be set and to be now. */
export function chosenTimes(
  state: WasiState,
  stat: AnyStat,
  atim: bigint,
  mtim: bigint,
  flags: number,
): [atimNs: bigint, mtimNs: bigint] {
  if ((flags & ~FLAGS_ALL) !== 0) throw new WasiError('INVAL')
  const choose = (value: bigint, set: number, now: number, old: bigint): bigint => {
    if ((flags & set) !== 0 && (flags & now) !== 0) throw new WasiError('INVAL')
    if ((flags & now) !== 0) return realtimeNs()
    return (flags & set) !== 0 ? BigInt.asUintN(64, value) : old
  }
  const old = typeof stat === 'string' ? { atim: 0n, mtim: 0n } : state.times.of(stat)
  return [
    choose(atim, FSTFLAGS.ATIM, FSTFLAGS.ATIM_NOW, old.atim),
    choose(mtim, FSTFLAGS.MTIM, FSTFLAGS.MTIM_NOW, old.mtim),
  ]
}
