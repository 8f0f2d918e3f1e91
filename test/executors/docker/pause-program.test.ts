import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { pauseProgram } from '../../../src/executors/docker/pause-program.js'

const own = process.arch === 'x64' ? 'amd64' : process.arch === 'arm64' ? 'arm64' : undefined
const hasDisassembler = spawnSync('llvm-objdump-14', ['--version']).status === 0

describe('the program that holds a namespace', () => {
  it('has 129 bytes for x86-64 and 148 for arm64', () => {
    expect(pauseProgram('amd64')).toHaveLength(129)
    expect(pauseProgram('arm64')).toHaveLength(148)
  })

  it.skipIf(process.platform !== 'linux' || own === undefined)(
    'runs without using the processor until it is killed',
    async () => {
      const dir = mkdtempSync(join(tmpdir(), 'weir-pause-'))
      const path = join(dir, 'pause')
      writeFileSync(path, pauseProgram(own ?? 'amd64'), { mode: 0o755 })
      const child = spawn(path, { stdio: 'ignore' })
      try {
        await new Promise((resolve, reject) => {
          child.once('error', reject)
          setTimeout(resolve, 150)
        })
        expect(child.exitCode).toBe(null)
        const ended = new Promise((resolve) => child.once('exit', (_code, signal) => resolve(signal)))
        child.kill('SIGKILL')
        expect(await ended).toBe('SIGKILL')
      } finally {
        child.kill('SIGKILL')
        rmSync(dir, { recursive: true, force: true })
      }
    },
  )

  it.skipIf(!hasDisassembler).each([
    ['amd64', 'x86_64', ['movl\t$34, %eax', 'syscall', 'jmp']],
    ['arm64', 'aarch64', ['mov\tx0, #0', 'mov\tx3, #0', 'mov\tx8, #73', 'svc\t#0', 'b\t#-24']],
  ] as const)(
    `is what it says for %s${hasDisassembler ? '' : ' (skipped: needs llvm-mc)'}`,
    (architecture, triple, expected) => {
      const code = [...pauseProgram(architecture).subarray(120)]
        .map((byte) => `0x${byte.toString(16)}`)
        .join(' ')
      const listed = spawnSync('llvm-mc-14', ['--disassemble', `-triple=${triple}`], {
        input: code,
      }).stdout.toString()
      for (const line of expected) expect(listed).toContain(line)
    },
  )
})
