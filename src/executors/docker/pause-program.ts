/** Processor architectures in the engine's (Go's) spelling for which a holder can be made. */
export type HolderArchitecture = 'amd64' | 'arm64'

/**
 * A static ELF program that does nothing for ever: it calls pause(2), or ppoll(2) without descriptors where pause does
 * not exist. It keeps a network namespace alive, so a holder needs no image from a registry.
 *
 * One file header, one program header, then the code: 129 bytes for x86-64.
 */
export function pauseProgram(architecture: HolderArchitecture): Buffer {
  const { machine, code } = PROGRAMS[architecture]
  const size = HEADER_BYTES + code.length
  const file = Buffer.alloc(size)
  // Elf64_Ehdr: 64-bit, little-endian, version 1, executable.
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]).copy(file, 0)
  file.writeUInt16LE(2, 16)
  file.writeUInt16LE(machine, 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(LOAD_ADDRESS + BigInt(HEADER_BYTES), 24)
  file.writeBigUInt64LE(64n, 32)
  file.writeUInt16LE(64, 52)
  file.writeUInt16LE(56, 54)
  file.writeUInt16LE(1, 56)
  // Elf64_Phdr: one loadable segment, readable and executable, the whole file.
  file.writeUInt32LE(1, 64)
  file.writeUInt32LE(5, 68)
  file.writeBigUInt64LE(LOAD_ADDRESS, 80)
  file.writeBigUInt64LE(LOAD_ADDRESS, 88)
  file.writeBigUInt64LE(BigInt(size), 96)
  file.writeBigUInt64LE(BigInt(size), 104)
  file.writeBigUInt64LE(0x10000n, 112)
  code.copy(file, HEADER_BYTES)
  return file
}

const HEADER_BYTES = 64 + 56
/** Aligned to 64 KiB, the largest page size in use. */
const LOAD_ADDRESS = 0x400000n

const PROGRAMS: Record<HolderArchitecture, { machine: number; code: Buffer }> = {
  amd64: {
    machine: 62,
    // mov eax, 34 (pause); syscall; jmp to the start
    code: Buffer.from('b8220000000f05ebf7', 'hex'),
  },
  arm64: {
    machine: 183,
    code: instructions([
      0xd2800000, // mov x0, 0
      0xd2800001, // mov x1, 0
      0xd2800002, // mov x2, 0 (no timeout)
      0xd2800003, // mov x3, 0
      0xd2800928, // mov x8, 73 (ppoll)
      0xd4000001, // svc 0
      0x17fffffa, // b to the start
    ]),
  },
}

function instructions(words: number[]): Buffer {
  const code = Buffer.alloc(words.length * 4)
  for (const [index, word] of words.entries()) code.writeUInt32LE(word, index * 4)
  return code
}
