/** The architectures for which there is a system call list. */
export type SandboxArch = 'x64' | 'arm64'

/** One system call that the sandbox may make. */
export interface AllowedSyscall {
  /** Its number; undefined where the architecture has no such call. */
  x64: number | undefined
  arm64: number | undefined
  /** It is allowed only when all of these hold; absent = with any arguments. */
  only?: readonly ArgumentCheck[]
}

/** Compares 32 bits of one argument: `(argument & mask)` is one of `oneOf`. */
export interface ArgumentCheck {
  /** 0 is the first. */
  argument: number
  /** Default: the low half, which is all the kernel reads of an `int` or a set of flags. */
  half?: 'low' | 'high'
  /** Default: every bit. */
  mask?: number
  oneOf: readonly number[]
}

/** Flags with which C libraries make a thread: memory, files, signal handlers, all of them shared. */
const THREAD_FLAGS = 0x007d0f00
/** CLONE_VM, CLONE_SIGHAND, CLONE_THREAD: without these it would be a process. */
const THREAD_CORE = 0x00010900
/** FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME, which go with any operation. */
const FUTEX_OPTIONS = 0x180
/** FUTEX_WAIT, _WAKE, _REQUEUE, _CMP_REQUEUE, _WAKE_OP, _WAIT_BITSET, _WAKE_BITSET: none with priorities. */
const FUTEX_OPERATIONS = [0, 1, 3, 4, 5, 9, 10]
/**
 * What V8 and C libraries say about their memory: MADV_NORMAL to MADV_DONTNEED, _FREE, _DONTFORK, _HUGEPAGE,
 * _NOHUGEPAGE, _DONTDUMP, _DODUMP, guards of stacks. Not _MERGEABLE: merged pages tell what others have in memory.
 */
const MADVICE = [0, 1, 2, 3, 4, 8, 10, 14, 15, 16, 17, 102, 103]
/** F_GETFD, F_SETFD, F_GETFL, F_SETFL: no leases, no signals to owners, no seals, no pipe sizes. */
const FCNTL_COMMANDS = [1, 2, 3, 4]
/** TCGETS, FIONBIO, FIOCLEX: what libuv asks of its descriptors. No terminal can be typed into (TIOCSTI). */
const IOCTLS = [0x5401, 0x5421, 0x5451]
/** PR_SET_NAME, PR_GET_NAME, PR_SET_VMA: names for people who look at the process. */
const PRCTLS = [15, 16, 0x53564d41]
const ARCH_SET_FS = 0x1002
const SIGABRT = 6
const SELF = 0

const is = (argument: number, ...oneOf: number[]): ArgumentCheck => ({ argument, oneOf })
/** No set-user-id, set-group-id or sticky bits: on a node that runs as root, what is made in writable inputs is root's. */
const plainMode = (argument: number): ArgumentCheck => ({ argument, mask: 0o7000, oneOf: [0] })

/**
 * Everything Node needs to run one bundled file without network, processes and devices, and nothing else: what is not
 * here fails with EPERM. Measured with the system's tracer on Node 20, 22 and 24 (the hostile programs of the tests,
 * files, threads, crashes); older spellings of the same call stay for other C libraries. Source of the numbers: the
 * kernel's unistd headers (asm/unistd_64.h and asm-generic/unistd.h), which a test compares.
 *
 * Pages may become executable, as code is compiled here: that cannot be forbidden.
 */
export const ALLOWED_SYSCALLS: Readonly<Record<string, AllowedSyscall>> = {
  // What a running program does most, first.
  read: { x64: 0, arm64: 63 },
  write: { x64: 1, arm64: 64 },
  futex: {
    x64: 202,
    arm64: 98,
    only: [{ argument: 1, mask: ~FUTEX_OPTIONS, oneOf: FUTEX_OPERATIONS }],
  },
  pread64: { x64: 17, arm64: 67 },
  pwrite64: { x64: 18, arm64: 68 },
  readv: { x64: 19, arm64: 65 },
  writev: { x64: 20, arm64: 66 },
  preadv: { x64: 295, arm64: 69 },
  pwritev: { x64: 296, arm64: 70 },
  epoll_wait: { x64: 232, arm64: undefined },
  epoll_pwait: { x64: 281, arm64: 22 },
  clock_gettime: { x64: 228, arm64: 113 },
  clock_nanosleep: { x64: 230, arm64: 115 },
  clock_getres: { x64: 229, arm64: 114 },
  nanosleep: { x64: 35, arm64: 101 },
  gettimeofday: { x64: 96, arm64: 169 },
  time: { x64: 201, arm64: undefined },
  lseek: { x64: 8, arm64: 62 },
  // Files: opening, reading about them.
  open: { x64: 2, arm64: undefined, only: [plainMode(2)] },
  openat: { x64: 257, arm64: 56, only: [plainMode(3)] },
  close: { x64: 3, arm64: 57 },
  fstat: { x64: 5, arm64: 80 },
  newfstatat: { x64: 262, arm64: 79 },
  stat: { x64: 4, arm64: undefined },
  lstat: { x64: 6, arm64: undefined },
  statx: { x64: 332, arm64: 291 },
  access: { x64: 21, arm64: undefined },
  faccessat: { x64: 269, arm64: 48 },
  readlink: { x64: 89, arm64: undefined },
  readlinkat: { x64: 267, arm64: 78 },
  getdents64: { x64: 217, arm64: 61 },
  getcwd: { x64: 79, arm64: 17 },
  // Files: syncing and resizing.
  fsync: { x64: 74, arm64: 82 },
  fdatasync: { x64: 75, arm64: 83 },
  ftruncate: { x64: 77, arm64: 46 },
  // Files: names. Mounts that are read-only answer EROFS.
  rename: { x64: 82, arm64: undefined },
  renameat: { x64: 264, arm64: 38 },
  renameat2: { x64: 316, arm64: 276 },
  unlink: { x64: 87, arm64: undefined },
  unlinkat: { x64: 263, arm64: 35 },
  mkdir: { x64: 83, arm64: undefined, only: [plainMode(1)] },
  mkdirat: { x64: 258, arm64: 34, only: [plainMode(2)] },
  rmdir: { x64: 84, arm64: undefined },
  link: { x64: 86, arm64: undefined },
  linkat: { x64: 265, arm64: 37 },
  symlink: { x64: 88, arm64: undefined },
  symlinkat: { x64: 266, arm64: 36 },
  utimensat: { x64: 280, arm64: 88 },
  // Memory; code is compiled, so pages may become executable.
  mmap: { x64: 9, arm64: 222 },
  munmap: { x64: 11, arm64: 215 },
  mprotect: { x64: 10, arm64: 226 },
  mremap: { x64: 25, arm64: 216 },
  brk: { x64: 12, arm64: 214 },
  madvise: { x64: 28, arm64: 233, only: [is(2, ...MADVICE)] },
  // Signals: handlers of its own, and the one that a crashing program sends itself.
  rt_sigaction: { x64: 13, arm64: 134 },
  rt_sigprocmask: { x64: 14, arm64: 135 },
  rt_sigreturn: { x64: 15, arm64: 139 },
  tgkill: { x64: 234, arm64: 131, only: [is(2, SIGABRT)] },
  // Threads and identity. clone3 hides its flags behind a pointer; see seccomp-program.ts.
  clone: {
    x64: 56,
    arm64: 220,
    only: [
      { argument: 0, mask: ~THREAD_FLAGS, oneOf: [0] },
      { argument: 0, mask: THREAD_CORE, oneOf: [THREAD_CORE] },
    ],
  },
  set_tid_address: { x64: 218, arm64: 96 },
  set_robust_list: { x64: 273, arm64: 99 },
  rseq: { x64: 334, arm64: 293 },
  arch_prctl: { x64: 158, arm64: undefined, only: [is(0, ARCH_SET_FS)] },
  prctl: { x64: 157, arm64: 167, only: [is(0, ...PRCTLS)] },
  gettid: { x64: 186, arm64: 178 },
  getpid: { x64: 39, arm64: 172 },
  getuid: { x64: 102, arm64: 174 },
  geteuid: { x64: 107, arm64: 175 },
  getgid: { x64: 104, arm64: 176 },
  getegid: { x64: 108, arm64: 177 },
  // Chance, scheduling, the machine.
  getrandom: { x64: 318, arm64: 278 },
  getrusage: { x64: 98, arm64: 165 },
  sysinfo: { x64: 99, arm64: 179 },
  uname: { x64: 63, arm64: 160 },
  sched_yield: { x64: 24, arm64: 124 },
  sched_getaffinity: { x64: 204, arm64: 123 },
  // Limits are read, its own only, and never set.
  prlimit64: {
    x64: 302,
    arm64: 261,
    only: [is(0, SELF), is(2, 0), { argument: 2, half: 'high', oneOf: [0] }],
  },
  // Descriptors. Those that the node gave are sockets, which can be read and written and nothing else.
  pipe2: { x64: 293, arm64: 59 },
  eventfd2: { x64: 290, arm64: 19 },
  epoll_create1: { x64: 291, arm64: 20 },
  epoll_ctl: { x64: 233, arm64: 21 },
  fcntl: { x64: 72, arm64: 25, only: [is(1, ...FCNTL_COMMANDS)] },
  ioctl: { x64: 16, arm64: 29, only: [is(1, ...IOCTLS)] },
  // bubblewrap's first process waits for Node.
  wait4: { x64: 61, arm64: 260 },
  // Ending. execve is needed once, by bubblewrap; with no way to fork it can only replace the program itself, and the
  // list stays in force.
  exit: { x64: 60, arm64: 93 },
  exit_group: { x64: 231, arm64: 94 },
  restart_syscall: { x64: 219, arm64: 128 },
  execve: { x64: 59, arm64: 221 },
}

/** Answered with ENOSYS instead of EPERM: C libraries then fall back to clone, whose flags can be read. */
export const ABSENT_SYSCALLS: Readonly<Record<string, Record<SandboxArch, number>>> = {
  clone3: { x64: 435, arm64: 435 },
}
