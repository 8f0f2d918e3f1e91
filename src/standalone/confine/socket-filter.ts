import { endianness } from 'node:os'

/**
 * The seccomp program of a confined program, as bytes for `bwrap --seccomp`. The namespaces hold what they can; this
 * refuses the few ways around them:
 *
 * 1. sockets of families that no network namespace holds (a virtual machine's AF_VSOCK reaches its host): only Unix,
 *    IPv4, IPv6, netlink and packet sockets are made;
 * 2. io_uring, which makes sockets without the call that is looked at here;
 * 3. writing into the terminal's input (TIOCSTI, TIOCLINUX): the shell would run it after the program has ended;
 * 4. key rings of the kernel, which belong to the user and to no namespace;
 * 5. system calls of a foreign architecture, whose numbers mean something else. So 32-bit programs do not run.
 *
 * With `unixSockets` false it refuses sockets of the file system too; pairs of connected sockets are made all the same, but
 * for those of datagrams: they can be connected anew, or send to any other.
 */
export function socketFilter(arch: 'x64' | 'arm64', { unixSockets }: { unixSockets: boolean }): Buffer {
  if (endianness() !== 'LE') throw new Error('the seccomp program is written for little-endian machines')
  const calls = CALLS[arch]
  const families = unixSockets ? [AF_UNIX, ...NAMESPACED_FAMILIES] : NAMESPACED_FAMILIES
  return Buffer.concat([
    load(OFFSET_ARCH),
    jumpEqual(calls.audit, 1, 0),
    give(RET_KILL_PROCESS),
    load(OFFSET_NUMBER),
    ...(arch === 'x64' ? [jumpAtLeast(X32_BIT, 0, 1), give(RET_KILL_PROCESS)] : []),
    ...IO_URING.flatMap((number) => [jumpEqual(number, 0, 1), give(RET_ERRNO | ENOSYS)]),
    ...calls.keys.flatMap((number) => [jumpEqual(number, 0, 1), give(RET_ERRNO | EPERM)]),
    ...whenCalled(calls.ioctl, [
      load(offsetOfArgument(1)),
      ...TERMINAL_INPUT.flatMap((request) => [jumpEqual(request, 0, 1), give(RET_ERRNO | EPERM)]),
      give(RET_ALLOW),
    ]),
    ...whenCalled(calls.socket, [
      load(offsetOfArgument(0)),
      ...families.flatMap((family) => [jumpEqual(family, 0, 1), give(RET_ALLOW)]),
      give(RET_ERRNO | EAFNOSUPPORT),
    ]),
    ...(unixSockets
      ? []
      : whenCalled(calls.socketpair, [
          load(offsetOfArgument(1)),
          and(SOCKET_TYPE),
          ...STAYING_CONNECTED.flatMap((type) => [jumpEqual(type, 0, 1), give(RET_ALLOW)]),
          give(RET_ERRNO | EAFNOSUPPORT),
        ])),
    give(RET_ALLOW),
  ])
}

const CALLS = {
  x64: { audit: 0xc000003e, ioctl: 16, socket: 41, socketpair: 53, keys: [248, 249, 250] },
  arm64: { audit: 0xc00000b7, ioctl: 29, socket: 198, socketpair: 199, keys: [217, 218, 219] },
} as const

/** io_uring_setup, io_uring_enter, io_uring_register: the same numbers everywhere. */
const IO_URING = [425, 426, 427]
/** TIOCSTI and TIOCLINUX. */
const TERMINAL_INPUT = [0x5412, 0x541c]
const AF_UNIX = 1
/** AF_INET, AF_INET6, AF_NETLINK, AF_PACKET. */
const NAMESPACED_FAMILIES = [2, 10, 16, 17]
/** The type of a socket without the flags beside it. */
const SOCKET_TYPE = 0xf
/** SOCK_STREAM and SOCK_SEQPACKET. */
const STAYING_CONNECTED = [1, 5]

/** Classic BPF for seccomp: `struct sock_filter { u16 code; u8 jt; u8 jf; u32 k }` (linux/filter.h, linux/seccomp.h). */
const OFFSET_NUMBER = 0
const OFFSET_ARCH = 4
const X32_BIT = 0x40000000
const RET_ALLOW = 0x7fff0000
const RET_ERRNO = 0x00050000
const RET_KILL_PROCESS = 0x80000000
const EPERM = 1
const ENOSYS = 38
const EAFNOSUPPORT = 97

/** The low half of an argument: these arguments are 32 bits wide, and so is what the kernel reads of them. */
const offsetOfArgument = (index: number): number => 16 + 8 * index

function instruction(code: number, jumpTrue: number, jumpFalse: number, value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt16LE(code, 0)
  bytes.writeUInt8(jumpTrue, 2)
  bytes.writeUInt8(jumpFalse, 3)
  bytes.writeUInt32LE(value >>> 0, 4)
  return bytes
}

const load = (offset: number): Buffer => instruction(0x20, 0, 0, offset)
const and = (mask: number): Buffer => instruction(0x54, 0, 0, mask)
const give = (value: number): Buffer => instruction(0x06, 0, 0, value)
const jumpEqual = (value: number, yes: number, no: number): Buffer => instruction(0x15, yes, no, value)
const jumpAtLeast = (value: number, yes: number, no: number): Buffer => instruction(0x35, yes, no, value)

/** `body` must end with a return: it replaces what was loaded. */
function whenCalled(number: number, body: Buffer[]): Buffer[] {
  return [jumpEqual(number, 0, body.length), ...body]
}
