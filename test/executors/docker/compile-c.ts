import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A static program made from C, as bytes; undefined where there is no C compiler or no static library. */
export function compileC(source: string): Buffer | undefined {
  const compiler = ['clang', 'clang-14', 'cc', 'gcc'].find(
    (name) => spawnSync(name, ['--version']).status === 0,
  )
  if (compiler === undefined) return undefined
  const dir = mkdtempSync(join(tmpdir(), 'weir-c-'))
  try {
    writeFileSync(join(dir, 'program.c'), source)
    const built = spawnSync(compiler, ['-static', '-o', join(dir, 'program'), join(dir, 'program.c')])
    return built.status === 0 ? readFileSync(join(dir, 'program')) : undefined
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Tries to open sockets that belong to no network of the job's own; prints one line for each. */
export const SOCKET_PROGRAM = `
#include <stdio.h>
#include <sys/socket.h>
static void attempt(const char *name, int family, int type, int protocol) {
  printf("%s %s\\n", name, socket(family, type, protocol) < 0 ? "no" : "yes");
}
int main(void) {
  attempt("raw", AF_INET, SOCK_RAW, 1);
  attempt("packet", AF_PACKET, SOCK_RAW, 0x300);
  attempt("vsock", 40, SOCK_STREAM, 0);
  attempt("bluetooth", 31, SOCK_RAW, 1);
  attempt("stream", AF_INET, SOCK_STREAM, 0);
  attempt("unix", AF_UNIX, SOCK_STREAM, 0);
  return 0;
}
`

/**
 * \`reach ADDRESS PORT [DEVICE]\`: TCP and ping, past the routing table when a device is given (SO_BINDTODEVICE makes
 * the kernel ask for the address on that interface although no route leads there).
 */
export const REACH_PROGRAM = `
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
static void bind_device(int fd, const char *device) {
  if (device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, strlen(device)) < 0) printf("no-bind ");
}
int main(int argc, char **argv) {
  struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  const char *device = argc > 3 ? argv[3] : NULL;
  int fd = socket(AF_INET, SOCK_STREAM, 0), error = 0;
  socklen_t size = sizeof error;
  bind_device(fd, device);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) error = errno;
  if (error == EINPROGRESS) {
    struct pollfd wait = { fd, POLLOUT, 0 };
    if (poll(&wait, 1, 1000) <= 0) error = ETIMEDOUT;
    else getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  printf("tcp %s, ", error == 0 ? "connected" : error == ECONNREFUSED ? "refused" : "no");
  fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  bind_device(fd, device);
  unsigned char echo[8] = { 8, 0, 0xf7, 0xfe, 0, 0, 0, 1 };
  sendto(fd, echo, sizeof echo, 0, (struct sockaddr *)&to, sizeof to);
  struct pollfd wait = { fd, POLLIN, 0 };
  char answer[64];
  int answered = fd >= 0 && poll(&wait, 1, 1000) > 0 && recv(fd, answer, sizeof answer, 0) > 0;
  printf("ping %s\\n", fd < 0 ? "impossible" : answered ? "answered" : "no");
  return 0;
}
`

/** Asks the kernel for what only administrators may have; prints for each whether it was refused. */
export const KERNEL_PROGRAM = `
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>
static void attempt(const char *name, long result) {
  printf("%s %s\\n", name, result < 0 ? "refused" : "ALLOWED");
  fflush(stdout);
}
int main(void) {
  char zeros[256];
  memset(zeros, 0, sizeof zeros);
  attempt("mount", mount("none", "/", "tmpfs", 0, ""));
  attempt("mount cgroup", mount("none", "/", "cgroup", 0, "memory"));
  attempt("mount overlay", mount("none", "/", "overlay", 0, "lowerdir=/,upperdir=/,workdir=/"));
  attempt("pivot_root", syscall(SYS_pivot_root, "/", "/"));
  attempt("keyctl", syscall(SYS_keyctl, 0, -3, 1));
  attempt("add_key", syscall(SYS_add_key, "user", "a", "b", 1, -3));
  attempt("bpf", syscall(SYS_bpf, 0, zeros, sizeof zeros));
  attempt("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
  attempt("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
  attempt("init_module", syscall(SYS_init_module, zeros, sizeof zeros, ""));
  attempt("reboot", reboot(RB_DISABLE_CAD));
  attempt("swapon", swapon("/kernel", 0));
  attempt("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, zeros, 0));
  attempt("user name space", unshare(CLONE_NEWUSER));
  attempt("mount name space", unshare(CLONE_NEWNS));
  return 0;
}
`
