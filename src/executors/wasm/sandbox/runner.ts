/**
 * The program inside the sandbox: takes one job from descriptor 4, runs it, reports on descriptor 3, and is gone.
 *
 * It is bundled into one file, sees no module directory, and trusts the job message alone; the program's own words
 * never reach the status except as the text of a trap.
 */
import { closeSync, readFileSync, readSync, writeSync } from 'node:fs'
import v8 from 'node:v8'
import { loadCode, loadModule, optimiseFrom, writeCode } from './compiled-code.js'
import { GatewayChannel } from './http/channel.js'
import { HttpClient } from './http/http-client.js'
import {
  GATEWAY_FD,
  JOB_BYTES_MAX,
  JOB_FD,
  STATUS_FD,
  type SandboxEnd,
  type SandboxJob,
  type SandboxStatus,
  type SandboxTask,
} from './job.js'
import { readWasmComponent } from '../../../model/wasm-component.js'
import { InvalidComponent, MissingImport } from './component/faults.js'
import { type CompiledModules, type Program, link } from './link.js'
import { TRAP_FRAMES, trapText } from './trap-text.js'
import { type WasiState, createWasiState } from './wasi/index.js'
import { linkComponent } from './wasi2/program.js'
import { wasmApi } from './web-assembly.js'

const MESSAGE_CHARS_MAX = 4_000

// A start-up snapshot holds this program with everything above already loaded; then `main` is all that is left to do.
if (v8.startupSnapshot.isBuildingSnapshot()) v8.startupSnapshot.setDeserializeMainFunction(main)
else main()

function main(): void {
  // The job's module cannot ask for these; they are JavaScript features the sandbox has no use for.
  v8.setFlagsFromString('--wasm-max-table-size=1000000')
  // WASI errors are answers, not defects: no time is spent on where they came from.
  Error.stackTraceLimit = 0
  tell({ status: 'ready' })
  const task = readTask()
  if (task.kind === 'run') run(task)
  else tell({ status: 'code', good: task.kind === 'compile' ? writeCode(task) : loadCode(task) })
  waitForTheEnd()
}

function run(job: SandboxJob): void {
  let program: Program | undefined
  const finish = (how: SandboxEnd['how'], value: number, message = '', outOfMemory = false): never => {
    const memoryPages = program?.memory === undefined ? 0 : program.memory.buffer.byteLength / 65_536
    const diskFull = state.budget.refused
    tell({
      status: 'ended',
      how,
      value,
      message: message.slice(0, MESSAGE_CHARS_MAX),
      memoryPages,
      outOfMemory,
      diskFull,
    })
    return waitForTheEnd()
  }
  const state = createWasiState(job, (how, value) => finish(how, value))
  if (!job.network) closeSync(GATEWAY_FD)
  const http = new HttpClient(job.network ? new GatewayChannel(GATEWAY_FD) : undefined)
  const { modules, fromCode } = compile(job)
  // After compiling and before instantiating: a cap that is set earlier keeps cached code from being used.
  v8.setFlagsFromString(`--wasm-max-mem-pages=${job.memoryPages}`)
  tell({ status: 'started', fromCode })
  try {
    // Enough to say where a trap happened.
    Error.stackTraceLimit = TRAP_FRAMES
    program =
      job.parts === undefined
        ? link(job, modules, state, http)
        : linkParts(job.module, job.parts, modules, { state, http })
    if (program.start === undefined)
      return refuse('wasm.entry_point', `The module exports no function "${job.entryPoint}"`)
    const code = program.start()
    if (code !== 0) finish('exit', code)
  } catch (error) {
    const message = textOf(error)
    if (error instanceof wasmApi.LinkError) refuse('wasm.imports', message)
    if (error instanceof MissingImport) refuse('wasm.imports', `Nobody provides ${message}`)
    if (error instanceof InvalidComponent) refuse('wasm.invalid', `The component is not valid: ${message}`)
    if (program === undefined && isMemoryRefusal(error)) refuse('memory', message)
    finish('trap', 0, trapText(error), ranOutOfMemory(program, state))
  }
  finish('returned', 0)
}

function linkParts(
  file: string,
  parts: NonNullable<SandboxJob['parts']>,
  modules: CompiledModules,
  { state, http }: { state: WasiState; http: HttpClient },
): Program {
  const { component } = readWasmComponent(readFileSync(file))
  const core = parts.map(({ tableElements }, index) => ({
    module: modules.parts[index] ?? {},
    tableElements,
  }))
  return linkComponent(component, core, state, http)
}

/** Code that is there is loaded first: V8 takes it only under the very flags under which it was made. */
function compile(job: SandboxJob): { modules: CompiledModules; fromCode: number } {
  optimiseFrom(true)
  const files = job.parts ?? [job, ...job.imports]
  const loaded = files.map((one) => loadModule(one))
  const fromCode = loaded.filter((one) => one.module !== undefined).length
  optimiseFrom(job.optimise)
  const compiled = loaded.map(({ module, bytes }) => {
    try {
      return module ?? new wasmApi.Module(bytes)
    } catch (error) {
      return refuse('wasm.invalid', textOf(error))
    }
  })
  if (job.parts !== undefined)
    return { modules: { entry: {}, imports: new Map(), parts: compiled }, fromCode }
  const [entry, ...imports] = compiled
  if (entry === undefined) return refuse('wasm.invalid', 'there is no module')
  const named = job.imports.flatMap(({ name }, index): [string, object][] => {
    const module = imports[index]
    return module === undefined ? [] : [[name, module]]
  })
  return { modules: { entry, imports: new Map(named), parts: [] }, fromCode }
}

/** V8 cannot make the memory a module starts with: it is larger than the cap. */
function isMemoryRefusal(error: unknown): boolean {
  return error instanceof RangeError && /memory/i.test(error.message)
}

/** Proof that memory had run out: not one page is left, or Rust's allocator said how many bytes it could not get. */
function ranOutOfMemory(program: Program | undefined, state: WasiState): boolean {
  const memory = program?.memory
  if (memory === undefined) return false
  const asked = /memory allocation of (\d+) bytes failed/.exec(state.stderrTail)?.[1]
  const pages = asked === undefined ? 1 : Math.max(1, Math.ceil(Number(asked) / 65_536))
  try {
    memory.grow(pages)
    return false
  } catch {
    return true
  }
}

function textOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.replace(/^WebAssembly\.(Module|Instance)\(\): /, '')
}

function refuse(
  code: 'wasm.invalid' | 'wasm.imports' | 'wasm.entry_point' | 'memory',
  message: string,
): never {
  tell({ status: 'refused', code, message: message.slice(0, MESSAGE_CHARS_MAX) })
  return waitForTheEnd()
}

const END_WAIT_MS = 5_000

/** The node ends the sandbox at its last word; to tidy up before that would only cost processor time. */
function waitForTheEnd(): never {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, END_WAIT_MS)
  process.exit(0)
}

function readTask(): SandboxTask {
  const length = readExactly(4).readUInt32BE(0)
  if (length > JOB_BYTES_MAX) process.exit(2)
  return JSON.parse(readExactly(length).toString('utf8')) as SandboxTask
}

/** The node closes the pipe of a slot it does not need any more. */
function readExactly(length: number): Buffer {
  const buffer = Buffer.alloc(length)
  for (let have = 0; have < length; ) {
    const count = readSync(JOB_FD, buffer, have, length - have, null)
    if (count === 0) process.exit(0)
    have += count
  }
  return buffer
}

function tell(status: SandboxStatus): void {
  const bytes = Buffer.from(`${JSON.stringify(status)}\n`)
  for (let sent = 0; sent < bytes.length; ) sent += writeSync(STATUS_FD, bytes, sent)
}
