import { endianness } from 'node:os'
import { ABSENT_SYSCALLS, ALLOWED_SYSCALLS, type ArgumentCheck, type SandboxArch } from './syscalls.js'

/**
 * The seccomp program of the sandbox, as bytes for `bwrap --seccomp`: an allow-list, everything else fails with EPERM.
 *
 * No new processes (clone must ask for a thread; clone3 hides its flags and answers ENOSYS, so libc falls back), no
 * sockets, no tracing, no name spaces, no devices. Calls of a foreign architecture end the process, on x86-64 those of
 * its 32-bit forms (`int 0x80`, x32) too.
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
  for (const { [arch]: number, only } of Object.values(ALLOWED_SYSCALLS)) {
    if (number !== undefined) program.push(...whenCalled(number, [...(only ?? []).flatMap(check), ALLOW]))
  }
  for (const { [arch]: number } of Object.values(ABSENT_SYSCALLS)) {
    program.push(...whenCalled(number, [give(RET_ERRNO | ENOSYS)]))
  }
  return Buffer.concat([...program, REFUSE])
}

/** Classic BPF for seccomp: `struct sock_filter { u16 code; u8 jt; u8 jf; u32 k }` (linux/filter.h, linux/seccomp.h). */
const LOAD_WORD = 0x20
const AND = 0x54
const JUMP_EQUAL = 0x15
const JUMP_AT_LEAST = 0x35
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

const ALLOW = give(RET_ALLOW)
const REFUSE = give(RET_ERRNO | EPERM)

/** `body` for one system call; it ends with an answer. */
function whenCalled(number: number, body: Buffer[]): Buffer[] {
  return [jumpEqual(number, 0, body.length), ...body]
}

/** Goes on behind itself when the check holds, and refuses otherwise. */
function check({ argument, half, mask, oneOf }: ArgumentCheck): Buffer[] {
  return [
    load(16 + argument * 8 + (half === 'high' ? 4 : 0)),
    ...(mask === undefined ? [] : [instruction(AND, 0, 0, mask)]),
    ...oneOf.map((value, index) => jumpEqual(value, oneOf.length - index, 0)),
    REFUSE,
  ]
}
