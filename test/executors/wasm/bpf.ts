/** What a seccomp program answers to one system call. */
export type Verdict = 'allow' | 'kill process' | `errno ${number}`

export interface SyscallRequest {
  /** AUDIT_ARCH_…: how the call was made. */
  audit: number
  number: number
  args?: readonly (number | bigint)[]
}

/**
 * Runs a seccomp program as the kernel does: classic BPF over `struct seccomp_data` (linux/seccomp.h). Instructions that
 * the kernel's checker would refuse, jumps out of the program and reads outside the data throw.
 */
export function judge(program: Buffer, { audit, number, args = [] }: SyscallRequest): Verdict {
  const data = Buffer.alloc(64)
  data.writeUInt32LE(number >>> 0, 0)
  data.writeUInt32LE(audit >>> 0, 4)
  args.forEach((value, index) => data.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), 16 + index * 8))
  let accumulator = 0
  for (let at = 0; ; at++) {
    if (at * 8 >= program.length) throw new Error(`no instruction ${at}`)
    const [code, yes, no, k] = [
      program.readUInt16LE(at * 8),
      program.readUInt8(at * 8 + 2),
      program.readUInt8(at * 8 + 3),
      program.readUInt32LE(at * 8 + 4),
    ]
    if (code === LOAD_WORD) {
      if (k % 4 !== 0 || k > 60) throw new Error(`instruction ${at} reads at ${k}`)
      accumulator = data.readUInt32LE(k)
    } else if (code === AND) accumulator = (accumulator & k) >>> 0
    else if (code === JUMP_EQUAL) at += accumulator === k ? yes : no
    else if (code === JUMP_AT_LEAST) at += accumulator >= k ? yes : no
    else if (code === RETURN) return verdictOf(k)
    else throw new Error(`instruction ${at} has the code ${code}`)
  }
}

const [LOAD_WORD, AND, JUMP_EQUAL, JUMP_AT_LEAST, RETURN] = [0x20, 0x54, 0x15, 0x35, 0x06]

function verdictOf(value: number): Verdict {
  if (value === 0x7fff0000) return 'allow'
  if (value === 0x80000000) return 'kill process'
  if (value >>> 16 === 5) return `errno ${value & 0xffff}`
  throw new Error(`unknown answer ${value.toString(16)}`)
}
