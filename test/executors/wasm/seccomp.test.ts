import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { seccompProgram } from '../../../src/executors/wasm/seccomp-program.js'
import { ABSENT_SYSCALLS, ALLOWED_SYSCALLS, type SandboxArch } from '../../../src/executors/wasm/syscalls.js'
import { judge } from './bpf.js'
import { HOSTILE_CALLS, HOSTILE_X64_CALLS } from './hostile-calls.js'
import { kernelNumbers } from './kernel-headers.js'
import { callerProblem, hostileLines, runCaller } from './machine-code.js'

const ARCHES = ['x64', 'arm64'] as const
/** AUDIT_ARCH_… of linux/audit.h. */
const AUDIT = { x64: 0xc000003e, arm64: 0xc00000b7, i386: 0x40000003, arm: 0x40000028, riscv64: 0xc00000f3 }
const [EPERM, ENOSYS] = ['errno 1', 'errno 38']
const programs = { x64: seccompProgram('x64'), arm64: seccompProgram('arm64') }

const verdict = (arch: SandboxArch, number: number, ...args: (number | bigint)[]): string =>
  judge(programs[arch], { audit: AUDIT[arch], number, args })
const numberOf = (arch: SandboxArch, name: string): number => {
  const number = ALLOWED_SYSCALLS[name]?.[arch] ?? ABSENT_SYSCALLS[name]?.[arch]
  if (number === undefined) throw new Error(`${name} has no number on ${arch}`)
  return number
}

describe('the system call list', () => {
  for (const arch of ARCHES) {
    const headers = kernelNumbers(arch)
    const missing = headers === undefined ? ' (skipped: needs the kernel’s headers, linux-libc-dev)' : ''

    it.skipIf(headers === undefined)(`has the kernel’s numbers on ${arch}${missing}`, () => {
      const ours = Object.entries({ ...ALLOWED_SYSCALLS, ...ABSENT_SYSCALLS })
      for (const [name, { [arch]: number }] of ours)
        expect({ name, number }).toEqual({ name, number: headers?.get(name) })
    })

    it(`allows nothing on ${arch} but what is in it`, () => {
      const allowed = new Set(Object.values(ALLOWED_SYSCALLS).map((one) => one[arch]))
      const absent = new Set(Object.values(ABSENT_SYSCALLS).map((one) => one[arch]))
      for (let number = 0; number < 2_000; number++) {
        if (allowed.has(number)) continue
        expect({ number, answer: verdict(arch, number) }).toEqual({
          number,
          answer: absent.has(number) ? ENOSYS : EPERM,
        })
      }
    })

    it(`allows what has no conditions with any arguments on ${arch}`, () => {
      for (const { [arch]: number, only } of Object.values(ALLOWED_SYSCALLS)) {
        if (number === undefined || only !== undefined) continue
        expect(verdict(arch, number, ...Array.from({ length: 6 }, () => -1n))).toBe('allow')
      }
    })

    it(`answers whatever number and arguments come on ${arch}, and allows only numbers of the list`, () => {
      const allowed = new Set(Object.values(ALLOWED_SYSCALLS).map((one) => one[arch]))
      const call = fc.record({
        audit: fc.oneof(fc.constantFrom(...Object.values(AUDIT)), fc.nat()),
        number: fc.oneof(
          fc.nat(500),
          fc.integer(),
          fc.constantFrom(...[...allowed].filter((one) => one !== undefined)),
        ),
        args: fc.array(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), { minLength: 6, maxLength: 6 }),
      })
      fc.assert(
        fc.property(call, (one) => {
          const answer = judge(programs[arch], one)
          if (one.audit !== AUDIT[arch]) return answer === 'kill process'
          return answer !== 'allow' || allowed.has(one.number)
        }),
        { numRuns: 2_000 },
      )
    })

    it.skipIf(headers === undefined)(`refuses every hostile call of the table on ${arch}${missing}`, () => {
      const x64Only = arch === 'x64' ? HOSTILE_X64_CALLS : []
      for (const { name, args } of [...Object.values(HOSTILE_CALLS).flat(), ...x64Only]) {
        const number = headers?.get(name)
        if (number === undefined) continue
        // Any pointer will do: none is ever looked behind.
        const values = args.map((one) => (typeof one === 'number' ? one : 0x7fff_0000_1000))
        expect({ name, args, answer: verdict(arch, number, ...values) }).toEqual({
          name,
          args,
          answer: EPERM,
        })
      }
    })

    it(`ends calls of every other architecture on ${arch}`, () => {
      for (const audit of Object.values(AUDIT).filter((one) => one !== AUDIT[arch])) {
        for (const number of [0, 1, 20, 63, 64]) {
          expect(judge(programs[arch], { audit, number })).toBe('kill process')
        }
      }
    })

    it(`makes threads and no processes on ${arch}`, () => {
      const clone = numberOf(arch, 'clone')
      // glibc's and musl's pthread_create.
      for (const flags of [0x3d0f00, 0x7d0f00]) expect(verdict(arch, clone, flags)).toBe('allow')
      const refused = {
        fork: 17,
        'fork with thread ids': 0x1200011,
        vfork: 0x4111,
        'a thread with a signal at its end': 0x3d0f00 | 17,
        'a thread in a new mount name space': 0x3d0f00 | 0x20000,
        'a thread in a new user name space': 0x3d0f00 | 0x10000000,
        'a thread in a new network name space': 0x3d0f00 | 0x40000000,
        'a traced thread': 0x3d0f00 | 0x2000,
        'a thread with a descriptor of its process': 0x3d0f00 | 0x1000,
        'a thread with memory of its own': 0x10800,
        'a thread with signal handlers of its own': 0x10100,
        'input and output context': 0x3d0f00 | 0x80000000,
      }
      for (const [what, flags] of Object.entries(refused)) {
        expect({ what, answer: verdict(arch, clone, flags) }).toEqual({ what, answer: EPERM })
      }
      expect(verdict(arch, numberOf(arch, 'clone3'), 0x3d0f00)).toBe(ENOSYS)
    })

    it(`reads limits of its own on ${arch}, and sets none`, () => {
      const prlimit = numberOf(arch, 'prlimit64')
      expect(verdict(arch, prlimit, 0, 7, 0, 0x7fff1000)).toBe('allow')
      expect(verdict(arch, prlimit, 1, 7, 0, 0x7fff1000)).toBe(EPERM)
      // A pointer whose low half is zero is a pointer all the same.
      expect(verdict(arch, prlimit, 0, 7, 0x7fff_0000_0000n, 0)).toBe(EPERM)
      expect(verdict(arch, prlimit, 0, 7, 0x1000, 0)).toBe(EPERM)
    })

    it(`judges the part of an argument that the kernel reads on ${arch}`, () => {
      // An int: what stands above its 32 bits does not exist for the kernel, and must not for the list.
      const high = 0xdead_beef_0000_0000n
      expect(verdict(arch, numberOf(arch, 'ioctl'), 1, high | 0x5401n)).toBe('allow')
      expect(verdict(arch, numberOf(arch, 'ioctl'), 1, high | 0x5412n)).toBe(EPERM)
      expect(verdict(arch, numberOf(arch, 'prctl'), high | 15n)).toBe('allow')
      expect(verdict(arch, numberOf(arch, 'fcntl'), 1, high | 8n)).toBe(EPERM)
      expect(verdict(arch, numberOf(arch, 'futex'), 0, high | 0x89n)).toBe('allow')
      expect(verdict(arch, numberOf(arch, 'futex'), 0, 0x80n | 6n)).toBe(EPERM)
      expect(verdict(arch, numberOf(arch, 'tgkill'), 2, 2, 6)).toBe('allow')
      expect(verdict(arch, numberOf(arch, 'tgkill'), 2, 2, 9)).toBe(EPERM)
    })

    it(`makes no file that is run as its owner on ${arch}`, () => {
      expect(verdict(arch, numberOf(arch, 'openat'), -100, 0x1000, 0o101, 0o777)).toBe('allow')
      for (const mode of [0o4755, 0o2755, 0o6000, 0o1777]) {
        expect(verdict(arch, numberOf(arch, 'openat'), -100, 0x1000, 0o101, mode)).toBe(EPERM)
        expect(verdict(arch, numberOf(arch, 'mkdirat'), -100, 0x1000, mode)).toBe(EPERM)
      }
    })

    it(`is a program that the kernel takes on ${arch}, and the same each time`, () => {
      expect(programs[arch].length % 8).toBe(0)
      expect(programs[arch].length / 8).toBeLessThan(4_096)
      expect(programs[arch].equals(seccompProgram(arch))).toBe(true)
    })
  }

  it('ends x32 calls, which have the architecture of x86-64 and other numbers', () => {
    for (const number of [0x40000000, 0x40000001, 0x40000027, 0x400001ff, 0x7fffffff, 0xffffffff]) {
      expect(verdict('x64', number)).toBe('kill process')
    }
    // arm64 has none: unknown numbers are refused like others.
    expect(verdict('arm64', 0x40000027)).toBe(EPERM)
  })
})

const problem = callerProblem()
const isRoot = process.getuid?.() === 0
const skipped = problem === undefined ? '' : ` (skipped: ${problem})`
const noRoot = isRoot ? '' : ' (skipped: needs root, who is refused nothing otherwise)'

describe.skipIf(problem !== undefined)(`machine code under the list and nothing else${skipped}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-seccomp-'))
  afterAll(() => rmSync(dir, { recursive: true, force: true }))
  const arch = process.arch === 'arm64' ? 'arm64' : 'x64'
  chmodSync(dir, 0o755)
  const filter = join(dir, 'sandbox.bpf')
  writeFileSync(filter, programs[arch])
  const lines = hostileLines()
  const without = isRoot && hasAllCapabilities() ? runCaller(['!each', ...lines]).answers : {}

  it.skipIf(!isRoot)(`is refused all the hostile calls that root may make otherwise${noRoot}`, () => {
    const { answers, status } = runCaller([`!filter ${filter}`, ...lines])
    expect(status).toBe(0)
    expect(Object.keys(answers)).toHaveLength(lines.length)
    expect(Object.entries(answers).filter(([, answer]) => answer !== 'EPERM')).toEqual([])
    // The same calls without the list answer something else, so it was the list that refused.
    expect(Object.entries(without).filter(([, answer]) => answer === 'EPERM')).toEqual([])
  })

  it('is refused every number that is not in it, up to 1,023', () => {
    const allowed = new Set(Object.values(ALLOWED_SYSCALLS).map((one) => one[arch]))
    const absent = new Set(Object.values(ABSENT_SYSCALLS).map((one) => one[arch]))
    // uretprobe and uprobe: newer kernels let them past every list and end whoever calls without being probed.
    const past = arch === 'x64' ? [335, 336] : []
    const others = Array.from({ length: 1_024 }, (_, number) => number).filter(
      (one) => !allowed.has(one) && !past.includes(one),
    )
    const user = isRoot ? ['!user 65534'] : []
    const { answers } = runCaller([
      ...user,
      `!filter ${filter}`,
      ...others.map((one) => `n${one} ${one} -1 -1 -1 -1 -1 -1`),
    ])
    expect(Object.keys(answers)).toHaveLength(others.length)
    for (const number of others) {
      expect({ number, answer: answers[`n${number}`] }).toEqual({
        number,
        answer: absent.has(number) ? 'ENOSYS' : 'EPERM',
      })
    }
  })

  const noX64 = arch === 'x64' ? '' : ' (skipped: needs x86-64)'
  it.skipIf(arch !== 'x64')(`dies when it calls as a 32-bit program or as x32${noX64}`, () => {
    for (const way of ['!x32', '!int80']) {
      const { answers, signal } = runCaller(['before 39', `!filter ${filter}`, way, 'after 39'])
      expect({ way, answers, signal }).toEqual({ way, answers: { before: 'ok' }, signal: 'SIGSYS' })
    }
  })
})

/** Root in a container is refused some of the calls anyway. */
function hasAllCapabilities(): boolean {
  const status = readFileSync('/proc/self/status', 'utf8')
  const [effective, known] = [/^CapEff:\s*(\w+)/m, /^CapBnd:\s*(\w+)/m].map((one) => one.exec(status)?.[1])
  return effective === known && BigInt(`0x${effective}`) >= 0x1ffffffffffn
}
