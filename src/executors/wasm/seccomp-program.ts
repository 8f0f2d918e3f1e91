import { endianness } from 'node:os'
import { ALLOWED_SYSCALLS, CHECKED_SYSCALLS } from './syscalls.js'

export type SandboxArch = 'x64' | 'arm64'

/**
 * The seccomp program of the sandbox, as bytes for `bwrap --seccomp`: an allow-list, everything else fails with EPERM.
 *
 * No new processes (clone must ask for a thread; clone3 hides its flags and answers ENOSYS, so libc falls back), no
 * sockets, no tracing, no name spaces, no devices. Calls of a foreign architecture end the process.
 */
export function seccompProgram(arch: SandboxArch): Buffer {
  if (endianness() !== 'LE') throw new Error('the seccomp program is written for little-endian machines')
  const program = [
    load(OFFSET_ARCH),
    jumpEqual(AUDIT_ARCH[arch], 1, 0),
    give(RET_KILL_PROCESS),
    load(OFFSET_NUMBER),
  ]
  if (arch === 'x64') program.push(jumpAtLeast(X32_BIT, 0, 1), give(RET_KILL_PROCESS))
  for (const numbers of Object.values(ALLOWED_SYSCALLS)) {
    const number = numbers[arch]
    if (number !== undefined) program.push(jumpEqual(number, 0, 1), give(RET_ALLOW))
  }
  program.push(
    jumpEqual(CHECKED_SYSCALLS.clone3[arch], 0, 1),
    give(RET_ERRNO | ENOSYS),
    ...whenCalled(CHECKED_SYSCALLS.clone[arch], [
      load(offsetOfArgument(0)),
      jumpIfBits(CLONE_THREAD, 0, 1),
      give(RET_ALLOW),
    ]),
    ...whenCalled(CHECKED_SYSCALLS.ioctl[arch], whenArgument(1, IOCTLS)),
    ...whenCalled(CHECKED_SYSCALLS.prctl[arch], whenArgument(0, PRCTLS)),
    give(RET_ERRNO | EPERM),
  )
  return Buffer.concat(program)
}

/** Classic BPF for seccomp: `struct sock_filter { u16 code; u8 jt; u8 jf; u32 k }` (linux/filter.h, linux/seccomp.h). */
const LOAD_WORD = 0x20
const JUMP_EQUAL = 0x15
const JUMP_AT_LEAST = 0x35
const JUMP_IF_BITS = 0x45
const RETURN = 0x06

const OFFSET_NUMBER = 0
const OFFSET_ARCH = 4
const AUDIT_ARCH: Record<SandboxArch, number> = { x64: 0xc000003e, arm64: 0xc00000b7 }
const X32_BIT = 0x40000000

const RET_ALLOW = 0x7fff0000
const RET_ERRNO = 0x00050000
const RET_KILL_PROCESS = 0x80000000
const EPERM = 1
const ENOSYS = 38

const CLONE_THREAD = 0x00010000
/** FIONREAD, FIONBIO, FIOCLEX and TCGETS: what libuv asks of its descriptors. */
const IOCTLS = [0x541b, 0x5421, 0x5451, 0x5401]
/** PR_SET_NAME, PR_GET_NAME, PR_SET_VMA. */
const PRCTLS = [15, 16, 0x53564d41]

function instruction(code: number, jumpTrue: number, jumpFalse: number, value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16LE(code, 0)
  bytes.writeUInt8(jumpTrue, 2)
  bytes.writeUInt8(jumpFalse, 3)
  bytes.writeUInt32LE(value >>> 0, 4)
  return bytes
}

const load = (offset: number): Buffer => instruction(LOAD_WORD, 0, 0, offset)
const give = (value: number): Buffer => instruction(RETURN, 0, 0, value)
const jumpEqual = (value: number, yes: number, no: number): Buffer => instruction(JUMP_EQUAL, yes, no, value)
const jumpAtLeast = (value: number, yes: number, no: number): Buffer =>
  instruction(JUMP_AT_LEAST, yes, no, value)
const jumpIfBits = (value: number, yes: number, no: number): Buffer =>
  instruction(JUMP_IF_BITS, yes, no, value)

/** The low half of an argument: every value compared here fits in 32 bits. */
function offsetOfArgument(index: number): number {
  return 16 + index * 8
}

/** Runs `body` for one system call; a body that does not allow ends in EPERM. */
function whenCalled(number: number, body: Buffer[]): Buffer[] {
  const whole = [...body, give(RET_ERRNO | EPERM)]
  return [jumpEqual(number, 0, whole.length), ...whole]
}

function whenArgument(index: number, values: number[]): Buffer[] {
  return [
    load(offsetOfArgument(index)),
    ...values.flatMap((value) => [jumpEqual(value, 0, 1), give(RET_ALLOW)]),
  ]
}
