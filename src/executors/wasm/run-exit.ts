import type { ErrorCode } from '../../errors.js'
import { formatBytes } from '../../model/index.js'
import type { RunExit } from '../../ports/index.js'
import type { SandboxEnd } from './sandbox/job.js'
import type { SlotEnd } from './slot.js'

export interface EndContext {
  /** Somebody asked to stop it. */
  wasStopped: boolean
  /** It wrote more output than it may. */
  wroteTooMuch: boolean
  outputBytesMax: number
  memoryBytes: number
  diskBytes: number
  details: Record<string, string>
}

const EXIT_KILLED = 137
const EXIT_TRAP = 134

/** What the node reports, from what the sandbox said last and what was seen from outside. */
export function runExit(end: SlotEnd, context: EndContext): RunExit {
  const { details } = context
  const failed = (exitCode: number, code: ErrorCode | '', message: string, hint: string): RunExit => ({
    exitCode,
    code,
    message,
    hint,
    details,
  })
  if (context.wroteTooMuch) {
    const message = `The program wrote more than ${formatBytes(context.outputBytesMax)} of output`
    return failed(EXIT_KILLED, 'execution.output_limit', message, 'Write large results to /outputs')
  }
  if (end.status?.status === 'ended') return programExit(end.status, context)
  if (end.status?.status === 'refused') {
    if (end.status.code === 'memory') return outOfMemory(EXIT_TRAP, context)
    return failed(1, end.status.code, end.status.message, 'Run `weir wasm validate` on the module')
  }
  if (end.wasOutOfMemory) return outOfMemory(EXIT_KILLED, context)
  if (context.wasStopped) return failed(EXIT_KILLED, '', '', '')
  const how = end.signal ?? `exit code ${end.exitCode}`
  const message = `The sandbox ended without saying how the program ended (${how})`
  return failed(EXIT_KILLED, 'engine.failed', message, 'Look at stderr of the job and at the log of the node')
}

function programExit(end: SandboxEnd, context: EndContext): RunExit {
  const details: Record<string, string> = { ...context.details, memoryPages: String(end.memoryPages) }
  const plain: RunExit = { exitCode: 0, code: '', message: '', hint: '', details }
  if (end.how === 'returned') return plain
  if (end.how === 'trap') {
    if (end.outOfMemory) return { ...outOfMemory(EXIT_TRAP, context), details }
    const trap = {
      code: 'wasm.trap',
      message: `The program trapped: ${end.message}`,
      hint: trapHint(end.message),
    } as const
    return { ...plain, ...trap, ...diskFull(end, context), exitCode: EXIT_TRAP }
  }
  if (end.how === 'raise')
    return { ...plain, exitCode: 128 + end.value, message: `The program raised signal ${end.value}` }
  if (end.value === 0) return plain
  // Larger codes exist only in WebAssembly; cut to eight bits some of them would read as success.
  if (end.value > 255) details.wasmExitCode = String(end.value)
  return { ...plain, ...diskFull(end, context), exitCode: Math.min(end.value, 255) }
}

/** What usually is behind a trap, by V8's words. */
function trapHint(message: string): string {
  const [, hint] = TRAP_HINTS.find(([pattern]) => pattern.test(message)) ?? []
  return hint ?? 'Look at stderr of the job'
}

const TRAP_HINTS: readonly (readonly [RegExp, string])[] = [
  [
    /^unreachable/,
    'It ended itself: a panic, abort() or a failed assertion. Its last words are in stderr of the job',
  ],
  [
    /^memory access out of bounds/,
    'A wrong pointer or index, or a stack that is too small (C: -Wl,-z,stack-size=1048576; Rust: -C link-arg=-zstack-size=1048576)',
  ],
  [/^stack overflow/, 'A recursion that goes too deep, or never ends'],
  [
    /^(?:null function|table index|indirect call|function signature)/,
    'A function pointer that is null or has another type than its function: look for casts and missing prototypes',
  ],
]

/** A program that failed after a write was refused failed for want of room. */
function diskFull(end: SandboxEnd, context: EndContext): Partial<RunExit> {
  if (!end.diskFull) return {}
  const message = `The program failed after it had used up its disk limit of ${formatBytes(context.diskBytes)}`
  return { code: 'compute.disk', message, hint: 'Ask for more disk (--disk), or write less' }
}

function outOfMemory(exitCode: number, context: EndContext): RunExit {
  const message = `The program needed more memory than its limit of ${formatBytes(context.memoryBytes)}`
  const hint = 'Ask for more memory (--memory)'
  return { exitCode, code: 'execution.out_of_memory', message, hint, details: context.details }
}
