import {
  allow,
  and,
  EAFNOSUPPORT,
  ENOSYS,
  EPERM,
  loadArgument,
  nativeCallsOnly,
  refuseWith,
  type SeccompArch,
  whenCalled,
  whenOneOf,
} from '../../seccomp.js'

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
export function socketFilter(arch: SeccompArch, { unixSockets }: { unixSockets: boolean }): Buffer {
  const calls = CALLS[arch]
  const families = unixSockets ? [AF_UNIX, ...NAMESPACED_FAMILIES] : NAMESPACED_FAMILIES
  return Buffer.concat([
    ...nativeCallsOnly(arch),
    ...whenOneOf(IO_URING, refuseWith(ENOSYS)),
    ...whenOneOf(calls.keys, refuseWith(EPERM)),
    ...whenCalled(calls.ioctl, [loadArgument(1), ...whenOneOf(TERMINAL_INPUT, refuseWith(EPERM)), allow()]),
    ...whenCalled(calls.socket, [loadArgument(0), ...whenOneOf(families, allow()), refuseWith(EAFNOSUPPORT)]),
    ...(unixSockets
      ? []
      : whenCalled(calls.socketpair, [
          loadArgument(1),
          and(SOCKET_TYPE),
          ...whenOneOf(STAYING_CONNECTED, allow()),
          refuseWith(EAFNOSUPPORT),
        ])),
    allow(),
  ])
}

const CALLS = {
  x64: { ioctl: 16, socket: 41, socketpair: 53, keys: [248, 249, 250] },
  arm64: { ioctl: 29, socket: 198, socketpair: 199, keys: [217, 218, 219] },
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
