import {
  allow,
  and,
  ENOSYS,
  EPERM,
  jumpEqual,
  loadArgument,
  nativeCallsOnly,
  refuseWith,
  whenCalled,
} from '../../seccomp.js'
import { ABSENT_SYSCALLS, ALLOWED_SYSCALLS, type ArgumentCheck, type SandboxArch } from './syscalls.js'

/**
 * The seccomp program of the sandbox, as bytes for `bwrap --seccomp`: an allow-list, everything else fails with EPERM.
 *
 * No new processes (clone must ask for a thread; clone3 hides its flags and answers ENOSYS, so libc falls back), no
 * sockets, no tracing, no name spaces, no devices. Calls of a foreign architecture end the process, on x86-64 those of
 * its 32-bit forms (`int 0x80`, x32) too.
 */
export function seccompProgram(arch: SandboxArch): Buffer {
  const program = nativeCallsOnly(arch)
  for (const { [arch]: number, only } of Object.values(ALLOWED_SYSCALLS)) {
    if (number !== undefined) program.push(...whenCalled(number, [...(only ?? []).flatMap(check), allow()]))
  }
  for (const { [arch]: number } of Object.values(ABSENT_SYSCALLS)) {
    program.push(...whenCalled(number, [refuseWith(ENOSYS)]))
  }
  return Buffer.concat([...program, REFUSE])
}

const REFUSE = refuseWith(EPERM)

/** Goes on behind itself when the check holds, and refuses otherwise. */
function check({ argument, half, mask, oneOf }: ArgumentCheck): Buffer[] {
  return [
    loadArgument(argument, half),
    ...(mask === undefined ? [] : [and(mask)]),
    ...oneOf.map((value, index) => jumpEqual(value, oneOf.length - index, 0)),
    REFUSE,
  ]
}
