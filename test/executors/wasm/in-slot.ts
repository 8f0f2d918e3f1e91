import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type CgroupTree, openCgroupTree } from '../../../src/executors/wasm/cgroup.js'
import { seccompProgram } from '../../../src/executors/wasm/seccomp-program.js'
import { Slot } from '../../../src/executors/wasm/slot.js'
import { type Toolbox, findToolbox } from '../../../src/executors/wasm/toolbox.js'
import { callerProgram } from './machine-code.js'

export interface InSlotOptions {
  /** False puts a system call list that allows everything in place of ours. */
  withList?: boolean
  /** The file at /run.cjs, where the runner is otherwise. */
  file?: string
  /** The program at /bin/node; default: Node. */
  program?: string
  /** Called with the directory of the slot before Node is up inside. */
  prepare?: (slotDir: string) => void
}

/** Real sandboxes with other programs inside: what remains when everything up to the sandbox's edge has been broken. */
export class SlotBench {
  readonly dir = mkdtempSync(join(tmpdir(), 'weir-in-slot-'))
  readonly #cgroups: Promise<CgroupTree | string> = openCgroupTree(`weir-wasm-test-${process.pid}`)
  #files = 0

  /** A sandbox with the product's own limits, binds and arguments. */
  async open({ withList = true, file, program }: InSlotOptions = {}): Promise<Slot> {
    const found = await findToolbox()
    const toolbox: Toolbox = program === undefined ? found : { ...found, node: program, libraries: [] }
    const slotsDir = join(this.dir, 'slots')
    mkdirSync(slotsDir, { recursive: true })
    const seccompFile = join(this.dir, withList ? 'sandbox.bpf' : 'anything.bpf')
    writeFileSync(seccompFile, withList ? seccompProgram(toolbox.arch) : ALLOW_ALL)
    const cgroups = await this.#cgroups
    return Slot.open({
      toolbox,
      slotsDir,
      seccompFile,
      cgroups: typeof cgroups === 'string' ? undefined : cgroups,
      fileBytesMax: 1 << 20,
      openFilesMax: 64,
      bootTimeoutMs: 10_000,
      ...(file !== undefined && { runner: file }),
    })
  }

  /** Everything a sandbox prints until it ends. */
  async output(options: InSlotOptions): Promise<string> {
    const slot = await this.open(options)
    options.prepare?.(slot.dir)
    let out = ''
    slot.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()))
    slot.stderr.on('data', (bytes: Buffer) => (out += bytes.toString()))
    await slot.end
    await slot.dispose()
    return out
  }

  /** Runs the body of an async function inside; what it returns comes out as JSON. */
  async javascript(body: string, options: InSlotOptions = {}): Promise<Record<string, unknown>> {
    const file = this.file(
      `const fs = require('node:fs')
       const attempt = async (f) => { try { return String(await f()) } catch (e) { return e.code ?? e.message } }
       fs.writeSync(3, '{"status":"ready"}\\n')
       ;(async () => { ${body} })().then((r) => { fs.writeSync(1, JSON.stringify(r)); process.exit(0) }, (e) => { fs.writeSync(2, String(e.stack)); process.exit(1) })`,
    )
    return JSON.parse(await this.output({ ...options, file })) as Record<string, unknown>
  }

  /** Machine code without any library: the lines are those of test/fixtures/sandbox/caller.c. */
  async machineCode(lines: string[], options: InSlotOptions = {}): Promise<string> {
    return this.output({ ...options, file: this.file(lines.join('\n')), program: callerProgram() ?? '' })
  }

  file(text: string): string {
    const path = join(this.dir, `run-${++this.#files}`)
    writeFileSync(path, text)
    return path
  }

  async close(): Promise<void> {
    const cgroups = await this.#cgroups
    if (typeof cgroups !== 'string') await cgroups.close()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** One instruction: return SECCOMP_RET_ALLOW. */
const ALLOW_ALL = Buffer.from([0x06, 0, 0, 0, 0, 0, 0xff, 0x7f])
