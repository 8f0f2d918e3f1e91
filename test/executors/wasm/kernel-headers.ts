import { existsSync, readFileSync } from 'node:fs'
import type { SandboxArch } from '../../../src/executors/wasm/syscalls.js'

const X64_HEADERS = ['/usr/include/x86_64-linux-gnu/asm/unistd_64.h', '/usr/include/asm/unistd_64.h']
/** arm64 has the generic numbers; its own header (Debian: linux-libc-dev-arm64-cross) includes these. */
const ARM64_HEADERS = [
  '/usr/aarch64-linux-gnu/include/asm-generic/unistd.h',
  '/usr/include/asm-generic/unistd.h',
]

/** System call numbers by name as the kernel's own headers have them; undefined where they are not installed. */
export function kernelNumbers(arch: SandboxArch): Map<string, number> | undefined {
  const file = (arch === 'x64' ? X64_HEADERS : ARM64_HEADERS).find((one) => existsSync(one))
  if (file === undefined) return undefined
  const numbers = new Map<string, number>()
  const text = readFileSync(file, 'utf8')
  for (const [, name = '', value = ''] of text.matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$/gm)) {
    numbers.set(name, Number(value))
  }
  // Names that depend on the word size: `#define __NR_lseek __NR3264_lseek`.
  for (const [, name = '', other = ''] of text.matchAll(/^#define __NR_(\w+) __NR3264_(\w+)$/gm)) {
    const number = numbers.get(other)
    if (number !== undefined) numbers.set(name, number)
  }
  return numbers
}
