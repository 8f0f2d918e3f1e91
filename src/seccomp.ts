import { endianness } from 'node:os'

/**
 * Instructions of seccomp programs, as bytes for `bwrap --seccomp`. Classic BPF: `struct sock_filter { u16 code; u8 jt; u8 jf;
 * u32 k }` (linux/filter.h, linux/seccomp.h).
 */
export type SeccompArch = 'x64' | 'arm64'

export const EPERM = 1
export const ENOSYS = 38
export const EAFNOSUPPORT = 97

const OFFSET_NUMBER = 0
const OFFSET_ARCH = 4
const AUDIT_ARCH: Readonly<Record<SeccompArch, number>> = { x64: 0xc000003e, arm64: 0xc00000b7 }
const X32_BIT = 0x40000000

const RET_ALLOW = 0x7fff0000
const RET_ERRNO = 0x00050000
const RET_KILL_PROCESS = 0x80000000

function instruction(code: number, jumpTrue: number, jumpFalse: number, value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16LE(code, 0)
  bytes.writeUInt8(jumpTrue, 2)
  bytes.writeUInt8(jumpFalse, 3)
  bytes.writeUInt32LE(value >>> 0, 4)
  return bytes
}

const load = (offset: number): Buffer => instruction(0x20, 0, 0, offset)
const give = (value: number): Buffer => instruction(0x06, 0, 0, value)
const jumpAtLeast = (value: number, yes: number, no: number): Buffer => instruction(0x35, yes, no, value)

export const and = (mask: number): Buffer => instruction(0x54, 0, 0, mask)
export const jumpEqual = (value: number, yes: number, no: number): Buffer => instruction(0x15, yes, no, value)

/** Loads one half of an argument; most arguments are 32 bits wide, and so is what the kernel reads of them. */
export const loadArgument = (index: number, half: 'low' | 'high' = 'low'): Buffer =>
  load(16 + 8 * index + (half === 'high' ? 4 : 0))

export const allow = (): Buffer => give(RET_ALLOW)
export const refuseWith = (errno: number): Buffer => give(RET_ERRNO | errno)

/**
 * Ends the process at calls of a foreign architecture, whose numbers mean something else; on x86-64 also at those of its 32-bit
 * forms (`int 0x80`, x32). Leaves the number of the call loaded.
 */
export function nativeCallsOnly(arch: SeccompArch): Buffer[] {
  if (endianness() !== 'LE') throw new Error('seccomp programs are written for little-endian machines')
  return [
    load(OFFSET_ARCH),
    jumpEqual(AUDIT_ARCH[arch], 1, 0),
    give(RET_KILL_PROCESS),
    load(OFFSET_NUMBER),
    ...(arch === 'x64' ? [jumpAtLeast(X32_BIT, 0, 1), give(RET_KILL_PROCESS)] : []),
  ]
}

/** Of a loaded value: `then` for each of `values`; other values go on behind it. */
export function whenOneOf(values: readonly number[], then: Buffer): Buffer[] {
  return values.flatMap((value) => [jumpEqual(value, 0, 1), then])
}

/** `body` for one system call. It must end with an answer: it may replace what was loaded. */
export function whenCalled(number: number, body: Buffer[]): Buffer[] {
  return [jumpEqual(number, 0, body.length), ...body]
}
