/** Error numbers of WASI preview 1. */
export const ERRNO = {
  SUCCESS: 0,
  TOOBIG: 1,
  ACCES: 2,
  AGAIN: 6,
  BADF: 8,
  BUSY: 10,
  DQUOT: 19,
  EXIST: 20,
  FAULT: 21,
  FBIG: 22,
  ILSEQ: 25,
  INTR: 27,
  INVAL: 28,
  IO: 29,
  ISDIR: 31,
  LOOP: 32,
  MFILE: 33,
  MLINK: 34,
  NAMETOOLONG: 37,
  NFILE: 41,
  NODEV: 43,
  NOENT: 44,
  NOMEM: 48,
  NOSPC: 51,
  NOSYS: 52,
  NOTDIR: 54,
  NOTEMPTY: 55,
  NOTSOCK: 57,
  NOTSUP: 58,
  NXIO: 60,
  OVERFLOW: 61,
  PERM: 63,
  PIPE: 64,
  ROFS: 69,
  SPIPE: 70,
  TXTBSY: 74,
  XDEV: 75,
  NOTCAPABLE: 76,
} as const

export type ErrnoName = keyof typeof ERRNO

/** Ends a WASI call with an error number. */
export class WasiError extends Error {
  readonly errno: number

  constructor(name: ErrnoName) {
    super(name)
    this.errno = ERRNO[name]
  }
}

/** The number for anything a WASI call may throw; undefined for what is not an answer to the program. */
export function errnoOf(error: unknown): number | undefined {
  if (error instanceof WasiError) return error.errno
  const code = (error as { code?: unknown } | null)?.code
  if (typeof code !== 'string') return undefined
  if (code.startsWith('ERR_')) return ERRNO.INVAL
  if (code === 'EOPNOTSUPP') return ERRNO.NOTSUP
  const number = (ERRNO as Record<string, number>)[code.slice(1)]
  return number ?? ERRNO.IO
}
